import { type Random, randomFraction } from "../../base/random.ts";
import { type Millis, millis } from "../../base/time.ts";

/** The protocol's backoff: n² · 10 ms, each time between half and one and a half of it, 30 s at most. */
const UNIT = 10;
const LONGEST = 30_000;

export class Backoff {
  readonly #random: Random;
  #failures = 0;

  constructor(random: Random) {
    this.#random = random;
  }

  reset(): void {
    this.#failures = 0;
  }

  /** How long to wait after one more failure. */
  next(): Millis {
    this.#failures++;
    const wait = Math.min(UNIT * this.#failures ** 2, LONGEST);
    return millis(wait * (0.5 + randomFraction(this.#random)));
  }
}
