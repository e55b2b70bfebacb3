/**
 * The primitives that the protocols are built on, as one object that is passed in.
 *
 * `portable.ts` implements it on @noble/* and runs anywhere; `io/node-suite.ts` does on
 * node:crypto, several times faster. A test holds them equal.
 */
export interface Suite {
  /** X25519 (RFC 7748). `undefined` when the result is all zeroes, which a peer may provoke. 32-byte arguments. */
  x25519(secret: Uint8Array, peer: Uint8Array): Uint8Array | undefined;
  x25519Public(secret: Uint8Array): Uint8Array;
  /** ChaCha20-Poly1305 (RFC 8439): 32-byte key, 12-byte nonce. Returns ciphertext ‖ 16-byte tag. */
  aeadSeal(key: Uint8Array, nonce: Uint8Array, plaintext: Uint8Array, associated?: Uint8Array): Uint8Array;
  /** `undefined` when the tag does not fit. */
  aeadOpen(
    key: Uint8Array,
    nonce: Uint8Array,
    sealed: Uint8Array,
    associated?: Uint8Array,
  ): Uint8Array | undefined;
  /** HMAC (RFC 2104) over BLAKE2s-256. */
  readonly hmacBlake2s: (key: Uint8Array, message: Uint8Array) => Uint8Array;
}

export const TAG_LENGTH = 16;
export const ZERO_NONCE: Uint8Array = new Uint8Array(12);
