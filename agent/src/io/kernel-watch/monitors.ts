/** Hears of changes by `ip monitor` and `nft monitor`. Of what they print only what goes away is understood. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { Ip } from "../../base/address.ts";
import { type Millis, seconds } from "../../base/time.ts";
import { systemEnvironment } from "../command.ts";
import type { KernelChange } from "./change.ts";

export interface MonitorPrograms {
  /** Of iproute2. */
  readonly ip: string;
  /** Of nftables. */
  readonly nft: string;
}

/** A monitor that ended is started again. */
const RESTART_AFTER: Millis = seconds(5);

/** Without the programs it hears nothing. It does not keep the process alive. */
export function watchByMonitors(
  onChange: (change: KernelChange) => void,
  { ip, nft }: MonitorPrograms,
): { close(): void } {
  const running = new Set<ChildProcess>();
  const timers = new Set<NodeJS.Timeout>();
  let closed = false;
  const start = ([program = "", ...args]: readonly string[]): void => {
    const child = spawn(program, args, { env: systemEnvironment(), stdio: ["ignore", "pipe", "ignore"] });
    running.add(child);
    child.unref();
    if ("unref" in child.stdout && typeof child.stdout.unref === "function") child.stdout.unref();
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (!closed) onChange(parseMonitorLine(line));
    });
    child.on("error", () => {}); // "close" follows
    child.on("close", () => {
      running.delete(child);
      if (!closed) startLater([program, ...args]);
    });
  };
  const startLater = (command: readonly string[]): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      start(command);
      onChange({ kind: "lost" });
    }, RESTART_AFTER);
    timers.add(timer.unref());
  };
  start([ip, "-o", "monitor", "rule", "route", "link", "address"]);
  start([nft, "monitor", "tables"]);
  return {
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      for (const child of running) child.kill();
    },
  };
}

/** One line of either program. */
export function parseMonitorLine(line: string): KernelChange {
  const [, rule] = /^Deleted (\d+):\s+(?:not )?from /.exec(line) ?? [];
  if (rule !== undefined) return { kind: "rule-gone", priority: Number(rule) };
  const [, address] = /^Deleted \d+: \S+ +inet6? ([^\s/]+)/.exec(line) ?? [];
  const ip = address === undefined ? undefined : Ip.tryParse(address);
  if (ip !== undefined) return { kind: "address-gone", ip };
  const [, table] = /^Deleted .* table (\d+)\b/.exec(line) ?? [];
  if (table !== undefined) return { kind: "route-gone", table: Number(table) };
  const [, device] = /^\d+: ([^\s:@]+)(?:@[^\s:]+)?: <(?!(?:[^>]*,)?UP[,>])/.exec(line) ?? [];
  if (device !== undefined) return { kind: "device-down", device };
  const [, name] = /^delete table inet (\S+)/.exec(line) ?? [];
  return name === undefined ? { kind: "other" } : { kind: "table-gone", name };
}
