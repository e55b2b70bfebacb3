/** The settings of this machine that decide how fast packets go through it; absent ones are left out. */
import { readFileSync } from "node:fs";

const SETTINGS = [
  "net.core.rmem_max",
  "net.core.wmem_max",
  "net.core.netdev_max_backlog",
  "net.core.default_qdisc",
  "net.ipv4.tcp_congestion_control",
  "net.ipv4.ip_forward",
  "net.ipv6.conf.all.forwarding",
] as const;

export function readTuning(): Readonly<Record<string, string>> {
  const found = SETTINGS.flatMap((name) => {
    try {
      return [[name, readFileSync(`/proc/sys/${name.replaceAll(".", "/")}`, "utf8").trim()] as const];
    } catch {
      return [];
    }
  });
  return Object.fromEntries(found);
}
