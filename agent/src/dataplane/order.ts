/**
 * How symmetric workers share the reading and keep the order: one leads and reads, takes a ticket for what it has
 * read, and lets the next one lead while it seals or opens. What is ready goes out in the order of the tickets.
 */

/** Of three words, a cache line apart: tickets given out, whose turn it is, who waits for his. */
const TURN = 16;
const WAITING = 32;
const [FREE, HELD, CONTENDED] = [0, 1, 2];
/** Loads before a thread goes to sleep: a few microseconds, as long as the others' work takes. */
const SPINS = 2_000;
/** A missed wake-up costs no more than this (ms). */
const NAP = 2;

/** The right to read: a mutex whose holder may keep it for as long as there is little to do. */
export class Leader {
  readonly #words: Int32Array;
  readonly #at: number;
  leads = false;

  constructor(words: Int32Array, at: number) {
    this.#words = words;
    this.#at = at;
  }

  /** Returns false when `limit` milliseconds were not enough. */
  take(limit: number): boolean {
    if (this.leads) return true;
    const words = this.#words;
    if (Atomics.compareExchange(words, this.#at, FREE, HELD) !== FREE) {
      if (Atomics.exchange(words, this.#at, CONTENDED) !== FREE) {
        Atomics.wait(words, this.#at, CONTENDED, limit);
        if (Atomics.exchange(words, this.#at, CONTENDED) !== FREE) return false;
      }
    }
    this.leads = true;
    return true;
  }

  pass(): void {
    if (!this.leads) return;
    this.leads = false;
    if (Atomics.exchange(this.#words, this.#at, FREE) === CONTENDED) Atomics.notify(this.#words, this.#at, 1);
  }
}

/** The order of one direction. */
export class Order {
  readonly #words: Int32Array;
  readonly #at: number;
  readonly #stop: number;
  #ticket = 0;
  #hasTicket = false;
  #isOurs = false;

  /** `stop`: the word that ends all waiting. */
  constructor(words: Int32Array, at: number, stop: number) {
    this.#words = words;
    this.#at = at;
    this.#stop = stop;
  }

  /** Only for the one who leads. */
  takeTicket(): void {
    this.#ticket = Atomics.add(this.#words, this.#at, 1);
    this.#hasTicket = true;
    this.#isOurs = false;
  }

  /** Waits until everything that was read before is out. Without a ticket there is no order to keep. */
  awaitTurn(): void {
    if (!this.#hasTicket || this.#isOurs) return;
    const words = this.#words;
    const turn = this.#at + TURN;
    for (let i = 0; i < SPINS; i++) {
      if (Atomics.load(words, turn) === this.#ticket) {
        this.#isOurs = true;
        return;
      }
    }
    Atomics.add(words, this.#at + WAITING, 1);
    for (;;) {
      const current = Atomics.load(words, turn);
      if (current === this.#ticket || Atomics.load(words, this.#stop) !== 0) break;
      Atomics.wait(words, turn, current, NAP);
    }
    Atomics.sub(words, this.#at + WAITING, 1);
    this.#isOurs = true;
  }

  /** Everything is out: the next one's turn. */
  finish(): void {
    if (!this.#hasTicket) return;
    this.awaitTurn();
    this.#hasTicket = false;
    const words = this.#words;
    Atomics.store(words, this.#at + TURN, (this.#ticket + 1) | 0);
    if (Atomics.load(words, this.#at + WAITING) > 0) Atomics.notify(words, this.#at + TURN);
  }
}
