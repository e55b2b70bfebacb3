/**
 * Hears of changes that others make to rules, routes, devices and tables of nftables: `ip monitor` and `nft monitor`.
 *
 * What they print is not read for its meaning beyond "something of ours went away"; who hears of it sets everything again.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { type Millis, millis, seconds } from "../base/time.ts";
import { systemEnvironment } from "./command.ts";

export interface WatchOptions {
  /** Program and arguments, such as ["ip", "monitor", "rule", "route", "link"]. */
  readonly commands: readonly (readonly string[])[];
  /** Whether a line tells of something that must be set right. */
  readonly matters: (line: string) => boolean;
  /** Called a moment after such a line; several at once count as one. */
  readonly onDisturbed: () => void;
}

/** Who removes one rule often removes the others, too. */
const SETTLE: Millis = millis(100);
/** A monitor that ended is started again. */
const RESTART_AFTER: Millis = seconds(5);

/** Without the programs it hears nothing. It does not keep the process alive. */
export function watchKernel({ commands, matters, onDisturbed }: WatchOptions): { close(): void } {
  const running = new Set<ChildProcess>();
  const timers = new Set<NodeJS.Timeout>();
  let settling = false;
  let closed = false;
  const later = (delay: Millis, run: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      run();
    }, delay);
    timer.unref();
    timers.add(timer);
  };
  const heard = (line: string): void => {
    if (closed || settling || !matters(line)) return;
    settling = true;
    later(SETTLE, () => {
      settling = false;
      onDisturbed();
    });
  };
  const start = ([program = "", ...args]: readonly string[]): void => {
    const child = spawn(program, args, { env: systemEnvironment(), stdio: ["ignore", "pipe", "ignore"] });
    running.add(child);
    child.unref();
    if ("unref" in child.stdout && typeof child.stdout.unref === "function") child.stdout.unref();
    createInterface({ input: child.stdout }).on("line", heard);
    child.on("error", () => {}); // "close" follows
    child.on("close", () => {
      running.delete(child);
      if (!closed) later(RESTART_AFTER, () => start([program, ...args]));
    });
  };
  for (const command of commands) start(command);
  return {
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      for (const child of running) child.kill();
    },
  };
}
