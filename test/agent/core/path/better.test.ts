import fc from "fast-check";
import { IpPort } from "../../../../agent/src/base/address.ts";
import { millis } from "../../../../agent/src/base/time.ts";
import { type AddressQuality, betterAddress } from "../../../../agent/src/core/path/better.ts";
import { vectors } from "../../../vectors/load.ts";

interface QualityVector {
  readonly addr: string;
  readonly latency_ms: number;
  readonly vni: number;
  readonly wire_mtu: number;
}
interface BetterVector {
  readonly name: string;
  readonly a: QualityVector;
  readonly b: QualityVector;
  readonly a_better: boolean;
  readonly b_better: boolean;
}
const { better_addr } = vectors<{ readonly better_addr: readonly BetterVector[] }>("paths.json");

test.each(better_addr)("$name", (v) => {
  const [a, b] = [qualityOf(v.a), qualityOf(v.b)];
  expect([betterAddress(a, b), betterAddress(b, a)]).toEqual([v.a_better, v.b_better]);
});

test("of two addresses at most one is the better, so that nobody moves to and fro", () => {
  fc.assert(
    fc.property(anyQuality(), anyQuality(), (a, b) => {
      expect(betterAddress(a, b) && betterAddress(b, a)).toBe(false);
    }),
  );
});

test("no address is better than itself, and any is better than none", () => {
  fc.assert(
    fc.property(anyQuality(), (a) => {
      expect([betterAddress(a, a), betterAddress(a, undefined), betterAddress(undefined, a)]).toEqual([
        false,
        true,
        false,
      ]);
    }),
  );
});

function qualityOf(v: QualityVector): AddressQuality | undefined {
  if (v.addr === "") return undefined;
  return {
    address: IpPort.parse(v.addr),
    latency: millis(v.latency_ms),
    wireMtu: v.wire_mtu,
    vni: v.vni === 0 ? undefined : v.vni,
  };
}

function anyQuality(): fc.Arbitrary<AddressQuality> {
  return fc.record({
    address: fc
      .constantFrom(
        "203.0.113.1:1",
        "192.168.1.1:1",
        "127.0.0.1:1",
        "169.254.1.1:1",
        "[2001:db8::1]:1",
        "[fd00::1]:1",
      )
      .map(IpPort.parse),
    latency: fc.double({ min: 0, max: 1000, noNaN: true }).map(millis),
    wireMtu: fc.constantFrom(0, 1280, 1500),
    vni: fc.constantFrom(undefined, 7),
  });
}
