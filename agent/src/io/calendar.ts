import { type Calendar, wallTime } from "../base/time.ts";

/** The machine's calendar. It may step back, so durations come from the clock. */
export const systemCalendar: Calendar = { now: () => wallTime(Date.now()) };
