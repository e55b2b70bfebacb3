/** What happens when nothing, too little or too much time passes. */
import { instant, type Millis, millis, minutes, seconds } from "../../../../agent/src/base/time.ts";
import { Timers, Wakeup } from "../../../../agent/src/core/wireguard/timers.ts";
import { idOf, Pair } from "./pair.ts";

const JITTER = 0.333;

test("a session in use is replaced after 120 s by its initiator alone, once", () => {
  const pair = new Pair().connect();
  chat(pair, seconds(130));
  expect(pair.a.sentAt("initiation")).toHaveLength(1);
  expect(pair.a.sentAt("initiation")[0]).toBeGreaterThanOrEqual(120);
  expect(pair.a.sentAt("initiation")[0]).toBeLessThanOrEqual(121.1);
  expect(pair.b.sentAt("initiation")).toEqual([]);
  expect([pair.a.count("session"), pair.b.count("session")]).toEqual([1, 1]);
});

test("an hour of talk is an unbroken row of sessions", () => {
  const pair = new Pair().connect();
  chat(pair, minutes(60), seconds(5));
  expect(pair.b.packets).toHaveLength(720);
  expect(pair.a.packets).toHaveLength(720);
  expect(pair.a.sentAt("initiation")).toHaveLength(28); // at 120 s, then every 125 s
});

test.each([
  [160, 0],
  [166, 1],
])("an initiator that hears data at %i s begins %i handshakes at once", (at, count) => {
  const pair = new Pair().connect();
  pair.run(seconds(at));
  pair.send(pair.b, 1);
  pair.run(seconds(1));
  pair.send(pair.b, 2);
  pair.run(seconds(1));
  expect(pair.a.sentAt("initiation")).toHaveLength(count);
  expect(pair.a.packets.map(idOf)).toEqual([1, 2]);
});

test("data that is not answered for 10 s is acknowledged by a keepalive", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.run(minutes(1));
  expect(pair.b.sentAt("keepalive")).toEqual([10.11]);
  expect(pair.a.sentKinds()).toEqual(["data"]);
});

test("more data while the keepalive was due earns one more, and only one", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.run(seconds(5));
  pair.send(pair.a, 2);
  pair.run(minutes(1));
  expect(pair.b.sentAt("keepalive")).toEqual([10.11, 20.11]);
});

test("an answer makes the keepalive needless", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.run(seconds(9));
  pair.send(pair.b, 2);
  pair.run(seconds(2));
  expect(pair.b.sentKinds()).toEqual(["data"]);
});

test("what an answer has acknowledged is not acknowledged again later", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.send(pair.a, 2);
  pair.run(seconds(5));
  pair.send(pair.b, 3);
  pair.run(seconds(15)).forget();
  pair.send(pair.a, 4);
  pair.run(minutes(1));
  expect(pair.b.sentKinds()).toEqual(["keepalive"]);
});

test("a persistent keepalive is sent at its interval while nothing else is", () => {
  const pair = new Pair();
  pair.introduce({ persistentKeepalive: seconds(25) });
  pair.run(seconds(1));
  expect(pair.a.wg.peerStats(pair.b.key)?.ready).toBe(true);
  pair.b.wg.configurePeer({ key: pair.a.key, allowedIps: [] }, pair.now);
  pair.forget().run(minutes(10));
  expect(pair.a.sentAt("keepalive").length).toBeGreaterThanOrEqual(18);
  expect(pair.a.wg.peerStats(pair.b.key)?.ready).toBe(true);
  pair.introduce();
  pair.run(minutes(20)).forget().run(minutes(60));
  expect(pair.a.sent).toEqual([]);
});

test("a session that was not used ends after 180 s, on both sides", () => {
  const pair = new Pair().connect();
  pair.run(seconds(179));
  expect([ready(pair), ready(pair, true)]).toEqual([true, true]);
  pair.run(seconds(1.1));
  expect([ready(pair), ready(pair, true)]).toEqual([false, false]);
  expect([...pair.a.sent, ...pair.b.sent]).toEqual([]);
});

test("the next packet after that begins a new one, and arrives", () => {
  const pair = new Pair().connect();
  pair.run(minutes(4));
  const packet = pair.send(pair.b, 1);
  pair.run(seconds(1));
  expect(pair.b.sentKinds()).toEqual(["initiation", "data"]);
  expect(pair.a.packets).toEqual([packet]);
});

test("data that nothing answers for 15 s begins a handshake", () => {
  const pair = new Pair().connect();
  pair.wire = () => [];
  pair.send(pair.a, 1);
  pair.run(seconds(16));
  const [at = 0] = pair.a.sentAt("initiation");
  expect(at).toBeGreaterThanOrEqual(15.1);
  expect(at).toBeLessThanOrEqual(15.1 + JITTER);
});

