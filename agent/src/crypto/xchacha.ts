/** XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha), which WireGuard uses for cookie replies alone. */
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";

export const XCHACHA_NONCE_LENGTH = 24;

/** Returns ciphertext ‖ 16-byte tag. 32-byte key; the 24-byte nonce may be random. */
export function xchachaSeal(
  key: Uint8Array,
  nonce: Uint8Array,
  plaintext: Uint8Array,
  associated: Uint8Array,
): Uint8Array {
  return xchacha20poly1305(key, nonce, associated).encrypt(plaintext);
}

/** `undefined` when the tag does not fit. */
export function xchachaOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
  associated: Uint8Array,
): Uint8Array | undefined {
  try {
    return xchacha20poly1305(key, nonce, associated).decrypt(sealed);
  } catch {
    return undefined;
  }
}
