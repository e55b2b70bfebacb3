import { concat, toHex, utf8 } from "../../../../agent/src/base/bytes.ts";
import type { Random } from "../../../../agent/src/base/random.ts";
import { after, instant, millis } from "../../../../agent/src/base/time.ts";
import { COOKIE_LIFETIME, MacChecker, MacWriter } from "../../../../agent/src/core/wireguard/cookie.ts";
import { type CookieReply, decodeMessage } from "../../../../agent/src/core/wireguard/messages.ts";
import { blake2s, blake2sMac } from "../../../../agent/src/crypto/hash.ts";
import { seededRandom } from "../../../sim/random.ts";
import { hex } from "../../../vectors/load.ts";
import { cookieVectors, handshakeVectors, published } from "./vector.ts";

const start = instant(0);
const responderStatic = hex(published.static_responder.public);
const initiation = (): Uint8Array => hex(handshakeVectors[0]?.initiation ?? "");
const source = utf8("203.0.113.9:12345");

describe.each(cookieVectors)("$name", (v) => {
  test("the keys and the cookie are the published ones", () => {
    expect(toHex(blake2s(utf8("mac1----"), responderStatic))).toBe(v.mac1_key_responder);
    expect(toHex(blake2s(utf8("cookie--"), responderStatic))).toBe(v.cookie_key_responder);
    expect(toHex(blake2sMac(hex(v.cookie_secret), hex(v.source_bytes)))).toBe(v.cookie);
  });

  test("the reply is the published one, and the next initiation carries the published mac2", () => {
    const checker = new MacChecker(responderStatic, inTurn(v.cookie_secret, v.nonce));
    const writer = new MacWriter(responderStatic);
    const message = initiation();
    writer.write(message, start);
    expect(message).toEqual(initiation());
    expect(checker.checkMac1(message)).toBe(true);

    const reply = checker.createReply(
      message,
      handshakeVectors[0]?.initiator_index ?? 0,
      hex(v.source_bytes),
      start,
    );
    expect(toHex(reply)).toBe(v.reply);
    expect(writer.handleReply(cookieReply(reply), start)).toBe(true);

    writer.write(message, start);
    expect(toHex(message)).toBe(v.initiation_with_mac2);
    expect(checker.checkMac2(message, hex(v.source_bytes), start)).toBe(true);
  });
});

test("mac1 covers every byte before it", () => {
  const checker = new MacChecker(responderStatic, seededRandom(1));
  for (let at = 0; at < 132; at++) {
    const message = initiation();
    message[at] = (message[at] ?? 0) ^ 1;
    expect(checker.checkMac1(message)).toBe(false);
  }
});

test("a cookie is good for one source and for two minutes", () => {
  const checker = new MacChecker(responderStatic, seededRandom(1));
  const message = withCookie(checker);
  const end = after(start, COOKIE_LIFETIME);
  expect(checker.checkMac2(message, source, after(start, millis(COOKIE_LIFETIME - 1)))).toBe(true);
  expect(checker.checkMac2(message, utf8("203.0.113.9:12346"), start)).toBe(false);
  expect(checker.checkMac2(message, source, end)).toBe(false);
  checker.createReply(initiation(), 1, source, end);
  expect(checker.checkMac2(message, source, end)).toBe(false);
});

test("without a cookie mac2 is never right, not even for a checker that gave none", () => {
  const checker = new MacChecker(responderStatic, seededRandom(1));
  expect(checker.checkMac2(initiation(), source, start)).toBe(false);
  checker.createReply(initiation(), 1, source, start);
  expect(checker.checkMac2(initiation(), source, start)).toBe(false);
});

test("a writer puts a cookie to use for two minutes", () => {
  const checker = new MacChecker(responderStatic, seededRandom(1));
  const writer = new MacWriter(responderStatic);
  const message = initiation();
  writer.write(message, start);
  writer.handleReply(cookieReply(checker.createReply(message, 1, source, start)), start);
  const mac2At = (wait: number): Uint8Array => {
    const next = initiation();
    writer.write(next, instant(wait));
    return next.subarray(132);
  };
  expect(mac2At(COOKIE_LIFETIME - 1)).not.toEqual(new Uint8Array(16));
  expect(mac2At(COOKIE_LIFETIME)).toEqual(new Uint8Array(16));
});

test("a reply that does not answer the last message is refused", () => {
  const checker = new MacChecker(responderStatic, seededRandom(1));
  const writer = new MacWriter(responderStatic);
  const reply = checker.createReply(initiation(), 1, source, start);
  expect(writer.handleReply(cookieReply(reply), start)).toBe(false);
  writer.write(concat(initiation().subarray(0, 147), Uint8Array.of(0)), start);
  for (let at = 8; at < reply.length; at++) {
    const damaged = reply.slice();
    damaged[at] = (damaged[at] ?? 0) ^ 0x80;
    expect(writer.handleReply(cookieReply(damaged), start)).toBe(false);
  }
  expect(writer.handleReply(cookieReply(reply), start)).toBe(true);
});

function withCookie(checker: MacChecker): Uint8Array {
  const writer = new MacWriter(responderStatic);
  const message = initiation();
  writer.write(message, start);
  writer.handleReply(cookieReply(checker.createReply(message, 1, source, start)), start);
  writer.write(message, start);
  return message;
}

function cookieReply(bytes: Uint8Array): CookieReply {
  const message = decodeMessage(bytes);
  if (typeof message === "string" || message.kind !== "cookie-reply") throw new Error("not a cookie reply");
  return message;
}

/** Gives the texts one after the other. */
function inTurn(...texts: readonly string[]): Random {
  const left = texts.map(hex);
  return { fill: (out) => out.set(left.shift() ?? new Uint8Array(0)) };
}
