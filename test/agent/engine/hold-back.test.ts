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
  expect(inFlight + admitted(relayed(inFlight), 20_000)).toBeLessThanOrEqual(8_128);
});

test("what is held goes out in its order once the relay has delivered", () => {
  const holdBack = relayed(7_499);
  expect(admitted(holdBack, 1)).toBe(1);
  expect(holdBack.admit(Uint8Array.of(1), start)).toBe(false);
  expect(holdBack.admit(Uint8Array.of(2), start)).toBe(false);
  expect(holdBack.release(after(start, millis(99)))).toEqual([]);
  expect(holdBack.pollTimeout()).toBe(after(start, millis(100)));
  expect(holdBack.release(after(start, millis(100))).map(([first]) => first)).toEqual([1, 2]);
  expect(admitted(holdBack, 20_000, after(start, millis(100)))).toBe(20_000);
});
