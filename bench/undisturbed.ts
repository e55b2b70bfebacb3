/**
 * Measures while the machine has its processors: on a shared host a virtual machine is now and then denied them, which the
 * kernel counts as stolen time. What was measured then says nothing of the programs, and is measured again.
 */
import { readFileSync } from "node:fs";

/** Of all processors' time. */
const TOLERATED = 0.03;
const TRIES = 4;
const STEAL = 7;
const FIRST_GUEST = 8;

export class Undisturbed {
  /** Measured again. */
  #repeated = 0;
  /** Kept although they were disturbed. */
  #kept = 0;

  /** The last of a few tries where none is undisturbed. */
  async measure<T>(measure: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      const before = processorTime();
      const measured = await measure();
      const after = processorTime();
      const share = (after.stolen - before.stolen) / Math.max(1, after.all - before.all);
      if (share <= TOLERATED) return measured;
      if (attempt === TRIES) {
        this.#kept++;
        return measured;
      }
      this.#repeated++;
    }
  }

  summary(): string {
    const share = `${TOLERATED * 100} %`;
    return `The host took over ${share} of the processors from ${this.#repeated} measurements, which were repeated, and from ${this.#kept} that were kept.`;
  }
}

/** In ticks, since the machine started: user, nice, system, idle, iowait, irq, softirq, steal; guest is in user (proc(5)). */
function processorTime(): { readonly all: number; readonly stolen: number } {
  const [line = ""] = readFileSync("/proc/stat", "latin1").split("\n");
  const ticks = line
    .trim()
    .split(/\s+/)
    .slice(1, FIRST_GUEST + 1)
    .map(Number);
  return { all: ticks.reduce((sum, one) => sum + one, 0), stolen: ticks[STEAL] ?? 0 };
}
