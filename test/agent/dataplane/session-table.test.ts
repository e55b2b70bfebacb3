/** The shared counters against the plain replay window, and what two views of one table promise together. */
import fc from "fast-check";
import { ReplayWindow } from "../../../agent/src/core/wireguard/replay.ts";
import { SESSION_SIZE, SessionTable, SharedSessions } from "../../../agent/src/dataplane/session-table.ts";

const keys = { send: new Uint8Array(32).fill(1), receive: new Uint8Array(32).fill(2) };

function openTable(slots = 2): {
  readonly a: SessionTable;
  readonly b: SessionTable;
  readonly memory: SharedArrayBuffer;
} {
  const memory = new SharedArrayBuffer(SESSION_SIZE * slots);
  return { a: new SessionTable(memory, 0), b: new SessionTable(memory, 0), memory };
}

const steps = fc.array(
  fc.oneof(
    fc.integer({ min: -70_000, max: 10 }),
    fc.integer({ min: 1, max: 100 }),
    fc.integer({ min: 60_000, max: 140_000 }),
  ),
  { maxLength: 60 },
);

test("accepts the counters that the plain window accepts, from either side", () => {
  fc.assert(
    fc.property(steps, fc.nat({ max: 2 ** 31 }), (jumps, start) => {
      const { a, b } = openTable();
      const plain = new ReplayWindow();
      let greatest = start;
      for (const [i, jump] of jumps.entries()) {
        const counter = Math.max(0, Math.min(2 ** 32 - 2, greatest + jump));
        greatest = Math.max(greatest, counter);
        const side = i % 2 === 0 ? a : b;
        const fresh = plain.isFresh(BigInt(counter));
        expect(side.isFresh(0, counter)).toBe(fresh);
        if (fresh) plain.mark(BigInt(counter));
        if (fresh) expect(side.mark(0, counter)).toBe(true);
        expect(a.isFresh(0, counter) || b.isFresh(0, counter)).toBe(false);
      }
    }),
  );
});

test("a counter is marked once, whoever asks", () => {
  const { a, b } = openTable();
  expect([a.isFresh(0, 7), b.isFresh(0, 7)]).toEqual([true, true]);
  expect([a.mark(0, 7), b.mark(0, 7)]).toEqual([true, false]);
});

test("no counter is given out twice", () => {
  const { a, b } = openTable();
  expect([a.reserve(0, 44), b.reserve(0, 1), a.reserve(0, 2)]).toEqual([0, 44, 45]);
  expect(a.sent(0)).toBe(47);
});

test("counters end long before they would wrap", () => {
  const { a } = openTable();
  const store = new SharedSessions(a, 2, () => {});
  const counters = store.open({ keys, localIndex: 5, remoteIndex: 6 });
  const slot = store.slotOf(5) ?? -1;
  expect([counters?.worn, counters?.exhausted]).toEqual([false, false]);
  a.reserve(slot, 2 ** 31 + 1);
  expect([counters?.worn, counters?.exhausted]).toEqual([true, false]);
  a.reserve(slot, 2 ** 31 - 2 ** 20);
  expect([counters?.exhausted, a.reserve(slot, 1)]).toEqual([true, -1]);
});

test("counters above 32 bits are accepted once each", () => {
  const store = new SharedSessions(openTable().a, 2, () => {});
  const counters = store.open({ keys, localIndex: 5, remoteIndex: 6 });
  const high = 2n ** 40n;
  expect(counters?.isFresh(high)).toBe(true);
  counters?.mark(high);
  expect(counters?.isFresh(high)).toBe(false);
});

test("a slot is used again only when it was released, and its keys are gone then", () => {
  const { a, memory } = openTable(1);
  const closed: number[] = [];
  const store = new SharedSessions(a, 1, (slot) => closed.push(slot));
  expect(store.open({ keys, localIndex: 5, remoteIndex: 6 })).toBeDefined();
  expect(store.open({ keys, localIndex: 7, remoteIndex: 8 })).toBeUndefined();
  store.close(5);
  expect([closed, store.slotOf(5)]).toEqual([[0], undefined]);
  expect(store.open({ keys, localIndex: 7, remoteIndex: 8 })).toBeUndefined();
  store.release(0);
  expect(new Uint8Array(memory, 64, 64).every((byte) => byte === 0)).toBe(true);
  expect(store.open({ keys, localIndex: 7, remoteIndex: 8 })).toBeDefined();
});
