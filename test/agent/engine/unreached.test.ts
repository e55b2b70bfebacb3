import { Ip, IpPort } from "../../../agent/src/base/address.ts";
import { NodePublic } from "../../../agent/src/base/keys.ts";
import { type Instant, instant } from "../../../agent/src/base/time.ts";
import { Unreached } from "../../../agent/src/engine/unreached.ts";

const peer = (n: number): NodePublic => NodePublic.fromBytes(new Uint8Array(32).fill(n));
const at = (...texts: readonly string[]): IpPort[] => texts.map((text) => IpPort.parse(text));
const seconds = (n: number): Instant => instant(n * 1_000);

const PARIS = at("198.51.100.7:30001", "192.168.1.10:41641");
const LIMA = at("203.0.113.9:30002", "10.0.0.4:41641");

/** Calls of both, every five seconds from the 20th second on. */
function call(unreached: Unreached, both: readonly [IpPort[], IpPort[]], rounds = 3): void {
  for (let round = 0; round < rounds; round++) {
    for (const [i, endpoints] of both.entries())
      unreached.handleCall(peer(i + 1), endpoints, seconds(20 + 5 * round));
  }
}

let unreached: Unreached;
beforeEach(() => {
  unreached = new Unreached();
  unreached.handleEndpoints(seconds(0));
});

test("two networks that try for ten seconds in vain are believed", () => {
  call(unreached, [PARIS, LIMA], 2);
  expect(unreached.verdict).toBe(false);
  call(unreached, [PARIS, LIMA], 3);
  expect(unreached.verdict).toBe(true);
});

test.each<[string, [IpPort[], IpPort[]]]>([
  ["two peers of one network", [PARIS, at("198.51.100.7:30009", "192.168.1.11:41641")]],
  ["one whose UDP may be blocked: it knows no public address", [PARIS, at("10.0.0.4:41641")]],
  ["one that may have its public address from its interface", [PARIS, at("203.0.113.9:41641")]],
  ["one that knows public addresses of IPv6 alone", [PARIS, at("[2001:db8::1]:41641", "10.0.0.4:41641")]],
  ["one whose other address is a tunnel's", [PARIS, at("100.64.0.9:41641", "10.0.0.4:41641")]],
])("no evidence: %s", (_, both) => {
  call(unreached, both);
  expect(unreached.verdict).toBe(false);
});

test("a datagram from the internet ends it, one from the own network only that peer's part", () => {
  call(unreached, [PARIS, LIMA], 2);
  unreached.handleDatagram(peer(1), Ip.parse("10.80.0.9"));
  call(unreached, [PARIS, LIMA], 2);
  expect(unreached.verdict).toBe(false);
  call(unreached, [PARIS, LIMA], 4);
  expect(unreached.verdict).toBe(true);
  unreached.handleDatagram(peer(3), Ip.parse("192.0.2.1"));
  expect(unreached.verdict).toBe(false);
});

test("it holds while nobody tries, until the own addresses change", () => {
  call(unreached, [PARIS, LIMA]);
  unreached.handleCall(peer(1), PARIS, seconds(10_000));
  expect(unreached.verdict).toBe(true);
  unreached.handleEndpoints(seconds(10_001));
  expect(unreached.verdict).toBe(false);
});

test("what peers could not know yet, and what lies five minutes apart, does not count", () => {
  unreached.handleEndpoints(seconds(25));
  call(unreached, [PARIS, LIMA], 5);
  expect(unreached.verdict).toBe(false);
  unreached.handleCall(peer(1), PARIS, seconds(1_000));
  unreached.handleCall(peer(2), LIMA, seconds(1_000));
  expect(unreached.verdict).toBe(false);
});

test("calls without end of one peer that moves between networks are one network's", () => {
  for (let i = 0; i < 100; i++) unreached.handleCall(peer(1), i % 2 === 0 ? PARIS : LIMA, seconds(20 + i));
  expect(unreached.verdict).toBe(false);
});
