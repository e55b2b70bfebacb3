import { instant } from "../../../agent/src/base/time.ts";
import { Unproven } from "../../../agent/src/engine/unproven.ts";

const numbered = (n: number): Uint8Array => Uint8Array.of(n >> 8, n & 255);
const read = (packets: readonly Uint8Array[]): number[] => packets.map(([a = 0, b = 0]) => a * 256 + b);

function sent(count: number): Unproven {
  const unproven = new Unproven();
  for (let i = 0; i < count; i++) unproven.note(numbered(i), instant(i));
  return unproven;
}

test("what was sent before the last proof is not sent again", () => {
  expect(read(sent(10).take(instant(7)))).toEqual([7, 8, 9]);
});

test("what was taken once is gone", () => {
  const unproven = sent(3);
  unproven.take(instant(0));
  expect(unproven.take(instant(0))).toEqual([]);
});

test("a proof forgets what it proves", () => {
  const unproven = sent(10);
  unproven.prove(instant(8));
  expect(read(unproven.take(instant(0)))).toEqual([8, 9]);
});

test("under load the oldest are forgotten first, and memory stays bounded", () => {
  const kept = read(sent(5_000).take(instant(0)));
  expect(kept.length).toBeLessThanOrEqual(512);
  expect(kept.at(-1)).toBe(4_999);
  const large = new Unproven();
  for (let i = 0; i < 5_000; i++) large.note(new Uint8Array(1_400), instant(i));
  expect(large.take(instant(0)).length * 1_400).toBeLessThanOrEqual(512 * 1024);
});
