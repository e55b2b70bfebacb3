import { ExitChoice, type ExitCandidate } from "../../../agent/src/engine/exit-choice.ts";
import { type Instant, instant, millis } from "../../../agent/src/base/time.ts";

const candidate = (id: string, latency: number | undefined, online = true): ExitCandidate => ({
  id,
  latency: latency === undefined ? undefined : millis(latency),
  online,
});
const THREE = [candidate("far", 90), candidate("near", 10), candidate("middle", 40)];

/** A choice in a world where only those in `alive` answer, after 20 ms. */
class Bench {
  readonly choice = new ExitChoice();
  readonly alive: Set<string>;
  at = 0;
  #answers: { at: number; id: string }[] = [];

  constructor(...alive: readonly string[]) {
    this.alive = new Set(alive);
  }

  get now(): Instant {
    return instant(this.at);
  }

  tell(candidates: readonly ExitCandidate[]): void {
    this.choice.handleCandidates(candidates, this.now);
    this.#drain();
  }

  /** Jumps from deadline to deadline. */
  run(ms: number): void {
    const until = this.at + ms;
    for (;;) {
      const answer = this.#answers.toSorted((a, b) => a.at - b.at)[0];
      const due = this.choice.pollTimeout() ?? Infinity;
      const next = Math.min(answer?.at ?? Infinity, Math.max(due, this.at));
      if (next > until) break;
      this.at = next;
      if (answer?.at === next) {
        this.#answers = this.#answers.filter((one) => one !== answer);
        this.choice.handleAnswer(answer.id, this.now);
      } else {
        this.choice.handleTimeout(this.now);
      }
      this.#drain();
    }
    this.at = until;
  }

  #drain(): void {
    for (let id = this.choice.pollProbe(); id !== undefined; id = this.choice.pollProbe()) {
      if (this.alive.has(id)) this.#answers.push({ at: this.at + 20, id });
    }
  }
}

test("the one whose relay is nearest is taken at once", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  expect(bench.choice.current).toBe("near");
});

test("without any measurement the first that answers is taken after two seconds", () => {
  const bench = new Bench("middle");
  bench.tell(THREE.map(({ id }) => candidate(id, undefined)));
  bench.run(1900);
  expect(bench.choice.current).toBeUndefined();
  bench.run(200);
  expect(bench.choice.current).toBe("middle");
});

test("when it falls silent the next nearest that answers takes its place within six seconds", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  bench.run(10_000);
  expect(bench.choice.current).toBe("near");
  bench.alive.delete("near");
  bench.run(6000);
  expect(bench.choice.current).toBe("middle");
});

test("two lost answers move nothing", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  bench.run(10_000);
  bench.alive.delete("near");
  bench.run(1500);
  bench.alive.add("near");
  bench.run(60_000);
  expect(bench.choice.current).toBe("near");
});

test("where nobody answers it is our own network that is down, and nothing moves", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  bench.run(5000);
  bench.alive.clear();
  bench.run(120_000);
  expect(bench.choice.current).toBe("near");
  bench.alive.add("near").add("middle");
  bench.run(5000);
  expect(["near", "middle"]).toContain(bench.choice.current);
});

test("whom the server calls offline is asked at once, and left when it is silent", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  bench.run(5000);
  bench.alive.delete("near");
  bench.tell([candidate("far", 90), candidate("near", 10, false), candidate("middle", 40)]);
  bench.run(1100);
  expect(bench.choice.current).toBe("middle");
});

test("whom the server wrongly calls offline stays in use while it answers", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  bench.run(5000);
  bench.tell([candidate("far", 90), candidate("near", 10, false), candidate("middle", 40)]);
  bench.run(60_000);
  expect(bench.choice.current).toBe("near");
});

test("one that is gone from the map is replaced at once", () => {
  const bench = new Bench("far", "middle");
  bench.tell(THREE);
  bench.tell([candidate("far", 90), candidate("middle", 40)]);
  expect(bench.choice.current).toBe("middle");
  bench.tell([]);
  expect(bench.choice.current).toBeUndefined();
});

test("a nearer one is taken when it has been nearer for a minute and answers", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell([candidate("far", 90), candidate("middle", 40)]);
  bench.run(1000);
  bench.tell(THREE);
  bench.run(59_000);
  expect(bench.choice.current).toBe("middle");
  bench.run(2000);
  expect(bench.choice.current).toBe("near");
});

test("one that is hardly nearer, or only for a moment, is not", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell([candidate("middle", 40)]);
  bench.tell([candidate("middle", 40), candidate("near", 35)]);
  bench.run(300_000);
  expect(bench.choice.current).toBe("middle");
  for (let i = 0; i < 10; i++) {
    bench.tell([candidate("middle", 40), candidate("near", 5)]);
    bench.run(30_000);
    bench.tell([candidate("middle", 40), candidate("near", 39)]);
    bench.run(30_000);
  }
  expect(bench.choice.current).toBe("middle");
});

test("one that fell silent is not taken again for a minute, however near", () => {
  const bench = new Bench("far", "near", "middle");
  bench.tell(THREE);
  bench.alive.delete("near");
  bench.run(10_000);
  expect(bench.choice.current).toBe("middle");
  bench.alive.add("near");
  bench.tell(THREE);
  bench.run(45_000);
  expect(bench.choice.current).toBe("middle");
});
