/** How sessions begin, live and are replaced between two peers. */
import { UsageError } from "../../../../agent/src/base/errors.ts";
import { NodePublic } from "../../../../agent/src/base/keys.ts";
import { instant, millis, minutes, seconds } from "../../../../agent/src/base/time.ts";
import { Prefix } from "../../../../agent/src/base/address.ts";
import { idOf, ipv4Packet, nextMessage, Pair, Side, udp } from "./pair.ts";

test("the first packet makes a session and arrives by it", () => {
  const pair = new Pair();
  const packet = pair.send(pair.a, 1, 61);
  pair.run(seconds(1));
  expect(pair.b.packets).toEqual([packet]);
  expect(pair.a.sentKinds()).toEqual(["initiation", "data"]);
  expect(pair.b.sentKinds()).toEqual(["response"]);
  expect([pair.a.count("session"), pair.b.count("session")]).toEqual([1, 1]);
});

test("a responder sends nothing before the initiator's first packet, and all of it then", () => {
  const pair = new Pair();
  pair.a.wg.startHandshake(pair.b.key, pair.now);
  pair.run(millis(15));
  const packet = pair.send(pair.b, 1);
  expect(pair.b.sentKinds()).toEqual(["response"]);
  pair.run(seconds(1));
  expect(pair.a.sentKinds()).toEqual(["initiation", "keepalive"]);
  expect(pair.a.packets).toEqual([packet]);
});

test("a response and nothing else says by which path its question came", () => {
  const pair = new Pair();
  pair.send(pair.a, 1);
  pair.run(seconds(1));
  const replies = [...pair.a.sent, ...pair.b.sent].filter(({ replyTo }) => replyTo !== undefined);
  expect(replies).toMatchObject([{ kind: "response", replyTo: pair.a.path, peer: pair.a.key }]);
});

test("a session is renewed for a peer that has lost it, and the old one serves until then", () => {
  const pair = new Pair().connect();
  pair.run(seconds(10));
  pair.a.wg.renewSession(pair.b.key, pair.now);
  const packet = pair.send(pair.a, 1);
  pair.run(seconds(1));
  expect(pair.b.packets).toEqual([packet]);
  expect(pair.a.sentKinds().slice(0, 2)).toEqual(["initiation", "data"]);
  expect(pair.a.count("session")).toBe(1);
});

test("without a session there is nothing to renew", () => {
  const pair = new Pair();
  pair.a.wg.renewSession(pair.b.key, pair.now);
  expect(pair.a.wg.pollTransmit()).toBeUndefined();
});

test("with a session a packet is sealed at once, both ways", () => {
  const pair = new Pair().connect();
  const there = pair.send(pair.a, 1, 1280);
  const back = pair.send(pair.b, 2, 20);
  pair.run(millis(20));
  expect(pair.b.packets).toEqual([there]);
  expect(pair.a.packets).toEqual([back]);
  expect(pair.a.sent.map(({ payload }) => payload.length)).toEqual([16 + 1280 + 16]);
  expect(pair.b.sent.map(({ payload }) => payload.length)).toEqual([16 + 32 + 16]);
});

test("an empty packet is a keepalive: it proves the path and delivers nothing", () => {
  const pair = new Pair().connect();
  pair.a.wg.sendPacket(pair.b.key, new Uint8Array(0), pair.now);
  pair.run(millis(20));
  expect(pair.a.sent).toMatchObject([{ kind: "keepalive", replyTo: undefined }]);
  expect(pair.b.happened).toMatchObject([{ kind: "authenticated", peer: pair.a.key, bytes: 32 }]);
});

test("staged packets are copies, bounded, and leave in their order; the oldest are dropped", () => {
  const pair = new Pair({ maxStaged: 3 });
  for (let id = 0; id < 5; id++) pair.send(pair.a, id).fill(0);
  pair.run(seconds(1));
  expect(pair.b.packets.map(idOf)).toEqual([2, 3, 4]);
  expect(pair.a.wg.counters["staged-overflow"]).toBe(2);
});

