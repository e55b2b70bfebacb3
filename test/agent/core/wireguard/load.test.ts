import { Ip, IpPort } from "../../../../agent/src/base/address.ts";
import { instant } from "../../../../agent/src/base/time.ts";
import { direct, regionId, relay } from "../../../../agent/src/core/path/path.ts";
import {
  HandshakeLoad,
  limitedSource,
  LOAD_THRESHOLD,
  SourceLimiter,
  TOKEN_BURST,
} from "../../../../agent/src/core/wireguard/load.ts";

test("a burst of an eighth of the queue is load, and for a second after", () => {
  const load = new HandshakeLoad();
  for (let i = 1; i < LOAD_THRESHOLD; i++) expect(load.arrive(instant(0))).toBe(false);
  expect(load.arrive(instant(0))).toBe(true);
  expect(load.arrive(instant(999))).toBe(true);
  expect(load.arrive(instant(1000))).toBe(false);
});

test("a hundred handshakes a second are no load, a thousand are", () => {
  const underLoad = (perSecond: number): boolean => {
    const load = new HandshakeLoad();
    let last = false;
    for (let i = 0; i < perSecond; i++) last = load.arrive(instant((i * 1000) / perSecond));
    return last;
  };
  expect(underLoad(100)).toBe(false);
  expect(underLoad(1000)).toBe(true);
});

test("the longest flood is forgotten within seconds", () => {
  const load = new HandshakeLoad();
  for (let i = 0; i < 100_000; i++) load.arrive(instant(0));
  expect(load.arrive(instant(6000))).toBe(false);
});

test("a source gets five handshakes at once and twenty a second; another has its own", () => {
  const limiter = new SourceLimiter();
  const allowed = (source: string, now: number): number => {
    let count = 0;
    while (limiter.allow(source, instant(now))) count++;
    return count;
  };
  expect(allowed("a", 0)).toBe(TOKEN_BURST);
  expect(allowed("b", 0)).toBe(TOKEN_BURST);
  expect(allowed("a", 100)).toBe(2);
  expect(allowed("a", 10_000)).toBe(TOKEN_BURST);
});

test("sources without number do not fill the memory", () => {
  const limiter = new SourceLimiter();
  for (let i = 0; i < 10_000; i++) limiter.allow(`source ${i}`, instant(i / 100));
  expect(limiter.size).toBeLessThanOrEqual(1024);
});

test("an IPv4 address, an IPv6 network of 64 bits and a relay are one source each", () => {
  const at = (text: string): string => limitedSource(direct(IpPort.parse(text)));
  expect(at("203.0.113.1:1")).toBe(at("203.0.113.1:2"));
  expect(at("203.0.113.1:1")).not.toBe(at("203.0.113.2:1"));
  expect(at("[2001:db8::1]:1")).toBe(at("[2001:db8::ffff:2]:1"));
  expect(at("[2001:db8::1]:1")).not.toBe(at("[2001:db8:0:1::1]:1"));
  expect(limitedSource(relay(regionId(1)))).not.toBe(limitedSource(relay(regionId(2))));
  expect(Ip.tryParse(at("203.0.113.1:1"))).toBeDefined();
});
