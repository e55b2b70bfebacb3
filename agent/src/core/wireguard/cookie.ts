/**
 * mac1, mac2 and cookies: what keeps a flood of forged handshakes from costing us X25519 (the paper, section 5.4.4, 5.4.7).
 *
 * mac1 shows that the sender knows our public key, and is always checked before anything else.
 * Under load we do no more for a message than answer with a cookie, a MAC of where it came from;
 * only a sender that really receives there can put it to use as mac2 in its next try.
 */
import { equalBytes, isZero, utf8 } from "../../base/bytes.ts";
import { randomBytes, type Random } from "../../base/random.ts";
import { after, type Instant, type Millis, seconds } from "../../base/time.ts";
import { blake2s, blake2sMac } from "../../crypto/hash.ts";
import { XCHACHA_NONCE_LENGTH, xchachaOpen, xchachaSeal } from "../../crypto/xchacha.ts";
import { type CookieReply, encodeCookieReply, MAC_LENGTH } from "./messages.ts";

/** How long a cookie is used, and how long a secret makes cookies (the paper: two minutes). */
export const COOKIE_LIFETIME: Millis = seconds(120);

const MAC1_LABEL = utf8("mac1----");
const COOKIE_LABEL = utf8("cookie--");
const SECRET_LENGTH = 32;

/** Writes the macs of handshake messages to one receiver, and keeps the cookie that it gave us. */
export class MacWriter {
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  #lastMac1: Uint8Array | undefined;
  #cookie: { readonly value: Uint8Array; readonly until: Instant } | undefined;

  constructor(receiverStatic: Uint8Array) {
    this.#mac1Key = blake2s(MAC1_LABEL, receiverStatic);
    this.#cookieKey = blake2s(COOKIE_LABEL, receiverStatic);
  }

  /** Fills the last 32 bytes of a handshake message. */
  write(message: Uint8Array, now: Instant): void {
    const mac1At = message.length - 2 * MAC_LENGTH;
    const mac2At = message.length - MAC_LENGTH;
    this.#lastMac1 = blake2sMac(this.#mac1Key, message.subarray(0, mac1At));
    message.set(this.#lastMac1, mac1At);
    if (this.#cookie === undefined || now >= this.#cookie.until) return;
    message.set(blake2sMac(this.#cookie.value, message.subarray(0, mac2At)), mac2At);
  }

  /** Takes the cookie if the reply answers the message written last. */
  handleReply(reply: CookieReply, now: Instant): boolean {
    if (this.#lastMac1 === undefined) return false;
    const value = xchachaOpen(this.#cookieKey, reply.nonce, reply.sealedCookie, this.#lastMac1);
    if (value === undefined) return false;
    this.#cookie = { value, until: after(now, COOKIE_LIFETIME) };
    return true;
  }

  forget(): void {
    this.#cookie = undefined;
    this.#lastMac1 = undefined;
  }
}

/** Checks the macs of handshake messages to us, and makes cookie replies. */
export class MacChecker {
  readonly #random: Random;
  readonly #mac1Key: Uint8Array;
  readonly #cookieKey: Uint8Array;
  #secret: { readonly value: Uint8Array; readonly until: Instant } | undefined;

  constructor(ownStatic: Uint8Array, random: Random) {
    this.#random = random;
    this.#mac1Key = blake2s(MAC1_LABEL, ownStatic);
    this.#cookieKey = blake2s(COOKIE_LABEL, ownStatic);
  }

  checkMac1(message: Uint8Array): boolean {
    const mac1At = message.length - 2 * MAC_LENGTH;
    const mac1 = blake2sMac(this.#mac1Key, message.subarray(0, mac1At));
    return equalBytes(mac1, message.subarray(mac1At, mac1At + MAC_LENGTH));
  }

  /** `source` names where the message came from, in any form that is stable. */
  checkMac2(message: Uint8Array, source: Uint8Array, now: Instant): boolean {
    const mac2 = message.subarray(message.length - MAC_LENGTH);
    if (this.#secret === undefined || now >= this.#secret.until || isZero(mac2)) return false;
    const cookie = blake2sMac(this.#secret.value, source);
    return equalBytes(mac2, blake2sMac(cookie, message.subarray(0, message.length - MAC_LENGTH)));
  }

  /** The reply to a handshake `message` whose sender index is `sender`. */
  createReply(message: Uint8Array, sender: number, source: Uint8Array, now: Instant): Uint8Array {
    const cookie = blake2sMac(this.#currentSecret(now), source);
    const nonce = randomBytes(this.#random, XCHACHA_NONCE_LENGTH);
    const mac1 = message.subarray(message.length - 2 * MAC_LENGTH, message.length - MAC_LENGTH);
    const sealedCookie = xchachaSeal(this.#cookieKey, nonce, cookie, mac1);
    return encodeCookieReply({ receiver: sender, nonce, sealedCookie });
  }

  #currentSecret(now: Instant): Uint8Array {
    if (this.#secret === undefined || now >= this.#secret.until) {
      this.#secret = { value: randomBytes(this.#random, SECRET_LENGTH), until: after(now, COOKIE_LIFETIME) };
    }
    return this.#secret.value;
  }
}
