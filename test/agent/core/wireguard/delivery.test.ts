/** Whatever the wires do, each packet is delivered at most once, and each that arrived in time is delivered. */
import fc from "fast-check";
import { type Millis, millis, seconds } from "../../../../agent/src/base/time.ts";
import { concat } from "../../../../agent/src/base/bytes.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import type { Suite } from "../../../../agent/src/crypto/suite.ts";
import { idOf, nextMessage, Pair } from "./pair.ts";

/** The delays, in ms, of the copies of one message: none is a loss, two are a duplicate. */
const fate = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(fc.nat(50)) },
  { weight: 2, arbitrary: fc.tuple(fc.nat(50), fc.nat(3000)) },
  { weight: 1, arbitrary: fc.tuple(fc.nat(3000)) },
  { weight: 1, arbitrary: fc.constant<readonly number[]>([]) },
);

const step = fc.record({ byA: fc.boolean(), count: fc.nat(4), pause: fc.constantFrom(0, 10, 700, 20_000) });

test("loss, reordering and duplication: at most once each, and nothing that was not sent", () => {
  fc.assert(
    fc.property(
      fc.array(fate, { minLength: 1, maxLength: 40 }),
      fc.array(step, { maxLength: 12 }),
      (fates, steps) => {
        const pair = new Pair();
        let messages = 0;
        pair.wire = () => (fates[messages++ % fates.length] ?? []).map((wait) => millis(wait));
        const sent = play(pair, steps);
        for (const side of [pair.a, pair.b]) {
          const ids = side.packets.map(idOf);
          expect(new Set(ids).size).toBe(ids.length);
          for (const id of ids) expect(sent.get(id)).toBe(side === pair.a ? "b" : "a");
        }
      },
    ),
    { numRuns: 25 },
  );
});

test("without loss every packet arrives, in the order in which the wires let it through", () => {
  const delay = fc.nat(3000);
  fc.assert(
    fc.property(
      fc.array(delay, { minLength: 1, maxLength: 40 }),
      fc.array(step, { maxLength: 12 }),
      (delays, steps) => {
        const pair = new Pair();
        let messages = 0;
        const arrivals: { readonly at: number; readonly toA: boolean }[] = [];
        pair.wire = (sent, by) => {
          const wait: Millis =
            sent.kind === "data" ? millis(delays[messages++ % delays.length] ?? 0) : millis(10);
          if (sent.kind === "data") arrivals.push({ at: sent.at + wait, toA: by === pair.b });
          return [wait];
        };
        const sent = play(pair, steps);
        expect(pair.a.packets.length + pair.b.packets.length).toBe(sent.size);
        for (const side of [pair.a, pair.b]) {
          const delivered = side.happened.flatMap((event) => (event.kind === "packet" ? [event.at] : []));
          const arrived = arrivals.filter(({ toA }) => toA === (side === pair.a)).map(({ at }) => at);
          expect(delivered).toEqual(arrived.sort((x, y) => x - y));
        }
      },
    ),
    { numRuns: 25 },
  );
});

test.each([
  { name: "our window", replayWindow: undefined, overtaking: 10_000, delivered: 1 },
  { name: "a small window", replayWindow: 100, overtaking: 100, delivered: 1 },
  { name: "a small window", replayWindow: 100, overtaking: 101, delivered: 0 },
])("$name: a packet overtaken by $overtaking others", ({ replayWindow, overtaking, delivered }) => {
  const { a, b, now } = overtake(new Pair({ replayWindow, suite: cheapSuite() }).connect(), overtaking);
  const late = b.happened.length;
  for (let event = b.wg.pollEvent(); event !== undefined; event = b.wg.pollEvent()) {
    if (event.kind === "packet") b.happened.push({ ...event, at: now });
  }
  expect(b.happened.length - late).toBe(delivered);
  expect(a.wg.counters.replay + b.wg.counters.replay).toBe(1 - delivered);
});

/** Delivers the last of `count` packets sent after a first one, then the first one. */
function overtake(pair: Pair, count: number): Pair {
  const { a, b, now } = pair;
  pair.send(a, 1, 24);
  const first = nextMessage(a);
  let last = first;
  for (let i = 0; i < count; i++) {
    pair.send(a, 2, 24);
    last = nextMessage(a);
  }
  b.wg.handleMessage(last, a.path, now);
  while (b.wg.pollEvent() !== undefined);
  b.wg.handleMessage(first, a.path, now);
  return pair;
}

/** Real handshakes, but packets that are not sealed at all: for counting up fast. */
function cheapSuite(): Suite {
  return {
    ...portableSuite,
    aeadSeal: (key, nonce, plaintext, associated) =>
      associated === undefined
        ? concat(plaintext, new Uint8Array(16))
        : portableSuite.aeadSeal(key, nonce, plaintext, associated),
    aeadOpen: (key, nonce, sealed, associated) =>
      associated === undefined
        ? sealed.subarray(0, sealed.length - 16)
        : portableSuite.aeadOpen(key, nonce, sealed, associated),
  };
}

/** Sends numbered packets as the steps say and lets everything settle. Returns who sent which. */
function play(
  pair: Pair,
  steps: readonly { readonly byA: boolean; readonly count: number; readonly pause: number }[],
): ReadonlyMap<number, "a" | "b"> {
  const sent = new Map<number, "a" | "b">();
  for (const { byA, count, pause } of steps) {
    for (let i = 0; i < count; i++) {
      const id = sent.size + 1;
      sent.set(id, byA ? "a" : "b");
      pair.send(byA ? pair.a : pair.b, id);
    }
    pair.run(millis(pause));
  }
  pair.run(seconds(40));
  return sent;
}
