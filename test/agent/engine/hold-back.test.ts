import { after, instant, millis } from "../../../agent/src/base/time.ts";
import { HoldBack } from "../../../agent/src/engine/hold-back.ts";

const start = instant(0);
const packet = Uint8Array.of(4);

function relayed(count: number): HoldBack {
  const holdBack = new HoldBack();
  holdBack.relayRoundTrip = millis(100);
  for (let i = 0; i < count; i++) holdBack.noteRelayed(start);
  holdBack.begin(start);
  return holdBack;
}

/** How many of `count` packets go out at once. */
function admitted(holdBack: HoldBack, count: number, now = start): number {
  let passed = 0;
  for (let i = 0; i < count; i++) if (holdBack.admit(packet, now)) passed++;
  return passed;
}

test("with nothing in flight on the relay nothing is held", () => {
  expect(admitted(relayed(0), 20_000)).toBe(20_000);
});

test("what is in flight and what overtakes it fit in a stock peer's replay window", () => {
  const inFlight = 3_000;
  const passed = admitted(relayed(inFlight), 20_000);
  expect(passed).toBeGreaterThan(4_000);
  expect(inFlight + passed).toBeLessThanOrEqual(8_128);
});

test("what is held goes out in its order once the relay has delivered", () => {
  const holdBack = relayed(7_499);
  expect(admitted(holdBack, 1)).toBe(1);
  expect(holdBack.admit(Uint8Array.of(1), start)).toBe(false);
  expect(holdBack.admit(Uint8Array.of(2), start)).toBe(false);
  const due = holdBack.pollTimeout() ?? start;
  expect(due - start).toBeGreaterThanOrEqual(50);
  expect(due - start).toBeLessThanOrEqual(100);
  expect(holdBack.release(after(due, millis(-1)))).toEqual([]);
  expect(holdBack.release(due).map(([first]) => first)).toEqual([1, 2]);
  expect(holdBack.pollTimeout()).toBeUndefined();
  expect(admitted(holdBack, 20_000, due)).toBe(20_000);
});

test("a steady sender is not held: as relayed packets arrive, as many more may go directly", () => {
  const holdBack = new HoldBack();
  holdBack.relayRoundTrip = millis(100);
  let now = start;
  for (let ms = 0; ms < 200; ms++, now = after(now, millis(1)))
    for (let i = 0; i < 60; i++) holdBack.noteRelayed(now);
  holdBack.begin(now);
  for (let ms = 0; ms < 200; ms++, now = after(now, millis(1))) expect(admitted(holdBack, 60, now)).toBe(60);
});

test("what was relayed long ago weighs nothing", () => {
  const holdBack = relayed(7_499);
  holdBack.begin(after(start, millis(2_000)));
  expect(admitted(holdBack, 20_000, after(start, millis(2_000)))).toBe(20_000);
});
