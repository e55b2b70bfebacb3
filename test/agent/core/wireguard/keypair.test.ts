import { REKEY_AFTER_MESSAGES } from "../../../../agent/src/core/wireguard/counters.ts";
import { toHex } from "../../../../agent/src/base/bytes.ts";
import { after, instant, millis } from "../../../../agent/src/base/time.ts";
import {
  Keypair,
  type KeypairOptions,
  Keypairs,
  REJECT_AFTER_TIME,
  REKEY_AFTER_TIME,
} from "../../../../agent/src/core/wireguard/keypair.ts";
import { decodeMessage, type Transport } from "../../../../agent/src/core/wireguard/messages.ts";
import { REJECT_AFTER_MESSAGES } from "../../../../agent/src/core/wireguard/replay.ts";
import { packetLength } from "../../../../agent/src/core/wireguard/allowed-ips.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import { hex } from "../../../vectors/load.ts";
import { handshakeVectors } from "./vector.ts";

const start = instant(0);
const MTU = 1280;

describe.each(handshakeVectors.flatMap((v) => v.transport))("$name", (v) => {
  const keys = { send: hex(v.key), receive: hex(v.key) };

  test("is sealed as published", () => {
    const keypair = pairOf({ keys, remoteIndex: v.receiver, firstCounter: BigInt(v.counter) });
    expect(toHex(keypair.seal(hex(v.plaintext), MTU))).toBe(v.packet);
  });

  test("is opened as published, once", () => {
    const keypair = pairOf({ keys });
    const message = transport(hex(v.packet));
    const packet = keypair.open(message, start);
    expect(typeof packet !== "string" && toHex(packet)).toBe(v.padded ?? v.plaintext);
    if (v.padded !== undefined) expect(packetLength(hex(v.padded))).toBe(v.plaintext.length / 2);
    expect(keypair.open(message, start)).toBe("replay");
  });
});

test.each([
  [0, 0],
  [1, 16],
  [16, 16],
  [1265, 1280],
  [1280, 1280],
  [1281, 1281],
])("a packet of %i bytes is padded to %i, never beyond the MTU", (length, padded) => {
  expect(pairOf({}).seal(new Uint8Array(length), MTU)).toHaveLength(16 + padded + 16);
});

test("padding stops at an MTU that is no multiple of 16", () => {
  expect(pairOf({}).seal(new Uint8Array(1415), 1420)).toHaveLength(16 + 1420 + 16);
});

test("a pair ends after 180 s in both directions", () => {
  const keypair = pairOf({});
  const end = after(start, REJECT_AFTER_TIME);
  const message = transport(keypair.seal(new Uint8Array(0), MTU));
  expect(keypair.canSend(instant(end - 1))).toBe(true);
  expect(keypair.canSend(end)).toBe(false);
  expect(keypair.open(message, end)).toBe("expired");
  expect(keypair.open(message, instant(end - 1))).toEqual(new Uint8Array(0));
});

test("only the initiator of a pair replaces it for its age, both for its counter", () => {
  const old = after(start, REKEY_AFTER_TIME);
  expect(pairOf({ isInitiator: true }).isOld(instant(old - 1))).toBe(false);
  expect(pairOf({ isInitiator: true }).isOld(old)).toBe(true);
  expect(pairOf({ isInitiator: false }).isOld(old)).toBe(false);
  expect(pairOf({ isInitiator: false, firstCounter: REKEY_AFTER_MESSAGES + 1n }).isOld(start)).toBe(true);
});

test("the counter ends before it could repeat a nonce", () => {
  const keypair = pairOf({ firstCounter: REJECT_AFTER_MESSAGES - 1n });
  expect(keypair.canSend(start)).toBe(true);
  keypair.seal(new Uint8Array(0), MTU);
  expect(keypair.canSend(start)).toBe(false);
});

test("a counter is not spent on a message that does not verify", () => {
  const keypair = pairOf({});
  const message = transport(keypair.seal(new Uint8Array(20), MTU));
  expect(keypair.open({ ...message, sealed: new Uint8Array(48) }, start)).toBe("unauthenticated");
  expect(keypair.open(message, start)).toHaveLength(32);
});

test("forgotten keys are overwritten, and never shown", () => {
  const keys = { send: new Uint8Array(32).fill(0xab), receive: new Uint8Array(32).fill(0xcd) };
  const keypair = pairOf({ keys });
  expect(JSON.stringify(keypair)).toBe('"[session keys]"');
  keypair.wipe();
  expect(keys).toEqual({ send: new Uint8Array(32), receive: new Uint8Array(32) });
});

describe("the slots", () => {
  test("an initiator sends with its pair at once, a responder when the pair has proved itself", () => {
    const keypairs = new Keypairs();
    const first = pairOf({ isInitiator: true });
    const second = pairOf({ isInitiator: false });
    expect(keypairs.install(first)).toEqual([]);
    expect(keypairs.usable(start)).toBe(first);
    expect(keypairs.install(second)).toEqual([]);
    expect(keypairs.usable(start)).toBe(first);
    expect([keypairs.isNext(first), keypairs.isNext(second)]).toEqual([false, true]);
    expect(keypairs.confirmNext()).toEqual([]);
    expect(keypairs.usable(start)).toBe(second);
  });

  test("both sides rekeying at once push out no pair that may still be under way", () => {
    const keypairs = new Keypairs();
    keypairs.install(pairOf({ isInitiator: true }));
    keypairs.install(pairOf({ isInitiator: false }));
    expect(keypairs.install(pairOf({ isInitiator: true }))).toEqual([]);
  });

  test("the number of pairs is bounded, the oldest goes first", () => {
    const keypairs = new Keypairs();
    const pairs = Array.from({ length: 5 }, () => pairOf({ isInitiator: true }));
    const dropped = pairs.flatMap((pair) => keypairs.install(pair));
    expect(dropped).toEqual(pairs.slice(0, 2));
    expect(keypairs.clear()).toHaveLength(3);
    expect(keypairs.current).toBeUndefined();
  });

  test("pairs leave when they expire", () => {
    const keypairs = new Keypairs();
    const older = pairOf({ createdAt: start });
    const younger = pairOf({ createdAt: instant(1000) });
    keypairs.install(older);
    keypairs.install(younger);
    expect(keypairs.nextExpiry()).toBe(after(start, REJECT_AFTER_TIME));
    expect(keypairs.expire(millisBefore(REJECT_AFTER_TIME))).toEqual([]);
    expect(keypairs.expire(after(start, REJECT_AFTER_TIME))).toEqual([older]);
    expect(keypairs.current).toBe(younger);
    expect(keypairs.expire(after(instant(1000), REJECT_AFTER_TIME))).toEqual([younger]);
    expect(keypairs.nextExpiry()).toBeUndefined();
  });
});

function pairOf(options: Partial<KeypairOptions>): Keypair {
  const key = new Uint8Array(32).fill(7);
  return new Keypair({
    suite: portableSuite,
    keys: { send: key, receive: key },
    isInitiator: true,
    localIndex: 1,
    remoteIndex: 2,
    createdAt: start,
    replayWindow: 8128,
    ...options,
  });
}

function transport(bytes: Uint8Array): Transport {
  const message = decodeMessage(bytes);
  if (typeof message === "string" || message.kind !== "transport") throw new Error("not a transport message");
  return message;
}

function millisBefore(at: number): ReturnType<typeof instant> {
  return after(instant(at), millis(-1));
}
