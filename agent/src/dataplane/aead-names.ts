/** The ways to seal and open, as SALLYPORT_AEAD and `status` name them: the fastest first, the last is everywhere. */
export const aeadNames = ["openssl-raw", "openssl-raw-calls", "openssl-evp", "wasm", "node-crypto"] as const;

export type AeadName = (typeof aeadNames)[number];

export function isAeadName(text: string): text is AeadName {
  return (aeadNames as readonly string[]).includes(text);
}
