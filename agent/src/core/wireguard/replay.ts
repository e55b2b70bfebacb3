/**
 * The replay window (RFC 6479): which counters of a session were received already.
 *
 * A ring of 32-bit blocks, one bit a counter, and one block more than the window needs, so that
 * whole blocks can be cleared as the window moves on.
 */

/** Ours: a move from a slow relay to a fast direct path makes packets overtake by this many. Stock peers keep 8,128. */
export const DEFAULT_REPLAY_WINDOW = 65_536;
/** Counters from here on are refused (the paper: 2^64 − 2^13 − 1). */
export const REJECT_AFTER_MESSAGES: bigint = 2n ** 64n - 2n ** 13n - 1n;

const BLOCK_BITS = 32;
const BLOCK_SHIFT = 5n;

export class ReplayWindow {
  readonly #window: bigint;
  readonly #ring: Uint32Array;
  readonly #blocks: bigint;
  #greatest = 0n;

  /** `size`: how far a counter may lie behind the greatest one. */
  constructor(size: number = DEFAULT_REPLAY_WINDOW) {
    this.#window = BigInt(size);
    this.#ring = new Uint32Array(Math.ceil(size / BLOCK_BITS) + 1);
    this.#blocks = BigInt(this.#ring.length);
  }

  /** Whether `counter` is new and not too old. Changes nothing: ask before opening a packet. */
  isFresh(counter: bigint): boolean {
    if (counter >= REJECT_AFTER_MESSAGES) return false;
    if (counter > this.#greatest) return true;
    if (this.#greatest - counter > this.#window) return false;
    return ((this.#ring[this.#slot(counter)] ?? 0) & bitOf(counter)) === 0;
  }

  /** Remembers a fresh `counter`: call it only after its packet proved authentic. */
  mark(counter: bigint): void {
    if (counter > this.#greatest) this.#advance(counter);
    const slot = this.#slot(counter);
    this.#ring[slot] = (this.#ring[slot] ?? 0) | bitOf(counter);
  }

  #advance(counter: bigint): void {
    const from = this.#greatest >> BLOCK_SHIFT;
    const steps = (counter >> BLOCK_SHIFT) - from;
    this.#greatest = counter;
    if (steps >= this.#blocks) {
      this.#ring.fill(0);
      return;
    }
    for (let step = 1n; step <= steps; step++) this.#ring[Number((from + step) % this.#blocks)] = 0;
  }

  #slot(counter: bigint): number {
    return Number((counter >> BLOCK_SHIFT) % this.#blocks);
  }
}

function bitOf(counter: bigint): number {
  return 1 << Number(counter & 31n);
}
