/**
 * Keeps a move from a slow relay to a fast direct path within the receiver's replay window.
 *
 * Packets sent directly overtake those still in flight on the relay. A stock WireGuard peer
 * accepts a packet at most 8,128 counters behind the newest; older ones it takes for
 * replays. So no more go out directly than fit together with those in flight; the others
 * wait until some of these have arrived.
 */
import { after, type Instant, type Millis, millis, since } from "../base/time.ts";

/** Counters that may separate the oldest packet in flight from the newest: 8,128 less a reserve. */
const WINDOW = 7_500;
/** The relay's round trip where it was never measured. */
const UNKNOWN_ROUND_TRIP: Millis = millis(500);
/** Relayed packets are counted in steps of this. */
const STEP: Millis = millis(5);
/** No relay is slower one way. */
const MEMORY: Millis = millis(2_000);

interface Batch {
  readonly at: Instant;
  count: number;
}

export class HoldBack {
  readonly #relayed: Batch[] = [];
  #inFlight = 0;
  /** Packets sent directly since the move, while it settles. */
  #direct: number | undefined;
  #held: Uint8Array[] = [];
  relayRoundTrip: Millis = UNKNOWN_ROUND_TRIP;

  /** A packet goes out by the relay. */
  noteRelayed(now: Instant): void {
    this.#inFlight++;
    const last = this.#relayed.at(-1);
    if (last !== undefined && since(last.at, now) < STEP) last.count++;
    else this.#relayed.push({ at: now, count: 1 });
    this.#forgetArrived(now);
  }

  /** From now on packets go out directly. */
  begin(now: Instant): void {
    this.#forgetArrived(now);
    this.#direct = this.#inFlight === 0 ? undefined : 0;
  }

  /** Whether a packet may go out directly now. One that may not has been kept. */
  admit(packet: Uint8Array, now: Instant): boolean {
    if (this.#direct === undefined) return true;
    this.#forgetArrived(now);
    if (this.#held.length === 0 && this.#mayPass()) return true;
    this.#held.push(packet);
    return false;
  }

  /** The packets whose wait is over, in their order. */
  release(now: Instant): readonly Uint8Array[] {
    this.#forgetArrived(now);
    let count = 0;
    while (count < this.#held.length && this.#mayPass()) count++;
    return this.#held.splice(0, count);
  }

  /** Whether nothing needs to be held back any more. */
  isSettled(now: Instant): boolean {
    if (this.#direct === undefined) return true;
    this.#forgetArrived(now);
    if (this.#inFlight === 0 && this.#held.length === 0) this.#direct = undefined;
    return this.#direct === undefined;
  }

  pollTimeout(): Instant | undefined {
    const [oldest] = this.#relayed;
    return this.#held.length === 0 || oldest === undefined ? undefined : after(oldest.at, this.#arrival());
  }

  #mayPass(): boolean {
    if (this.#inFlight === 0 || this.#direct === undefined) {
      this.#direct = undefined;
      return true;
    }
    if (this.#inFlight + this.#direct >= WINDOW) return false;
    this.#direct++;
    return true;
  }

  /** How long a relayed packet may be under way: half a round trip, and some for a lopsided one. */
  #arrival(): Millis {
    return millis(Math.min(MEMORY, 0.6 * this.relayRoundTrip + 2 * STEP));
  }

  #forgetArrived(now: Instant): void {
    const arrival = this.#arrival();
    for (let [oldest] = this.#relayed; oldest !== undefined; [oldest] = this.#relayed) {
      if (since(oldest.at, now) < arrival) return;
      this.#inFlight -= oldest.count;
      this.#relayed.shift();
    }
  }
}