test("128 packets wait for a session by default", () => {
  const pair = new Pair();
  for (let id = 0; id < 130; id++) pair.send(pair.a, id);
  pair.run(seconds(1));
  expect(pair.b.packets.map(idOf)).toEqual(Array.from({ length: 128 }, (_, i) => i + 2));
});

test("peers with a preshared key agree; with different ones they do not", () => {
  const pair = new Pair();
  pair.introduce({ presharedKey: new Uint8Array(32).fill(5) });
  pair.connect();
  pair.b.wg.configurePeer({ key: pair.a.key, allowedIps: [] }, pair.now);
  pair.run(seconds(10)).forget();
  pair.send(pair.a, 1);
  pair.run(seconds(150));
  pair.send(pair.a, 2);
  pair.run(seconds(1));
  expect(pair.a.wg.counters.unauthenticated).toBe(1);
});

test("a preshared key of another length is refused with what to do", () => {
  const pair = new Pair();
  expect(() => pair.introduce({ presharedKey: new Uint8Array(31) })).toThrow(UsageError);
});

test("both initiating in the same moment settle at once, and nothing is lost or repeated", () => {
  const pair = new Pair();
  const there = pair.send(pair.a, 1);
  const back = pair.send(pair.b, 2);
  pair.run(millis(100));
  expect(pair.b.packets).toEqual([there]);
  expect(pair.a.packets).toEqual([back]);
  pair.forget();
  for (let id = 0; id < 3; id++) {
    pair.send(pair.a, id);
    pair.send(pair.b, id);
    pair.run(millis(20));
  }
  expect([pair.a.packets.length, pair.b.packets.length]).toEqual([3, 3]);
  pair.run(seconds(5));
  expect([...pair.a.sentKinds(), ...pair.b.sentKinds()]).not.toContain("initiation");
});

test("both initiating at once settle whichever message is late", () => {
  for (let late = 0; late < 4; late++) {
    const pair = new Pair();
    let count = 0;
    pair.wire = ({ kind }) => [millis(kind !== "data" && count++ === late ? 300 : 10)];
    pair.send(pair.a, 1);
    pair.send(pair.b, 2);
    pair.run(seconds(1));
    expect([pair.a.packets.map(idOf), pair.b.packets.map(idOf)]).toEqual([[2], [1]]);
  }
});

test("every message sent twice, by two paths, counts once", () => {
  const pair = new Pair();
  pair.wire = () => [millis(10), millis(35)];
  for (let id = 0; id < 4; id++) pair.send(pair.a, id);
  pair.run(seconds(1));
  pair.send(pair.b, 9);
  pair.run(seconds(1));
  expect(pair.b.packets.map(idOf)).toEqual([0, 1, 2, 3]);
  expect(pair.a.packets.map(idOf)).toEqual([9]);
  expect(pair.b.sentKinds()).toEqual(["response", "data"]);
  expect(pair.b.wg.counters).toMatchObject({ "stale-initiation": 1, replay: 4 });
  expect(pair.a.wg.counters).toMatchObject({ "unknown-index": 1, replay: 1 });
});

test("a lost response is asked for again after five seconds, and the packet arrives", () => {
  const pair = new Pair();
  let lost = 0;
  pair.wire = ({ kind }) => (kind === "response" && lost++ === 0 ? [] : [millis(10)]);
  const packet = pair.send(pair.a, 1);
  pair.run(seconds(6));
  expect(pair.b.packets).toEqual([packet]);
  expect(pair.a.sentAt("initiation")).toEqual([0, expect.closeTo(5.17, 0)]);
});

test("no packet is lost by a rekey, however late it arrives", () => {
  const pair = new Pair().connect();
  pair.run(seconds(119));
  pair.wire = ({ kind }) => [kind === "data" ? seconds(8) : millis(10)];
  for (let id = 0; id < 30; id++) {
    pair.send(pair.a, id);
    pair.send(pair.b, id + 100);
    pair.run(millis(200));
  }
  pair.run(seconds(10));
  expect(pair.a.sentKinds().filter((kind) => kind === "initiation")).toHaveLength(1);
  expect(pair.b.packets.map(idOf)).toEqual(Array.from({ length: 30 }, (_, i) => i));
  expect(pair.a.packets.map(idOf)).toEqual(Array.from({ length: 30 }, (_, i) => i + 100));
});

