import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Reads a file of published test vectors. `T` is the shape that the caller relies on. */
export function vectors<T>(file: string): T {
  return JSON.parse(readFileSync(join(__dirname, file), "utf8")) as T;
}

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
