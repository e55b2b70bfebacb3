import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { x25519 } from "@noble/curves/ed25519.js";
import { isZero } from "../base/bytes.ts";
import { hmacBlake2s } from "./hash.ts";
import type { Suite } from "./suite.ts";

/** The primitives on @noble/*: audited, without dependencies, and the reference for every faster one. */
export const portableSuite: Suite = {
  x25519(secret, peer) {
    try {
      const shared = x25519.getSharedSecret(secret, peer);
      return isZero(shared) ? undefined : shared;
    } catch {
      return undefined; // noble throws for points of small order
    }
  },
  x25519Public: (secret) => x25519.getPublicKey(secret),
  aeadSeal: (key, nonce, plaintext, associated) =>
    chacha20poly1305(key, nonce, associated).encrypt(plaintext),
  aeadOpen(key, nonce, sealed, associated) {
    try {
      return chacha20poly1305(key, nonce, associated).decrypt(sealed);
    } catch {
      return undefined;
    }
  },
  hmacBlake2s,
};
