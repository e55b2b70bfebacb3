/** A flood of handshakes, and the peers that must get through it. */
import { Prefix } from "../../../../agent/src/base/address.ts";
import { type Instant, instant, millis, seconds } from "../../../../agent/src/base/time.ts";
import { MacWriter } from "../../../../agent/src/core/wireguard/cookie.ts";
import { LOAD_THRESHOLD, TOKEN_BURST } from "../../../../agent/src/core/wireguard/load.ts";
import { encodeInitiation } from "../../../../agent/src/core/wireguard/messages.ts";
import { regionId, relay } from "../../../../agent/src/core/path/path.ts";
import { seededRandom } from "../../../sim/random.ts";
import { randomBytes } from "../../../../agent/src/base/random.ts";
import { kindOf, nextMessage, Pair, Side, udp } from "./pair.ts";

const random = seededRandom(99);

test("under load an initiation gets a cookie; the next one carries it and is answered", () => {
  const pair = new Pair();
  flood(pair.b, pair.now);
  const packet = pair.send(pair.a, 1);
  pair.run(seconds(4.9));
  expect(pair.b.sentKinds()).toEqual(["cookie"]);
  expect(pair.b.sent).toMatchObject([{ peer: undefined, replyTo: pair.a.path }]);
  expect(pair.b.packets).toEqual([]);

  flood(pair.b, pair.now, 2 * LOAD_THRESHOLD);
  pair.run(seconds(2));
  expect(pair.a.sentKinds()).toEqual(["initiation", "initiation", "data"]);
  expect(pair.b.sentKinds()).toEqual(["cookie", "response"]);
  expect(pair.b.packets).toEqual([packet]);
});

test("an initiator under load gives a cookie for the response, and the handshake finishes later", () => {
  const pair = new Pair();
  flood(pair.a, pair.now);
  pair.send(pair.a, 1);
  pair.run(seconds(1));
  expect(pair.a.sentKinds()).toEqual(["initiation", "cookie"]);
  pair.run(seconds(6));
  expect(pair.b.packets).toHaveLength(1);
});

test("a cookie taken from another address is of no use", () => {
  const { a, b, now } = new Pair();
  const elsewhere = udp("198.51.100.9:9");
  flood(b, now);
  a.wg.startHandshake(b.key, now);
  b.wg.handleMessage(nextMessage(a), a.path, now);
  a.wg.handleMessage(nextMessage(b), b.path, now);
  const later = instant(now + 5500);
  flood(b, later);
  a.wg.handleTimeout(later);
  const withMac2 = nextMessage(a);
  b.wg.handleMessage(withMac2, elsewhere, later);
  expect(kindOf(nextMessage(b))).toBe("cookie-reply");
  b.wg.handleMessage(withMac2, a.path, later);
  expect(kindOf(nextMessage(b))).toBe("response");
});

test("under load a source gets its share of handshakes, however right its cookies are", () => {
  const now = instant(0);
  const hub = new Side(1, () => now);
  const spokes = Array.from({ length: TOKEN_BURST + 2 }, (_, i) => new Side(i + 2, () => now));
  const at = (i: number) => udp(`203.0.113.200:${i + 1}`);
  for (const spoke of spokes) {
    hub.wg.configurePeer({ key: spoke.key, allowedIps: [] }, now);
    spoke.wg.configurePeer({ key: hub.key, allowedIps: [] }, now);
  }
  const kinds = fill(hub, spokes, at, now);
  expect(kinds.filter((kind) => kind === "response")).toHaveLength(TOKEN_BURST);
  expect(hub.wg.counters["rate-limited"]).toBe(2);
});

test("peers behind one relay do not share one share", () => {
  const now = instant(0);
  const hub = new Side(1, () => now);
  const spokes = Array.from({ length: TOKEN_BURST + 2 }, (_, i) => new Side(i + 2, () => now));
  for (const spoke of spokes) {
    hub.wg.configurePeer({ key: spoke.key, allowedIps: [Prefix.parse(spoke.address)] }, now);
    spoke.wg.configurePeer({ key: hub.key, allowedIps: [] }, now);
  }
  const kinds = fill(hub, spokes, () => relay(regionId(900)), now, true);
  expect(kinds.filter((kind) => kind === "response")).toHaveLength(spokes.length);
});

test("a relayed sender's cookie names the peer to send it to", () => {
  const { a, b, now } = new Pair();
  const region = relay(regionId(900));
  flood(b, now);
  a.wg.startHandshake(b.key, now);
  b.wg.handleMessage(nextMessage(a), region, now, a.key);
  expect(b.wg.pollTransmit()).toMatchObject({ kind: "cookie", peer: a.key, replyTo: region });
});

test("a flood without our public key costs nothing but a count, and is no load", () => {
  const pair = new Pair();
  for (let i = 0; i < 500; i++) {
    const junk = encodeInitiation(fields());
    pair.b.wg.handleMessage(junk, udp("192.0.2.1:1"), pair.now);
  }
  expect(pair.b.wg.counters["bad-mac1"]).toBe(500);
  pair.send(pair.a, 1);
  pair.run(seconds(1));
  expect(pair.b.packets).toHaveLength(1);
});

test("when the flood is over, handshakes need no cookie again", () => {
  const pair = new Pair();
  flood(pair.b, pair.now);
  pair.run(seconds(3));
  pair.send(pair.a, 1);
  pair.run(millis(100));
  expect(pair.b.sentKinds()).toEqual(["response"]);
});

/** As many initiations with a right mac1 as it takes: the sender needs to know no more than the public key. */
function flood(side: Side, now: Instant, count = LOAD_THRESHOLD): void {
  const macs = new MacWriter(side.key.bytes);
  const before = side.wg.counters["under-load"] + side.wg.counters.unauthenticated;
  for (let i = 0; i < count; i++) {
    const junk = encodeInitiation({ ...fields(), ephemeral: new Uint8Array(32) });
    macs.write(junk, now);
    side.wg.handleMessage(junk, udp("192.0.2.1:1"), now);
  }
  const after = side.wg.counters["under-load"] + side.wg.counters.unauthenticated;
  expect(after - before).toBe(count);
  while (kindOf(side.wg.pollTransmit()?.payload ?? new Uint8Array(0)) === "cookie-reply");
}

function fields(): Parameters<typeof encodeInitiation>[0] {
  const ephemeral = randomBytes(random, 32);
  return { sender: 1, ephemeral, sealedStatic: new Uint8Array(48), sealedTimestamp: new Uint8Array(28) };
}

/** Puts `hub` under load, gets each spoke its cookie, and returns what `hub` answers to their next initiations. */
function fill(
  hub: Side,
  spokes: readonly Side[],
  at: (i: number) => ReturnType<typeof udp>,
  now: Instant,
  relayed = false,
): readonly string[] {
  const later = instant(now + 5500);
  const ask = (spoke: Side, i: number, time: Instant): string => {
    hub.wg.handleMessage(nextMessage(spoke), at(i), time, relayed ? spoke.key : undefined);
    const reply = hub.wg.pollTransmit()?.payload ?? new Uint8Array(0);
    spoke.wg.handleMessage(reply, hub.path, time);
    return kindOf(reply);
  };
  flood(hub, now);
  for (const [i, spoke] of spokes.entries()) {
    spoke.wg.startHandshake(hub.key, now);
    expect(ask(spoke, i, now)).toBe("cookie-reply");
    spoke.wg.handleTimeout(later);
  }
  flood(hub, later);
  return spokes.map((spoke, i) => ask(spoke, i, later));
}
