/**
 * Hears that somebody changed interfaces, addresses, routes, rules, forwarding or the packet filter. What changed it does not
 * say: whoever asked looks for himself.
 */
import { isAbsent } from "../ffi/koffi.ts";
import { AF_NETLINK, type Libc, loadLibc, SOCK_RAW, type Watch } from "../ffi/libc.ts";

export interface KernelWatch {
  /** Whether changes are heard at once; else the caller has to look now and then. */
  readonly isLive: boolean;
  close(): void;
}

/** From linux/netlink.h. */
const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
/** Groups of linux/rtnetlink.h, as bits: link, addresses, routes and rules of both families, and their settings (netconf). */
const ROUTE_GROUPS = [1, 5, 7, 8, 9, 11, 19, 24, 25].reduce((bits, group) => bits | (1 << (group - 1)), 0);
/** NFNLGRP_NFTABLES of linux/netfilter/nfnetlink.h. */
const NFTABLES_GROUPS = 1 << (7 - 1);

const BUFFER_LENGTH = 64 * 1024;

/** Never throws. It does not keep the process alive by itself. */
export function watchKernel(onChange: () => void): KernelWatch {
  const libc = loadLibc();
  if (isAbsent(libc)) return { isLive: false, close: () => {} };
  const sockets = [
    openNetlink(libc, NETLINK_ROUTE, ROUTE_GROUPS, onChange),
    openNetlink(libc, NETLINK_NETFILTER, NFTABLES_GROUPS, onChange),
  ];
  return {
    isLive: sockets.every((socket) => socket !== undefined),
    close: () => {
      for (const socket of sockets) socket?.close();
    },
  };
}

function openNetlink(libc: Libc, protocol: number, groups: number, onChange: () => void): Watch | undefined {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW, protocol);
  if (fd < 0) return undefined;
  if (libc.bindNetlink(fd, groups) < 0) {
    libc.close(fd);
    return undefined;
  }
  const buffer = new Uint8Array(BUFFER_LENGTH);
  const watch = libc.watchReadable(fd, () => {
    // ENOBUFS says that some were lost, so something changed.
    while (libc.read(fd, buffer) > 0);
    onChange();
  });
  return {
    close() {
      watch.close();
      libc.close(fd);
    },
  };
}
