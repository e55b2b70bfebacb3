import fc from "fast-check";
import { toHex } from "../../../../agent/src/base/bytes.ts";
import { wallTime } from "../../../../agent/src/base/time.ts";
import { encodeTai64n, isLater, StampClock, stampOf } from "../../../../agent/src/core/wireguard/tai64n.ts";
import { published } from "./vector.ts";

test.each(published.tai64n)("$unix s and $nanos ns are $tai64n", ({ unix, nanos, tai64n }) => {
  expect(toHex(encodeTai64n(stampOf(unix, nanos)))).toBe(tai64n);
});

test("the published timestamp keeps no more than steps of 2^24 ns", () => {
  const { unix, nanos_whitened, tai64n } = published.timestamp;
  expect(toHex(encodeTai64n(stampOf(unix, nanos_whitened)))).toBe(tai64n);
});

test("the calendar's milliseconds become steps", () => {
  const clock = new StampClock({ now: () => wallTime(published.timestamp.unix * 1000 + 123.456789) });
  expect(toHex(encodeTai64n(clock.next(0)))).toBe(published.timestamp.tai64n);
});

test("a later stamp is greater on the wire", () => {
  const stamp = fc.nat(2 ** 40);
  fc.assert(
    fc.property(stamp, stamp, (a, b) => {
      expect(isLater(encodeTai64n(a), encodeTai64n(b))).toBe(a > b);
    }),
  );
});

test("stamps rise although the calendar stands still, steps back or jumps ahead", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -1e12, max: 1e13 }), { minLength: 2 }), (times) => {
      let time = 0;
      const clock = new StampClock({ now: () => wallTime(time) });
      let last = 0;
      for (time of times) {
        const next = clock.next(last);
        expect(isLater(encodeTai64n(next), encodeTai64n(last))).toBe(true);
        last = next;
      }
    }),
  );
});

test("a peer that is new gets no stamp below those of others when the calendar stepped back", () => {
  let time = 2_000_000;
  const clock = new StampClock({ now: () => wallTime(time) });
  const before = clock.next(0);
  time = 1_000_000;
  expect(clock.next(0)).toBeGreaterThanOrEqual(before);
});
