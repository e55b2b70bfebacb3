/** Lengths of time as Go writes them ("300ms", "5s", "1m30s"): the form that users of these commands know. */
import type { Millis } from "../base/time.ts";
import { millis } from "../base/time.ts";

/** Down to microseconds: 0.1 is "100µs", 1234 is "1.234s", 90000 is "1m30s". */
export function durationText(ms: number): string {
  const micros = Math.round(ms * 1000);
  if (micros === 0) return "0s";
  if (micros < 1000) return `${micros}µs`;
  if (micros < 1_000_000) return `${micros / 1000}ms`;
  const seconds = micros / 1_000_000;
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  const rest = `${Number((seconds - 60 * minutes).toFixed(6))}s`;
  return minutes < 60 ? `${minutes}m${rest}` : `${Math.floor(minutes / 60)}h${minutes % 60}m${rest}`;
}

/** Reads "5s", "1m30s", "1.5h", "250ms"; undefined for what is none or negative. */
export function parseDuration(text: string): Millis | undefined {
  if (text === "0") return millis(0);
  if (!/^(\d+(\.\d+)?(ms|us|\u00b5s|s|m|h))+$/.test(text)) return undefined;
  let total = 0;
  for (const [, number, unit = ""] of text.matchAll(/(\d+(?:\.\d+)?)(ms|us|\u00b5s|s|m|h)/g)) {
    total += Number(number) * (UNITS.get(unit) ?? 0);
  }
  return millis(total);
}

/** In milliseconds. */
const UNITS: ReadonlyMap<string, number> = new Map([
  ["us", 0.001],
  ["µs", 0.001],
  ["ms", 1],
  ["s", 1000],
  ["m", 60_000],
  ["h", 3_600_000],
]);