test("no packet is lost when both rekey at once", () => {
  const pair = new Pair().connect();
  pair.wire = () => [];
  pair.send(pair.a, 1);
  pair.send(pair.b, 2);
  pair.run(seconds(14.9)).forget();
  pair.wire = ({ kind }) => [kind === "data" ? seconds(2) : millis(400)];
  for (const id of [3, 4, 5, 6]) {
    pair.send(pair.a, id);
    pair.send(pair.b, id);
    pair.run(millis(400));
  }
  pair.run(seconds(4));
  expect([pair.a.sentAt("initiation").length, pair.b.sentAt("initiation").length]).toEqual([1, 1]);
  expect(pair.b.packets.map(idOf)).toEqual([3, 4, 5, 6]);
  expect(pair.a.packets.map(idOf)).toEqual([3, 4, 5, 6]);
});

test("a peer that restarted is reached again: the other side notices the silence", () => {
  const pair = new Pair().connect();
  pair.b.wg.removePeer(pair.a.key);
  pair.introduce();
  pair.send(pair.a, 1);
  pair.run(seconds(14));
  expect(pair.a.sentAt("initiation")).toEqual([]);
  pair.run(seconds(2));
  pair.send(pair.a, 2);
  pair.run(seconds(1));
  expect(pair.b.packets.map(idOf)).toEqual([2]);
});

test("a restarted initiator is believed by its later timestamp", () => {
  const pair = new Pair().connect();
  pair.run(seconds(1));
  pair.a.wg.removePeer(pair.b.key);
  pair.introduce();
  pair.send(pair.a, 1);
  pair.run(seconds(1));
  expect(pair.b.packets.map(idOf)).toEqual([1]);
});

test("initiations are accepted although the calendar stepped back", () => {
  const pair = new Pair();
  let lost = 0;
  pair.wire = ({ kind }) => (kind === "response" && lost++ < 3 ? [] : [millis(10)]);
  pair.send(pair.a, 1);
  for (let i = 0; i < 4; i++) {
    pair.a.calendarOffset -= minutes(60);
    pair.run(seconds(5.5));
  }
  expect(pair.b.packets.map(idOf)).toEqual([1]);
  expect(pair.b.wg.counters["stale-initiation"]).toBe(0);
});

test("updating a peer does not touch its session; its new addresses count at once", () => {
  const pair = new Pair().connect();
  pair.b.wg.configurePeer({ key: pair.a.key, allowedIps: [Prefix.parse("10.9.0.0/16")] }, pair.now);
  pair.send(pair.a, 1);
  const packet = ipv4Packet("10.9.1.1", pair.b.address, 40, 7);
  pair.a.wg.sendPacket(pair.b.key, packet, pair.now);
  pair.run(millis(20));
  expect(pair.b.packets).toEqual([packet]);
  expect(pair.b.wg.counters["wrong-source"]).toBe(1);
  expect(pair.a.sentKinds()).toEqual(["data", "data"]);
});

test("what is no IP packet is counted, not delivered", () => {
  const pair = new Pair().connect();
  pair.a.wg.sendPacket(pair.b.key, new Uint8Array(40).fill(0x99), pair.now);
  pair.run(millis(20));
  expect(pair.b.packets).toEqual([]);
  expect(pair.b.wg.counters["not-ip"]).toBe(1);
});

