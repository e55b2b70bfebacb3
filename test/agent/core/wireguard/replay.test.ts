import fc from "fast-check";
import {
  DEFAULT_REPLAY_WINDOW,
  REJECT_AFTER_MESSAGES,
  ReplayWindow,
} from "../../../../agent/src/core/wireguard/replay.ts";
import { published } from "./vector.ts";

test("the published sequence, with a window of 8128", () => {
  expect(REJECT_AFTER_MESSAGES).toBe(BigInt(published.replay.limit));
  const replay = new ReplayWindow(8128);
  for (const { counter, accept } of published.replay.sequence) {
    expect([counter, take(replay, BigInt(counter))]).toEqual([counter, accept]);
  }
});

test("our window reaches back over 64 Ki packets", () => {
  expect(DEFAULT_REPLAY_WINDOW).toBeGreaterThanOrEqual(65_536);
  const replay = new ReplayWindow();
  expect(take(replay, 100_000n)).toBe(true);
  expect(take(replay, 100_000n - 65_536n)).toBe(true);
  expect(take(replay, 100_000n - 65_537n)).toBe(false);
});

test("asking changes nothing", () => {
  const replay = new ReplayWindow(64);
  expect(replay.isFresh(1_000_000n)).toBe(true);
  expect(take(replay, 0n)).toBe(true);
});

test("accepts just what a set of all counters seen would", () => {
  const jump = fc.oneof(fc.integer({ min: -70, max: 70 }), fc.integer({ min: -5000, max: 5000 }));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), fc.array(jump, { maxLength: 200 }), (size, jumps) => {
      const replay = new ReplayWindow(size);
      const seen = new Set<number>();
      let counter = 0;
      let greatest = 0;
      for (const by of jumps) {
        counter = Math.max(0, counter + by);
        const want = !seen.has(counter) && greatest - counter <= size;
        expect(take(replay, BigInt(counter))).toBe(want);
        seen.add(counter);
        greatest = Math.max(greatest, counter);
      }
    }),
  );
});

function take(replay: ReplayWindow, counter: bigint): boolean {
  const fresh = replay.isFresh(counter);
  if (fresh) replay.mark(counter);
  return fresh;
}
