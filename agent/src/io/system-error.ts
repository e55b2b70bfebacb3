/**
 * The system's name for what went wrong, such as "EADDRINUSE"; else the error as text.
 *
 * `instanceof Error` is not asked: Node's own errors may come from another realm (node:vm).
 */
export function codeOf(error: unknown): string {
  const hasCode = typeof error === "object" && error !== null && "code" in error;
  return hasCode && typeof error.code === "string" ? error.code : String(error);
}
