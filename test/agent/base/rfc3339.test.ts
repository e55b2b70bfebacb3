import fc from "fast-check";
import { formatRfc3339, parseRfc3339 } from "../../../agent/src/base/rfc3339.ts";
import { wallTime } from "../../../agent/src/base/time.ts";

test.each([
  ["2026-11-22T08:52:30.788423992Z", Date.UTC(2026, 10, 22, 8, 52, 30, 788)],
  ["1970-01-01T00:02:03Z", 123_000],
  ["2024-02-29T23:59:59+01:30", Date.UTC(2024, 1, 29, 22, 29, 59)],
  ["1969-12-31T23:59:59Z", -1000],
])("%s is read", (text, at) => {
  expect(parseRfc3339(text)).toBe(at);
});

test.each(["", "now", "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01"])(
  "%j is no time",
  (text) => {
    expect(parseRfc3339(text)).toBeUndefined();
  },
);

test("Go's zero time is no time", () => {
  expect(parseRfc3339("0001-01-01T00:00:00Z")).toBeUndefined();
});

test("every time agrees with the language's own calendar and comes back", () => {
  fc.assert(
    fc.property(fc.integer({ min: -62_000_000_000_000, max: 253_402_300_799_999 }), (ms) => {
      const text = formatRfc3339(wallTime(ms));
      expect(text).toBe(new Date(ms).toISOString());
      expect(parseRfc3339(text)).toBe(ms);
    }),
  );
});
