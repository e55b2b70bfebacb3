/**
 * Keeps a move from a slow relay to a fast direct path within the receiver's replay window.
 *
 * Packets sent directly overtake those still in flight on the relay. A stock WireGuard peer
 * accepts a packet at most 8,128 counters behind the newest; older ones it takes for
 * replays. So for as long as relayed packets may be in flight, no more go out directly than
 * fit; the others wait, at most one round trip of the relay.
 */
import { after, type Instant, type Millis, millis, since } from "../base/time.ts";

/** Counters that may separate the oldest packet in flight from the newest: 8,128 less a reserve. */
const WINDOW = 7_500;
/** The relay's round trip where it was never measured. */
const UNKNOWN_ROUND_TRIP: Millis = millis(500);
/** Relayed packets are counted in steps of this, and for this long. */
const STEP: Millis = millis(10);
const MEMORY: Millis = millis(2_000);

export class HoldBack {
  #relayed: { readonly at: Instant; count: number }[] = [];
  #until: Instant | undefined;
  #allowance = 0;
  #held: Uint8Array[] = [];
  relayRoundTrip: Millis = UNKNOWN_ROUND_TRIP;

  /** A packet goes out by the relay. */
  noteRelayed(now: Instant): void {
    const last = this.#relayed.at(-1);
    if (last !== undefined && since(last.at, now) < STEP) {
      last.count++;
      return;
    }
    this.#relayed.push({ at: now, count: 1 });
    while (this.#relayed.length > MEMORY / STEP) this.#relayed.shift();
  }

  /** From now on packets go out directly. */
  begin(now: Instant): void {
    const inFlight = this.#relayed
      .filter(({ at }) => since(at, now) <= this.relayRoundTrip + STEP)
      .reduce((sum, { count }) => sum + count, 0);
    this.#relayed = [];
    this.#allowance = Math.max(0, WINDOW - inFlight);
    this.#until = inFlight === 0 ? undefined : after(now, this.relayRoundTrip);
  }

  /** Whether a packet may go out directly now. One that may not has been kept. */
  admit(packet: Uint8Array, now: Instant): boolean {
    if (this.#until === undefined) return true;
    if (now >= this.#until && this.#held.length === 0) {
      this.#until = undefined;
      return true;
    }
    if (this.#held.length === 0 && this.#allowance-- > 0) return true;
    this.#held.push(packet);
    return false;
  }

  /** The packets whose wait is over, in their order. */
  release(now: Instant): readonly Uint8Array[] {
    if (this.#until === undefined || now < this.#until) return [];
    const held = this.#held;
    this.#held = [];
    this.#until = undefined;
    return held;
  }

  pollTimeout(): Instant | undefined {
    return this.#held.length === 0 ? undefined : this.#until;
  }
}
