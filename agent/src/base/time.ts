declare const brand: unique symbol;

/** A value that prints as a `T` but that only its constructor function can make. */
export type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** A point on a clock that never steps back, in milliseconds with fractions. Only differences mean anything. */
export type Instant = Branded<number, "Instant">;

/** A length of time, in milliseconds. */
export type Millis = Branded<number, "Millis">;

/** A point on the calendar: milliseconds since 1970-01-01T00:00:00Z. May step back. */
export type WallTime = Branded<number, "WallTime">;

export const millis = (n: number): Millis => n as Millis;
export const seconds = (n: number): Millis => (n * 1000) as Millis;
export const minutes = (n: number): Millis => (n * 60_000) as Millis;
export const after = (at: Instant, wait: Millis): Instant => (at + wait) as Instant;
export const since = (at: Instant, now: Instant): Millis => (now - at) as Millis;
export const instant = (n: number): Instant => n as Instant;
export const wallTime = (n: number): WallTime => n as WallTime;

/** The earlier of two deadlines, where `undefined` is never. */
export function earliest(a: Instant | undefined, b: Instant | undefined): Instant | undefined {
  if (a === undefined) return b;
  if (b === undefined) return a;
  return a <= b ? a : b;
}

/** Reads the calendar. The pure rooms take it as an argument, as they take the clock. */
export interface Calendar {
  now(): WallTime;
}
