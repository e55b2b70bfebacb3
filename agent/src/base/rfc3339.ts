/** Calendar times as text (RFC 3339), as the JSON of the control protocol carries them. */
import { type WallTime, wallTime } from "./time.ts";

const DAY = 86_400_000;
const FORM = /^(\d{4})-(\d{2})-(\d{2})[Tt](\d{2}):(\d{2}):(\d{2})(\.\d+)?(?:[Zz]|([+-])(\d{2}):(\d{2}))$/;

/**
 * Reads "2026-11-22T08:52:30.788Z"; what is finer than a millisecond is dropped. `undefined` when it is not such a
 * text. Go's zero time ("0001-01-01T00:00:00Z") stands for "no time", so it is `undefined` too.
 */
export function parseRfc3339(text: string): WallTime | undefined {
  const match = FORM.exec(text);
  if (match === null) return undefined;
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const [fraction = "0", sign, offsetHours, offsetMinutes] = match.slice(7);
  if (month < 1 || month > 12 || day < 1 || day > daysIn(year, month)) return undefined;
  if (hour > 23 || minute > 59 || second > 60) return undefined;
  if (year === 1 && month === 1 && day === 1) return undefined;
  const offset = (Number(offsetHours ?? 0) * 60 + Number(offsetMinutes ?? 0)) * (sign === "-" ? -1 : 1);
  const ofDay = ((hour * 60 + minute - offset) * 60 + second) * 1000 + Math.floor(Number(fraction) * 1000);
  return wallTime(daysSince1970(year, month, day) * DAY + ofDay);
}

/** Writes "2026-11-22T08:52:30.788Z", always with milliseconds. For the years 1 to 9999. */
export function formatRfc3339(at: WallTime): string {
  const days = Math.floor(at / DAY);
  const ofDay = Math.floor(at - days * DAY);
  const [year, month, day] = civil(days);
  const date = `${pad(year, 4)}-${pad(month, 2)}-${pad(day, 2)}`;
  const [hour, minute] = [Math.floor(ofDay / 3_600_000), Math.floor(ofDay / 60_000) % 60];
  const time = `${pad(hour, 2)}:${pad(minute, 2)}:${pad(Math.floor(ofDay / 1000) % 60, 2)}`;
  return `${date}T${time}.${pad(ofDay % 1000, 3)}Z`;
}

function pad(n: number, width: number): string {
  return String(n).padStart(width, "0");
}

function daysIn(year: number, month: number): number {
  if (month === 2) return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0 ? 29 : 28;
  return [4, 6, 9, 11].includes(month) ? 30 : 31;
}

/** Days of the Gregorian calendar, counted in years that begin in March so that the leap day comes last. */
function daysSince1970(year: number, month: number, day: number): number {
  const y = month <= 2 ? year - 1 : year;
  const era = Math.floor(y / 400);
  const ofEra = y - era * 400;
  const ofYear = Math.floor((153 * ((month + 9) % 12) + 2) / 5) + day - 1;
  return era * 146_097 + ofEra * 365 + Math.floor(ofEra / 4) - Math.floor(ofEra / 100) + ofYear - 719_468;
}

function civil(days: number): readonly [number, number, number] {
  const shifted = days + 719_468;
  const era = Math.floor(shifted / 146_097);
  const ofEra = shifted - era * 146_097;
  const leaps = Math.floor(ofEra / 1460) - Math.floor(ofEra / 36_524) + Math.floor(ofEra / 146_096);
  const yearOfEra = Math.floor((ofEra - leaps) / 365);
  const leapDays = Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100);
  const ofYear = ofEra - (365 * yearOfEra + leapDays);
  const m = Math.floor((5 * ofYear + 2) / 153);
  const month = m < 10 ? m + 3 : m - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  return [year, month, ofYear - Math.floor((153 * m + 2) / 5) + 1];
}
