/** Damaged, forged and replayed messages change nothing but a counter. */
import fc from "fast-check";
import type { Instant } from "../../../../agent/src/base/time.ts";
import { seconds } from "../../../../agent/src/base/time.ts";
import { MacWriter } from "../../../../agent/src/core/wireguard/cookie.ts";
import { ipv4Packet, nextMessage, Pair, type Side, udp } from "./pair.ts";

const elsewhere = udp("192.0.2.66:666");
/** mac2 is not looked at without load: damage there is none. */
const MAC2_LENGTH = 16;

test("an initiation damaged anywhere", () => {
  const { a, b, now } = new Pair();
  a.wg.startHandshake(b.key, now);
  const message = nextMessage(a);
  expectIgnored(b, a, damaged(message, message.length - MAC2_LENGTH), now);
  b.wg.handleMessage(message, a.path, now);
  expect(b.wg.pollEvent()).toMatchObject({ kind: "authenticated", from: a.path });
});

test("a response damaged anywhere", () => {
  const { a, b, now } = new Pair();
  a.wg.startHandshake(b.key, now);
  b.wg.handleMessage(nextMessage(a), a.path, now);
  const message = nextMessage(b);
  expectIgnored(a, b, damaged(message, message.length - MAC2_LENGTH), now);
  a.wg.handleMessage(message, b.path, now);
  expect(a.wg.peerStats(b.key)?.ready).toBe(true);
});

test("a packet damaged anywhere", () => {
  const pair = new Pair().connect();
  const { a, b, now } = pair;
  const packet = pair.send(a, 1);
  const message = nextMessage(a);
  expectIgnored(b, a, damaged(message, message.length), now);
  b.wg.handleMessage(message, a.path, now);
  b.wg.pollEvent();
  expect(b.wg.pollEvent()).toEqual({ kind: "packet", peer: a.key, packet, from: a.path });
});

test("an initiation whose macs are right but whose inside is damaged", () => {
  const { a, b, now } = new Pair();
  a.wg.startHandshake(b.key, now);
  const message = nextMessage(a);
  const forged = [8, 39, 40, 87, 88, 115].map((at) => remade(flipped(message, at), b, now));
  expectIgnored(b, a, forged, now);
});

test("messages cut short or prolonged", () => {
  const pair = new Pair();
  const { a, b, now } = pair;
  a.wg.startHandshake(b.key, now);
  const initiation = nextMessage(a);
  expectIgnored(b, a, [...cuts(initiation), prolonged(initiation)], now);
  b.wg.handleMessage(initiation, a.path, now);
  const response = nextMessage(b);
  while (b.wg.pollEvent() !== undefined);
  expectIgnored(a, b, [...cuts(response), prolonged(response)], now);
  a.wg.handleMessage(response, b.path, now);
  while (a.wg.pollEvent() !== undefined);
  const keepalive = nextMessage(a);
  expectIgnored(b, a, [...cuts(keepalive), prolonged(keepalive)], now);
});

test("replays of everything that was ever said", () => {
  const pair = new Pair().connect();
  const said: { readonly to: Side; readonly payload: Uint8Array }[] = [];
  pair.wire = ({ payload }, by) => {
    said.push({ to: by === pair.a ? pair.b : pair.a, payload });
    return [seconds(0.01)];
  };
  for (let i = 0; i < 140; i++) {
    pair.send(i % 2 === 0 ? pair.a : pair.b, i);
    pair.run(seconds(1));
  }
  expect(pair.a.sentKinds()).toContain("initiation");
  for (const { to, payload } of said) expectIgnored(to, to === pair.a ? pair.b : pair.a, [payload], pair.now);
});

test("our own messages, reflected", () => {
  const pair = new Pair();
  pair.a.wg.startHandshake(pair.b.key, pair.now);
  expectIgnored(pair.a, pair.b, [nextMessage(pair.a)], pair.now);

  const connected = new Pair().connect();
  connected.send(connected.a, 1);
  expectIgnored(connected.a, connected.b, [nextMessage(connected.a)], connected.now);
});

test("a stranger's right initiation", () => {
  const pair = new Pair();
  const { a, b, now } = pair;
  a.wg.startHandshake(b.key, now);
  const initiation = nextMessage(a);
  b.wg.removePeer(a.key);
  const before = b.digest(a.key);
  b.wg.handleMessage(initiation, a.path, now);
  expect(b.digest(a.key)).toEqual(before);
  expect(b.wg.counters["unknown-peer"]).toBe(1);
});

test("random bytes, with and without the look of a message", () => {
  const pair = new Pair().connect();
  const { a, b, now } = pair;
  const before = b.digest(a.key);
  const look = fc.tuple(
    fc.integer({ min: 1, max: 4 }),
    fc
      .constantFrom(31, 32, 64, 92, 148, 200)
      .chain((length) => fc.uint8Array({ minLength: length - 4, maxLength: length - 4 })),
  );
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    look.map(([type, rest]) => Uint8Array.of(type, 0, 0, 0, ...rest)),
  );
  fc.assert(fc.property(bytes, (payload) => b.wg.handleMessage(payload, elsewhere, now)));
  expect(b.digest(a.key)).toEqual(before);
});

test("a session goes on after all of it", () => {
  const pair = new Pair().connect();
  const packet = ipv4Packet(pair.a.address, pair.b.address, 100, 1);
  for (let i = 0; i < 50; i++)
    pair.b.wg.handleMessage(
      packet.map((byte) => byte ^ i),
      elsewhere,
      pair.now,
    );
  pair.a.wg.sendPacket(pair.b.key, packet, pair.now);
  pair.run(seconds(1));
  expect(pair.b.packets).toEqual([packet]);
});

function expectIgnored(side: Side, peer: Side, messages: readonly Uint8Array[], now: Instant): void {
  const before = side.digest(peer.key);
  const dropped = (): number => Object.values(side.wg.counters).reduce((sum, count) => sum + count, 0);
  for (const message of messages) {
    const droppedBefore = dropped();
    side.wg.handleMessage(message, elsewhere, now);
    expect(dropped()).toBe(droppedBefore + 1);
  }
  expect(side.digest(peer.key)).toEqual(before);
}

function damaged(message: Uint8Array, length: number): readonly Uint8Array[] {
  return Array.from({ length }, (_, at) => flipped(message, at));
}

function flipped(message: Uint8Array, at: number): Uint8Array {
  const out = message.slice();
  out[at] = (out[at] ?? 0) ^ (1 << (at % 8));
  return out;
}

/** The message with macs that fit what it says now. */
function remade(message: Uint8Array, to: Side, now: Instant): Uint8Array {
  new MacWriter(to.key.bytes).write(message, now);
  return message;
}

function cuts(message: Uint8Array): readonly Uint8Array[] {
  return Array.from({ length: message.length }, (_, length) => message.subarray(0, length));
}

function prolonged(message: Uint8Array): Uint8Array {
  return Uint8Array.of(...message, 0);
}
