import { after, instant, millis } from "../../../agent/src/base/time.ts";
import { now, Wakeup } from "../../../agent/src/io/clock.ts";

beforeEach(() => jest.useFakeTimers());
afterEach(() => jest.useRealTimers());

test("a wake-up rings at its time, once, and not before", () => {
  const wakeup = new Wakeup();
  const wake = jest.fn();
  wakeup.wakeAt(after(now(), millis(50.5)), wake);

  jest.advanceTimersByTime(50);
  expect(wake).not.toHaveBeenCalled();
  jest.advanceTimersByTime(1000);
  expect(wake).toHaveBeenCalledTimes(1);
});

test.each([
  { name: "later", first: 10, second: 30, early: 29 },
  { name: "earlier", first: 30, second: 10, early: 9 },
])("a $name wake-up replaces the former one", ({ first, second, early }) => {
  const wakeup = new Wakeup();
  const [replaced, wake] = [jest.fn(), jest.fn()];
  const start = now();
  wakeup.wakeAt(after(start, millis(first)), replaced);
  wakeup.wakeAt(after(start, millis(second)), wake);

  jest.advanceTimersByTime(early);
  expect(wake).not.toHaveBeenCalled();
  jest.advanceTimersByTime(1000);
  expect(wake).toHaveBeenCalledTimes(1);
  expect(replaced).not.toHaveBeenCalled();
});

test("moving the deadline back after every packet leaves the timer alone", () => {
  const wakeup = new Wakeup();
  const set = jest.spyOn(globalThis, "setTimeout");
  for (let i = 1; i <= 100; i++) wakeup.wakeAt(after(now(), millis(1000 + i)), () => {});
  expect(set).toHaveBeenCalledTimes(1);
  wakeup.cancel();
});

test("a wake-up in sixty days is not one at once", () => {
  const wakeup = new Wakeup();
  const wake = jest.fn();
  const day = 24 * 3600 * 1000;
  wakeup.wakeAt(after(now(), millis(60 * day)), wake);

  jest.advanceTimersByTime(59 * day);
  expect(wake).not.toHaveBeenCalled();
  jest.advanceTimersByTime(2 * day);
  expect(wake).toHaveBeenCalledTimes(1);
});

test("a time that has passed rings on the next turn, never is never, and cancelling is", () => {
  const wakeup = new Wakeup();
  const [past, never] = [jest.fn(), jest.fn()];
  wakeup.wakeAt(instant(now() - 100), past);
  expect(past).not.toHaveBeenCalled();
  jest.advanceTimersByTime(0);
  expect(past).toHaveBeenCalledTimes(1);

  wakeup.wakeAt(after(now(), millis(5)), never);
  wakeup.wakeAt(undefined, never);
  wakeup.wakeAt(after(now(), millis(5)), never);
  wakeup.cancel();
  jest.advanceTimersByTime(1000);
  expect(never).not.toHaveBeenCalled();
});

test("the next wake-up may be set from within one", () => {
  const wakeup = new Wakeup();
  let rung = 0;
  const wake = (): void => {
    if (++rung < 3) wakeup.wakeAt(after(now(), millis(10)), wake);
  };
  wakeup.wakeAt(after(now(), millis(10)), wake);
  jest.advanceTimersByTime(1000);
  expect(rung).toBe(3);
});

test("a wake-up that does not keep the process alive does not", () => {
  jest.useRealTimers();
  const timers = (): number => process.getActiveResourcesInfo().filter((name) => name === "Timeout").length;
  const before = timers();
  const [idle, busy] = [new Wakeup({ keepAlive: false }), new Wakeup()];
  idle.wakeAt(after(now(), millis(60_000)), () => {});
  expect(timers()).toBe(before);
  busy.wakeAt(after(now(), millis(60_000)), () => {});
  expect(timers()).toBe(before + 1);
  idle.cancel();
  busy.cancel();
});
