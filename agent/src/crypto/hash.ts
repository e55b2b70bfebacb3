/** BLAKE2s (RFC 7693), HMAC over it (RFC 2104) and the key derivation of Noise and WireGuard. */
import { hmac } from "@noble/hashes/hmac.js";
import { blake2s as nobleBlake2s } from "@noble/hashes/blake2.js";
import { concat } from "../base/bytes.ts";

const BYTE_ONE = Uint8Array.of(1);

/** BLAKE2s-256 of the parts, one after the other. */
export function blake2s(...parts: readonly Uint8Array[]): Uint8Array {
  return nobleBlake2s(concat(...parts));
}

/** Keyed BLAKE2s with a 16-byte output: `MAC` of the WireGuard paper. */
export function blake2sMac(key: Uint8Array, message: Uint8Array): Uint8Array {
  return nobleBlake2s(message, { key, dkLen: 16 });
}

export function hmacBlake2s(key: Uint8Array, message: Uint8Array): Uint8Array {
  return hmac(nobleBlake2s, key, message);
}

/** KDF1 … KDF3 of the WireGuard paper (section 5.4), equal to HKDF-BLAKE2s with `key` as salt and no info. */
export function kdf1(key: Uint8Array, input: Uint8Array): Uint8Array {
  return hmacBlake2s(hmacBlake2s(key, input), BYTE_ONE);
}

export function kdf2(key: Uint8Array, input: Uint8Array): readonly [Uint8Array, Uint8Array] {
  const prk = hmacBlake2s(key, input);
  const first = hmacBlake2s(prk, BYTE_ONE);
  return [first, hmacBlake2s(prk, concat(first, Uint8Array.of(2)))];
}

export function kdf3(key: Uint8Array, input: Uint8Array): readonly [Uint8Array, Uint8Array, Uint8Array] {
  const prk = hmacBlake2s(key, input);
  const first = hmacBlake2s(prk, BYTE_ONE);
  const second = hmacBlake2s(prk, concat(first, Uint8Array.of(2)));
  return [first, second, hmacBlake2s(prk, concat(second, Uint8Array.of(3)))];
}
