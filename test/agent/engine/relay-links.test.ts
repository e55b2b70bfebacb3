import { clampPrivateKey, NodePrivate, NodePublic } from "../../../agent/src/base/keys.ts";
import { after, type Instant, instant, millis, seconds } from "../../../agent/src/base/time.ts";
import { regionId } from "../../../agent/src/core/path/path.ts";
import { type RelayEvent, RelayLinks } from "../../../agent/src/engine/relay-links.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { seededRandom } from "../../sim/random.ts";

const nyc = regionId(900);
const fra = regionId(901);
const peer = NodePublic.fromBytes(new Uint8Array(32).fill(7));
const serverKey = NodePublic.fromBytes(nodeSuite.x25519Public(new Uint8Array(32).fill(9)));
const packet = Uint8Array.of(1, 2, 3);
const start = instant(0);

function links(): RelayLinks {
  return new RelayLinks(
    nodeSuite,
    seededRandom(1),
    new NodePrivate(clampPrivateKey(new Uint8Array(32).fill(5))),
  );
}

function events(of: RelayLinks): RelayEvent[] {
  const all: RelayEvent[] = [];
  for (let event = of.pollEvent(); event !== undefined; event = of.pollEvent()) all.push(event);
  return all;
}

/** When the next dial is asked for, if it is within a minute. */
function nextDial(of: RelayLinks, from: Instant): number | undefined {
  let now = from;
  while (now < from + 60_000) {
    if (events(of).some(({ kind }) => kind === "dial")) return now - from;
    now = of.pollTimeout() ?? after(now, seconds(60));
    of.handleTimeout(now);
  }
  return undefined;
}

test("the home region is dialled at once, another when a packet must go there", () => {
  const relays = links();
  relays.setHome(nyc, start);
  expect(events(relays)).toEqual([{ kind: "dial", region: nyc }]);
  relays.send(fra, peer, packet, start);
  relays.send(fra, peer, packet, start);
  expect(events(relays)).toEqual([{ kind: "dial", region: fra }]);
});

test("what is sent before the connection is up leaves with the login, in one write", () => {
  const relays = links();
  relays.send(nyc, peer, packet, start);
  relays.handleOpened(nyc, serverKey, start);
  const out = relays.pollTransmit();
  expect(out?.region).toBe(nyc);
  expect(Buffer.from(out?.bytes ?? []).includes(Buffer.from(packet))).toBe(true);
  expect(relays.pollTransmit()).toBeUndefined();
});

test("packets that wait for a connection are bounded", () => {
  const relays = links();
  for (let i = 0; i < 1_000; i++) relays.send(nyc, peer, packet, start);
  expect(relays.dropped).toBe(1_000 - 256);
});

test("a home relay that fails is dialled again, ever more slowly, at most 5 s apart", () => {
  const relays = links();
  relays.setHome(nyc, start);
  events(relays);
  const waits: number[] = [];
  let now = start;
  for (let i = 0; i < 12; i++) {
    relays.handleClosed(nyc, "refused", now);
    const wait = nextDial(relays, now) ?? Infinity;
    waits.push(wait);
    now = after(now, millis(wait));
  }
  expect(waits[0]).toBeLessThanOrEqual(100);
  expect(Math.max(...waits)).toBeLessThanOrEqual(5_000);
  expect(waits.at(-1)).toBeGreaterThan(2_000);
});

test("a foreign region without a packet of ours for a minute is hung up; the home is not", () => {
  const relays = links();
  relays.setHome(nyc, start);
  relays.send(fra, peer, packet, start);
  relays.handleOpened(nyc, serverKey, start);
  relays.handleOpened(fra, serverKey, start);
  events(relays);
  // Neither logs in, so look before the login's own limit would end them.
  relays.send(fra, peer, packet, after(start, seconds(1)));
  relays.handleTimeout(after(start, seconds(9)));
  expect(events(relays)).toEqual([]);
  relays.handleTimeout(after(start, seconds(62)));
  expect(events(relays).filter(({ kind }) => kind === "hang-up")).toContainEqual({
    kind: "hang-up",
    region: fra,
  });
});

test("a region that failed with nothing waiting is forgotten", () => {
  const relays = links();
  relays.send(fra, peer, packet, start);
  relays.handleOpened(fra, serverKey, start);
  events(relays);
  relays.handleClosed(fra, "reset", start);
  expect(nextDial(relays, start)).toBeUndefined();
});
