/**
 * The log: an event and its fields on standard error, one line each.
 *
 * JSON where a program reads it, short lines where a person does. Only the fields given are written,
 * and they are plain values, so no key or object can slip in. Writing is synchronous: the last line
 * before a crash is there.
 */
import { writeSync } from "node:fs";
import pino from "pino";
import type { Log, LogFields } from "../base/log.ts";

export const logLevels = ["debug", "info", "warn", "error"] as const;

export type LogLevel = (typeof logLevels)[number];

export interface LoggerOptions {
  /** @default "info" */
  readonly level?: LogLevel;
  /** Short lines for people instead of JSON. @default whether standard error is a terminal */
  readonly human?: boolean;
  /** @default standard error */
  readonly write?: (line: string) => void;
}

export function createLogger(options: LoggerOptions = {}): Log {
  const write = options.write ?? writeToStderr;
  const human = options.human ?? process.stderr.isTTY;
  const logger = pino(
    {
      level: options.level ?? "info",
      base: null,
      messageKey: "event",
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    { write: human ? (line: string) => write(humanLine(line)) : write },
  );
  return {
    debug: (event, fields) => logger.debug({ ...fields }, event),
    info: (event, fields) => logger.info({ ...fields }, event),
    warn: (event, fields) => logger.warn({ ...fields }, event),
    error: (event, fields) => logger.error({ ...fields }, event),
  };
}

const STDERR = 2;
/** Of the widest level. */
const LEVEL_WIDTH = 5;

function writeToStderr(line: string): void {
  try {
    writeSync(STDERR, line);
  } catch {
    // A reader that went away or is slow (EPIPE, EAGAIN) must not stop the tunnel.
  }
}

/** "12:30:05 info  registered name=exit1 home=nyc" */
function humanLine(json: string): string {
  const { level, time, event, ...fields } = JSON.parse(json) as LogFields;
  const clock = String(time).slice("2026-01-01T".length, "2026-01-01T00:00:00".length);
  const pairs = Object.entries(fields).map(([name, value]) => ` ${name}=${quoted(String(value))}`);
  return `${clock} ${String(level).padEnd(LEVEL_WIDTH)} ${String(event)}${pairs.join("")}\n`;
}

function quoted(text: string): string {
  return /^[^\s"=]+$/.test(text) ? text : JSON.stringify(text);
}
