/**
 * Hears that somebody changed interfaces, addresses, routes, rules, forwarding or the packet filter: from the kernel, or where its
 * sockets can not be had from programs that print what it says. What we change ourselves is heard as well.
 */
import type { KernelChange } from "./change.ts";
import { type MonitorPrograms, watchByMonitors } from "./monitors.ts";
import { watchByNetlink } from "./netlink.ts";

export interface KernelWatch {
  /** Whether changes are heard at once; else the caller has to look now and then. */
  readonly isLive: boolean;
  close(): void;
}

/**
 * Never throws. It does not keep the process alive by itself.
 *
 * @param monitors what is run where the kernel can not be asked. @default nothing
 */
export function watchKernel(
  onChange: (change: KernelChange) => void,
  monitors?: MonitorPrograms,
): KernelWatch {
  const netlink = watchByNetlink(onChange);
  if (netlink !== undefined) return { isLive: true, close: () => netlink.close() };
  if (monitors === undefined) return { isLive: false, close: () => {} };
  const running = watchByMonitors(onChange, monitors);
  return { isLive: false, close: () => running.close() };
}