test("a removed peer is neither heard nor sent to", () => {
  const pair = new Pair().connect();
  pair.send(pair.a, 1);
  pair.b.wg.removePeer(pair.a.key);
  expect(pair.b.wg.hasPeer(pair.a.key)).toBe(false);
  expect(pair.b.wg.peerStats(pair.a.key)).toBeUndefined();
  pair.send(pair.b, 2);
  pair.b.wg.startHandshake(pair.a.key, pair.now);
  pair.run(minutes(1));
  expect(pair.b.happened).toEqual([]);
  expect(pair.b.sent).toEqual([]);
  expect(pair.b.wg.counters["unknown-peer"]).toBeGreaterThan(2);
  expect(pair.b.wg.counters["unknown-index"]).toBe(1);
});

test("our own key is no peer, and a key that is no point on the curve ends in giving up", () => {
  const { a, now } = new Pair();
  a.wg.configurePeer({ key: a.key, allowedIps: [] }, now);
  expect(a.wg.hasPeer(a.key)).toBe(false);

  const unusable = NodePublic.fromBytes(new Uint8Array(32));
  a.wg.configurePeer({ key: unusable, allowedIps: [] }, now);
  a.wg.sendPacket(unusable, ipv4Packet("10.0.0.1", "10.0.0.2", 40), now);
  expect(a.wg.pollTransmit()).toBeUndefined();
  expect(a.wg.pollEvent()).toEqual({ kind: "gave-up", peer: unusable });
});

test("roaming shows in every authenticated message, handshakes and keepalives included", () => {
  const pair = new Pair().connect();
  const elsewhere = udp("198.51.100.77:9");
  pair.a.wg.sendPacket(pair.b.key, new Uint8Array(0), pair.now);
  pair.b.wg.handleMessage(nextMessage(pair.a), elsewhere, pair.now);
  expect(pair.b.wg.pollEvent()).toEqual({
    kind: "authenticated",
    peer: pair.a.key,
    from: elsewhere,
    bytes: 32,
  });

  const other = new Pair();
  other.a.wg.startHandshake(other.b.key, other.now);
  other.b.wg.handleMessage(nextMessage(other.a), elsewhere, other.now);
  expect(other.b.wg.pollEvent()).toMatchObject({ kind: "authenticated", from: elsewhere, bytes: 148 });
  other.a.wg.handleMessage(nextMessage(other.b), elsewhere, other.now);
  expect(other.a.wg.pollEvent()).toMatchObject({ kind: "authenticated", from: elsewhere, bytes: 92 });
});

test("bytes are counted as whole WireGuard messages", () => {
  const pair = new Pair();
  pair.send(pair.a, 1, 36);
  pair.run(seconds(1));
  const stats = { txBytes: 148 + 80, rxBytes: 92, ready: true, lastHandshake: instant(20) };
  expect(pair.a.wg.peerStats(pair.b.key)).toEqual(stats);
  expect(pair.b.wg.peerStats(pair.a.key)).toMatchObject({ txBytes: 92, rxBytes: 148 + 80, ready: true });
});

test("a machine talks with many peers at a time, each under its own keys", () => {
  const now = instant(0);
  const hub = new Side(1, () => now);
  const spokes = [2, 3, 4, 5].map((name) => new Side(name, () => now));
  for (const spoke of spokes) {
    hub.wg.configurePeer({ key: spoke.key, allowedIps: [Prefix.parse(spoke.address)] }, now);
    spoke.wg.configurePeer({ key: hub.key, allowedIps: [Prefix.parse(hub.address)] }, now);
    hub.wg.sendPacket(spoke.key, ipv4Packet(hub.address, spoke.address, 40), now);
  }
  for (let out = hub.wg.pollTransmit(); out !== undefined; out = hub.wg.pollTransmit()) {
    const spoke = spokes.find(({ key }) => key.text === out?.peer?.text);
    spoke?.wg.handleMessage(out.payload, hub.path, now);
    const reply = spoke?.wg.pollTransmit();
    if (reply !== undefined && spoke !== undefined) hub.wg.handleMessage(reply.payload, spoke.path, now);
  }
  for (const spoke of spokes) {
    expect(spoke.wg.peerStats(hub.key)?.ready).toBe(true);
    expect(hub.wg.peerStats(spoke.key)?.ready).toBe(true);
  }
});