test("an initiation without answer is repeated every 5 s, with jitter, and given up after 90 s", () => {
  const pair = new Pair();
  pair.wire = () => [];
  pair.send(pair.a, 1);
  pair.run(minutes(30));
  const times = pair.a.sentAt("initiation");
  for (const [i, at] of times.entries()) {
    const gap = at - (times[i - 1] ?? at - 5);
    expect(gap).toBeGreaterThanOrEqual(5 - 1e-9);
    expect(gap).toBeLessThanOrEqual(5 + JITTER);
  }
  expect(new Set(times.map((at) => at % 5)).size).toBeGreaterThan(10);
  expect(times.length).toBeGreaterThanOrEqual(17);
  expect(times.length).toBeLessThanOrEqual(18);
  expect(pair.a.happened).toMatchObject([{ kind: "gave-up", peer: pair.b.key }]);
  const gaveUpAt = (pair.a.happened[0]?.at ?? 0) / 1000;
  expect(gaveUpAt).toBeGreaterThanOrEqual(90);
  expect(gaveUpAt).toBeLessThanOrEqual(90 + 5 + JITTER);
  expect(pair.a.wg.counters.unanswered).toBe(1);
  expect(pair.a.wg.pollTimeout()).toBeUndefined();
});

test("new packets prolong the attempt; after giving up the next one begins anew", () => {
  const pair = new Pair();
  pair.wire = () => [];
  pair.send(pair.a, 1);
  pair.run(seconds(60));
  pair.send(pair.a, 2);
  pair.run(seconds(80));
  expect(pair.a.count("gave-up")).toBe(0);
  pair.run(seconds(20));
  expect(pair.a.count("gave-up")).toBe(1);

  pair.wire = () => [millis(10)];
  pair.send(pair.a, 3);
  pair.run(seconds(1));
  expect(pair.b.packets.map(idOf)).toEqual([3]);
});

test("a packet just after our response was lost does not wait for ever", () => {
  const pair = new Pair();
  pair.wire = (_, by) => (by === pair.a ? [millis(10)] : []);
  pair.a.wg.startHandshake(pair.b.key, pair.now);
  pair.run(millis(50));
  pair.a.wg.removePeer(pair.b.key);
  pair.send(pair.b, 1);
  pair.introduce();
  pair.wire = () => [millis(10)];
  pair.run(seconds(6));
  expect(pair.a.packets.map(idOf)).toEqual([1]);
});

test("two initiations are never less than 5 s apart, whatever is asked for", () => {
  const pair = new Pair();
  pair.wire = () => [];
  for (let i = 0; i < 200; i++) {
    pair.send(pair.a, i);
    pair.a.wg.startHandshake(pair.b.key, pair.now);
    pair.run(millis(100));
  }
  expect(pair.a.sentAt("initiation")).toHaveLength(4);
});

test("540 s after the last session all is quiet: nothing is kept and nothing will wake", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.send(pair.b, 2);
  pair.run(seconds(539));
  expect(pair.a.wg.pollTimeout()).toBeDefined();
  pair.run(seconds(2));
  expect(pair.a.wg.pollTimeout()).toBeUndefined();
  expect(pair.b.wg.pollTimeout()).toBeUndefined();
});

test("an hour's sleep in the middle of a session: the next packet makes a new one", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.suspend(minutes(60));
  const packet = pair.send(pair.a, 2);
  pair.run(seconds(1));
  expect(pair.b.packets).toEqual([packet]);
  expect(pair.a.sentAt("initiation")).toHaveLength(1);
});

test("a sleep in the middle of an attempt: one initiation on waking, and the attempt goes on", () => {
  const pair = new Pair();
  pair.wire = () => [];
  pair.send(pair.a, 1);
  pair.run(seconds(30)).suspend(minutes(60)).forget().run(millis(1));
  expect(pair.a.sentKinds()).toEqual(["initiation"]);
  expect(pair.a.count("gave-up")).toBe(0);
  pair.wire = () => [millis(10)];
  pair.run(seconds(6));
  expect(pair.b.packets.map(idOf)).toEqual([1]);
});

test("waking too early does no harm", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  const { a, b } = pair;
  a.wg.pollTransmit();
  const before = a.digest(b.key);
  for (let i = 0; i < 5; i++) a.wg.handleTimeout(pair.now);
  expect(a.digest(b.key)).toEqual(before);
});

test("a wake-up is never later than the earliest timer", () => {
  const wakeup = new Wakeup();
  const timers = new Timers(wakeup);
  timers.set("erase", instant(500));
  timers.set("retry", instant(100));
  expect([wakeup.at, timers.next()]).toEqual([100, 100]);
  timers.clear("retry");
  expect(wakeup.at).toBe(100);
  expect(timers.take("erase", instant(499))).toBeUndefined();
  expect(timers.take("erase", instant(600))).toBe(500);
  expect(timers.next()).toBeUndefined();
});

/** Both send a packet every `interval`. */
function chat(pair: Pair, wait: Millis, interval: Millis = seconds(1)): void {
  for (let passed = 0; passed < wait; passed += interval) {
    pair.send(pair.a, passed);
    pair.send(pair.b, passed);
    pair.run(interval);
  }
}

function ready(pair: Pair, back = false): boolean | undefined {
  const [side, peer] = back ? [pair.b, pair.a] : [pair.a, pair.b];
  return side.wg.peerStats(peer.key)?.ready;
}
