/** The machine's clock and its alarm: the only place where running code reads the time that passes. */
import { after, type Instant, instant, type Millis } from "../base/time.ts";

/** The longest wait that `setTimeout` takes: a signed 32-bit number of milliseconds. */
const LONGEST_TIMEOUT = 0x7fff_ffff;

export function now(): Instant {
  return instant(performance.now());
}

export interface WakeupOptions {
  /** Whether a pending wake-up keeps the process alive. @default true */
  readonly keepAlive?: boolean;
}

/**
 * One alarm. Setting it replaces the former one, and it never rings early.
 *
 * It is set after every packet, nearly always to a later time: then the running timer is left alone and
 * set again when it fires.
 */
export class Wakeup {
  readonly #keepAlive: boolean;
  #timer: NodeJS.Timeout | undefined;
  #firesAt: Instant | undefined;
  #at: Instant | undefined;
  #wake: (() => void) | undefined;

  constructor(options: WakeupOptions = {}) {
    this.#keepAlive = options.keepAlive ?? true;
  }

  /** `undefined` is never. A time that has passed rings on the next turn of the event loop. */
  wakeAt(at: Instant | undefined, wake: () => void): void {
    this.#at = at;
    this.#wake = wake;
    if (at === undefined) this.cancel();
    else if (this.#firesAt === undefined || at < this.#firesAt) this.#arm(at);
  }

  cancel(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#firesAt = undefined;
    this.#at = undefined;
    this.#wake = undefined;
  }

  #arm(at: Instant): void {
    clearTimeout(this.#timer);
    const from = now();
    const wait = Math.min(Math.max(0, Math.ceil(at - from)), LONGEST_TIMEOUT);
    this.#firesAt = after(from, wait as Millis);
    this.#timer = setTimeout(() => this.#fire(), wait);
    if (!this.#keepAlive) this.#timer.unref();
  }

  #fire(): void {
    this.#timer = undefined;
    this.#firesAt = undefined;
    const [at, wake] = [this.#at, this.#wake];
    if (at === undefined || wake === undefined) return;
    if (now() < at) return this.#arm(at);
    this.cancel();
    wake();
  }
}
