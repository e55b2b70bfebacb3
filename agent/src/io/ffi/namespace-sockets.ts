/**
 * Sockets in other network namespaces. A socket belongs to the namespace that its maker was in, so one process can hold sockets
 * in many: this thread steps into the namespace, opens the socket and steps back, without letting anything else run between.
 */
import type { IpPort } from "../../base/address.ts";
import { OperationError } from "../../base/errors.ts";
import { isAbsent, loadKoffi } from "./koffi.ts";
import { AF_INET, AF_INET6, errnoName, loadLibc, SO_REUSEADDR, SOL_SOCKET } from "./libc.ts";

/** From linux/socket.h. */
export const SOCK_STREAM = 1;
/** From linux/sched.h. */
const CLONE_NEWNET = 0x40000000;
const O_RDONLY = 0;
/** From linux/in.h. */
const IPPROTO_IP = 0;
const IP_TTL = 2;

export interface NamespaceSocket {
  /** What `ip netns` calls it; undefined for our own. */
  readonly netns: string | undefined;
  /** SOCK_STREAM or SOCK_DGRAM of libc.ts. */
  readonly type: number;
  readonly address: IpPort;
}

/** A bound socket's descriptor. @throws OperationError */
export function openSocketIn({ netns, type, address }: NamespaceSocket): number {
  const libc = loadLibc();
  if (isAbsent(libc)) throw new OperationError("namespace", `no socket in a namespace here: ${libc.absent}`);
  const checked = (result: number, what: string): number => {
    if (result >= 0) return result;
    const where = netns === undefined ? "" : ` in the namespace ${netns}`;
    throw new OperationError("namespace", `can not ${what}${where}: ${errnoName(result)}`);
  };
  const open = (): number => {
    const family = address.ip.isV4 ? AF_INET : AF_INET6;
    const fd = checked(libc.socket(family, type, 0), "open a socket");
    libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    const bound = libc.bind(fd, address);
    if (bound < 0) libc.close(fd);
    checked(bound, `bind ${address.text}`);
    return fd;
  };
  if (netns === undefined) return open();
  const own = checked(libc.open("/proc/thread-self/ns/net", O_RDONLY), "find this namespace");
  const other = libc.open(`/run/netns/${netns}`, O_RDONLY);
  try {
    checked(other, "find it");
    checked(setns(other), "enter it");
    try {
      return open();
    } finally {
      checked(setns(own), "come back from it");
    }
  } finally {
    libc.close(own);
    if (other >= 0) libc.close(other);
  }
}

/** How many routers what is sent on this socket passes. */
export function setTimeToLive(fd: number, hops: number): void {
  const libc = loadLibc();
  if (!isAbsent(libc)) libc.setsockopt(fd, IPPROTO_IP, IP_TTL, hops);
}

let bound: ((fd: number, type: number) => number) | undefined;

function setns(fd: number): number {
  const koffi = loadKoffi();
  if (isAbsent(koffi)) throw new OperationError("namespace", koffi.absent);
  bound ??= koffi.load(null).func("int setns(int fd, int type)") as (fd: number, type: number) => number;
  return bound(fd, CLONE_NEWNET) < 0 ? -koffi.errno() : 0;
}
