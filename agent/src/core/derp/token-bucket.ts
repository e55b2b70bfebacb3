import { type Instant, since } from "../../base/time.ts";

/** Lets through `perSecond` on average and at most `burst` at once; begins full. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #filledAt: Instant;

  constructor(perSecond: number, burst: number, now: Instant) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
    this.#filledAt = now;
  }

  /** Takes all of `amount` or nothing. @returns whether it was there */
  take(amount: number, now: Instant): boolean {
    const earned = (Math.max(0, since(this.#filledAt, now)) / 1000) * this.#perSecond;
    this.#tokens = Math.min(this.#burst, this.#tokens + earned);
    this.#filledAt = now;
    if (this.#tokens < amount) return false;
    this.#tokens -= amount;
    return true;
  }
}
