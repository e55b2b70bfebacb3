/** BLAKE2s (RFC 7693), HMAC over it (RFC 2104) and the key derivation of Noise and WireGuard. */
import { hmac as nobleHmac } from "@noble/hashes/hmac.js";
import { blake2s as nobleBlake2s } from "@noble/hashes/blake2.js";
import { concat } from "../base/bytes.ts";
import type { Suite } from "./suite.ts";

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
  return nobleHmac(nobleBlake2s, key, message);
}

type Hmac = Suite["hmacBlake2s"];

/** KDF1 … KDF3 of the WireGuard paper (section 5.4), equal to HKDF-BLAKE2s with `key` as salt and no info. */
export function kdf1(hmac: Hmac, key: Uint8Array, input: Uint8Array): Uint8Array {
  return hmac(hmac(key, input), BYTE_ONE);
}

export function kdf2(hmac: Hmac, key: Uint8Array, input: Uint8Array): readonly [Uint8Array, Uint8Array] {
  const prk = hmac(key, input);
  const first = hmac(prk, BYTE_ONE);
  return [first, hmac(prk, concat(first, Uint8Array.of(2)))];
}

export function kdf3(
  hmac: Hmac,
  key: Uint8Array,
  input: Uint8Array,
): readonly [Uint8Array, Uint8Array, Uint8Array] {
  const prk = hmac(key, input);
  const first = hmac(prk, BYTE_ONE);
  const second = hmac(prk, concat(first, Uint8Array.of(2)));
  return [first, second, hmac(prk, concat(second, Uint8Array.of(3)))];
}
