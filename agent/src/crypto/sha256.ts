import { sha256 as nobleSha256 } from "@noble/hashes/sha2.js";
import { concat } from "../base/bytes.ts";

/** SHA-256 of the parts, one after the other. */
export function sha256(...parts: readonly Uint8Array[]): Uint8Array {
  return nobleSha256(concat(...parts));
}
