/**
 * The timestamp inside an initiation, by which a responder tells a new one from a replay.
 *
 *      0                               8               12
 *     +-------------------------------+---------------+
 *     | 2^62 + 10 + unix seconds, BE  | nanos, BE     |
 *     +-------------------------------+---------------+
 *
 * The low 24 bits of the nanoseconds are zero, so that nobody learns our exact clock. What
 * remains are steps of 16.8 ms: sixty a second, and we count time in these.
 */
import { viewOf } from "../../base/bytes.ts";
import type { Calendar } from "../../base/time.ts";

export const TAI64N_LENGTH = 12;

/** A count of steps since 1970: sixty for each second (999,999,999 >> 24 is 59). */
export type Stamp = number;

const STEPS_PER_SECOND = 60;
const NANOS_PER_STEP = 2 ** 24;
const NANOS_PER_MILLI = 1e6;
/** TAI64 labels the second 1970-01-01T00:00:00 TAI as 2^62; unix time was 10 s behind it. */
const TAI_HIGH_WORD = 0x4000_0000;
const TAI_OFFSET_SECONDS = 10;

/** The stamp of a unix second and the nanoseconds in it. */
export function stampOf(second: number, nanos: number): Stamp {
  return second * STEPS_PER_SECOND + Math.floor(nanos / NANOS_PER_STEP);
}

export function encodeTai64n(stamp: Stamp): Uint8Array {
  const tai = Math.floor(stamp / STEPS_PER_SECOND) + TAI_OFFSET_SECONDS;
  const out = new Uint8Array(TAI64N_LENGTH);
  const view = viewOf(out);
  view.setUint32(0, TAI_HIGH_WORD + Math.floor(tai / 2 ** 32));
  view.setUint32(4, tai % 2 ** 32);
  view.setUint32(8, (stamp % STEPS_PER_SECOND) * NANOS_PER_STEP);
  return out;
}

/** Whether timestamp `a` is greater than `b`, both as they are on the wire. */
export function isLater(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < TAI64N_LENGTH; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/** Stamps our initiations: never lower than one given before, even if the calendar steps back. */
export class StampClock {
  readonly #calendar: Calendar;
  #highest: Stamp = 0;

  constructor(calendar: Calendar) {
    this.#calendar = calendar;
  }

  /** A stamp greater than `last`, the one that the same peer was given before. */
  next(last: Stamp): Stamp {
    const time = Math.max(0, this.#calendar.now());
    const second = Math.floor(time / 1000);
    this.#highest = Math.max(this.#highest, stampOf(second, (time - second * 1000) * NANOS_PER_MILLI));
    return Math.max(this.#highest, last + 1);
  }
}
