/**
 * NaCl's crypto_box: X25519, HSalsa20, XSalsa20-Poly1305, the 16-byte tag in front of the ciphertext.
 * Used by disco and by the login to a relay.
 */
import { hsalsa, xsalsa20poly1305 } from "@noble/ciphers/salsa.js";
import { viewOf } from "../base/bytes.ts";
import type { Suite } from "./suite.ts";

export const BOX_NONCE_LENGTH = 24;
export const BOX_OVERHEAD = 16;

/** "expand 32-byte k" as little-endian words. */
const SIGMA = Uint32Array.of(0x61707865, 0x3320646e, 0x79622d32, 0x6b206574);

/** The secret that two key pairs share: compute it once per peer and keep it. `undefined` for a bad public key. */
export class BoxKey {
  readonly #key: Uint8Array;

  private constructor(key: Uint8Array) {
    this.#key = key;
  }

  static agree(suite: Suite, secret: Uint8Array, peerPublic: Uint8Array): BoxKey | undefined {
    const shared = suite.x25519(secret, peerPublic);
    return shared === undefined ? undefined : new BoxKey(hsalsa20(shared));
  }

  /** Returns tag ‖ ciphertext. `nonce` is 24 bytes and must never repeat. */
  seal(nonce: Uint8Array, plaintext: Uint8Array): Uint8Array {
    return xsalsa20poly1305(this.#key, nonce).encrypt(plaintext);
  }

  /** `undefined` when the box was not made with this key and nonce. */
  open(nonce: Uint8Array, sealed: Uint8Array): Uint8Array | undefined {
    if (nonce.length !== BOX_NONCE_LENGTH || sealed.length < BOX_OVERHEAD) return undefined;
    try {
      return xsalsa20poly1305(this.#key, nonce).decrypt(sealed);
    } catch {
      return undefined;
    }
  }

  toJSON(): string {
    return "[shared key]";
  }
}

function hsalsa20(key: Uint8Array): Uint8Array {
  const words = new Uint32Array(8);
  const view = viewOf(key);
  for (let i = 0; i < 8; i++) words[i] = view.getUint32(4 * i, true);
  const out = new Uint32Array(8);
  hsalsa(SIGMA, words, new Uint32Array(4), out);
  const bytes = new Uint8Array(32);
  const outView = viewOf(bytes);
  for (let i = 0; i < 8; i++) outView.setUint32(4 * i, out[i] ?? 0, true);
  return bytes;
}
