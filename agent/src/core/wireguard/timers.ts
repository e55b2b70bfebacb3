/**
 * What a peer waits for, and how long (the paper, section 6; the timers of wireguard-go).
 *
 * | Timer        | Set when                                   | Cleared when             | Then                    |
 * |--------------|--------------------------------------------|--------------------------|-------------------------|
 * | retry        | an initiation was sent                     | a session is usable      | initiate again, give up |
 * | keepalive    | data came                                  | anything was sent        | send a keepalive        |
 * | newHandshake | data was sent                              | anything came            | initiate                |
 * | persistent   | anything was sent or came, if asked for    |                          | send a keepalive        |
 * | expiry       | a session was made                         |                          | forget its keys         |
 * | erase        | a session was made; or we gave up          |                          | forget all secrets      |
 */
import { after, earliest, type Instant, type Millis, millis, seconds } from "../../base/time.ts";
import { randomFraction, type Random } from "../../base/random.ts";
import { REJECT_AFTER_TIME } from "./keypair.ts";

/** The paper: between two initiations, and until an unanswered one is repeated. */
export const REKEY_TIMEOUT: Millis = seconds(5);
/** The paper: how long to go on repeating. */
export const REKEY_ATTEMPT_TIME: Millis = seconds(90);
/** The paper: silence after data received, until a keepalive tells the peer that it came. */
export const KEEPALIVE_TIMEOUT: Millis = seconds(10);
/** wireguard-go: data sent and nothing heard for so long means that the peer has lost the session. */
export const NEW_HANDSHAKE_TIMEOUT: Millis = millis(KEEPALIVE_TIMEOUT + REKEY_TIMEOUT);
/** The paper: the initiator replaces a pair that receives at this age, while it still works. */
export const REKEY_ON_RECEIVE_TIME: Millis = millis(REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT);
/** The paper: three times the life of a session after the last new one. */
export const ERASE_TIME: Millis = millis(3 * REJECT_AFTER_TIME);
/** wireguard-go: a third of a second, so that two peers do not repeat in step. */
const JITTER: Millis = millis(333);

export type TimerName = "retry" | "keepalive" | "newHandshake" | "persistent" | "expiry" | "erase";

/** The earliest moment at which any timer of any peer may be due. Never too late; too early when one was cleared. */
export class Wakeup {
  #at: Instant | undefined;

  get at(): Instant | undefined {
    return this.#at;
  }

  sooner(at: Instant): void {
    if (this.#at === undefined || at < this.#at) this.#at = at;
  }

  reset(at: Instant | undefined): void {
    this.#at = at;
  }
}

export class Timers {
  readonly #wakeup: Wakeup;
  readonly #deadlines: Record<TimerName, Instant | undefined> = {
    retry: undefined,
    keepalive: undefined,
    newHandshake: undefined,
    persistent: undefined,
    expiry: undefined,
    erase: undefined,
  };

  constructor(wakeup: Wakeup) {
    this.#wakeup = wakeup;
  }

  set(name: TimerName, at: Instant): void {
    this.#deadlines[name] = at;
    this.#wakeup.sooner(at);
  }

  clear(name: TimerName): void {
    this.#deadlines[name] = undefined;
  }

  isSet(name: TimerName): boolean {
    return this.#deadlines[name] !== undefined;
  }

  /** When the timer was due, if it is; it is cleared then. */
  take(name: TimerName, now: Instant): Instant | undefined {
    const at = this.#deadlines[name];
    if (at === undefined || now < at) return undefined;
    this.#deadlines[name] = undefined;
    return at;
  }

  next(): Instant | undefined {
    return Object.values(this.#deadlines).reduce(earliest, undefined);
  }
}

export function withJitter(at: Instant, random: Random): Instant {
  return after(at, millis(randomFraction(random) * JITTER));
}
