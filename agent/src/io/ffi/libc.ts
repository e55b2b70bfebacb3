/**
 * The functions of Linux's C library that Node does not offer: devices, raw sockets, socket options.
 *
 * Descriptors here are plain numbers and every call is non-blocking or short. A call that fails
 * returns what the kernel said as a number below zero: `-errno`.
 */
import { constants } from "node:os";
import { Ip, IpPort } from "../../base/address.ts";
import { viewOf } from "../../base/bytes.ts";
import { type Absent, isAbsent, type Koffi, loadKoffi } from "./koffi.ts";

/** From linux/fcntl.h (generic architectures: x64, arm64, riscv64). The last two serve for sockets too. */
export const O_RDWR = 0o2;
export const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

/** From linux/socket.h, linux/in.h and asm-generic/socket.h. */
const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_NETLINK = 16;
export const AF_INET6 = 10;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const IPPROTO_ICMP = 1;
export const IPPROTO_ICMPV6 = 58;
export const IPPROTO_IPV6 = 41;
export const IPV6_V6ONLY = 26;
export const SOL_SOCKET = 1;
export const SO_REUSEADDR = 2;
export const SO_SNDBUF = 7;
export const SO_RCVBUF = 8;
export const SO_SNDBUFFORCE = 32;
export const SO_RCVBUFFORCE = 33;
export const SO_MARK = 36;
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IPV6_MTU_DISCOVER = 23;
/** What Linux begins with; and "don't fragment" whatever size is believed to pass. */
const [PMTUDISC_WANT, PMTUDISC_PROBE] = [1, 3];

const SOCKADDR_IN_LENGTH = 16;
const SOCKADDR_IN6_LENGTH = 28;

/** A descriptor that is being watched. */
export interface Watch {
  close(): void;
}

export interface Libc {
  /** The new descriptor, or -errno. */
  open(path: string, flags: number): number;
  /** Reads one packet or chunk into `out`: its length, or -errno. */
  read(fd: number, out: Uint8Array): number;
  write(fd: number, bytes: Uint8Array): number;
  /** `argument` is read and written by the kernel. */
  ioctl(fd: number, request: number, argument: Uint8Array): number;
  /** Where the argument is a number, not an address. */
  ioctlValue(fd: number, request: number, value: number): number;
  close(fd: number): number;
  socket(family: number, type: number, protocol: number): number;
  bind(fd: number, address: IpPort): number;
  /** Hears what the kernel tells the groups, one bit each. */
  bindNetlink(fd: number, groups: number): number;
  /** Two Unix datagram sockets, each other's end; or -errno. A pair can stand in for a device. */
  socketPair(): readonly [number, number] | number;
  /** The port that a socket is bound to, or -errno. */
  localPort(fd: number): number;
  /** Sets an option whose value is an int. */
  setsockopt(fd: number, level: number, option: number, value: number): number;
  /** The value of an option that is an int, or -errno. */
  getsockopt(fd: number, level: number, option: number): number;
  /** A raw ICMP socket takes port 0. */
  sendto(fd: number, bytes: Uint8Array, to: IpPort): number;
  /** As a datagram that nobody on the way, nor this machine, may cut into fragments. -EMSGSIZE where it is too long. */
  sendWhole(fd: number, bytes: Uint8Array, to: IpPort): number;
  /** One datagram: its length and source, or -errno. A raw IPv4 socket hands out the IP header too. */
  recvfrom(fd: number, out: Uint8Array): { readonly length: number; readonly from: IpPort } | number;
  /**
   * Calls back whenever `fd` can be read without blocking, from Node's own event loop: no thread waits, so
   * nothing holds up the end of the process. An error of the descriptor counts as readable, and ends the watch.
   * Close the watch before the descriptor.
   */
  watchReadable(fd: number, ready: () => void): Watch;
}

let loaded: Libc | undefined;

/** Never throws. Absent without koffi and on systems other than Linux. */
export function loadLibc(): Libc | Absent {
  if (process.platform !== "linux") return { absent: `the system is ${process.platform}, not Linux` };
  const koffi = loadKoffi();
  if (isAbsent(koffi)) return koffi;
  loaded ??= bindFunctions(koffi);
  return loaded;
}

/** "EPERM" for -1 or 1; the number as text when it has no name. */
export function errnoName(errno: number): string {
  const wanted = Math.abs(errno);
  for (const [name, value] of Object.entries(constants.errno)) if (value === wanted) return name;
  return `errno ${wanted}`;
}

function bindFunctions(koffi: Koffi): Libc {
  const c = koffi.load(null);
  const orErrno = (result: number): number => (result < 0 ? -koffi.errno() : result);
  const open = c.func("int open(const char *path, int flags)");
  const read = c.func("intptr_t read(int fd, void *out, size_t length)");
  const write = c.func("intptr_t write(int fd, const void *bytes, size_t length)");
  const ioctl = c.func("int ioctl(int fd, unsigned long request, void *argument)");
  const ioctlValue = c.func("ioctl", "int", ["int", "unsigned long", "unsigned long"]);
  const close = c.func("int close(int fd)");
  const socketpair = c.func("int socketpair(int family, int type, int protocol, void *both)");
  const getsockname = c.func("int getsockname(int fd, void *address, void *length)");
  const socket = c.func("int socket(int family, int type, int protocol)");
  const bind = c.func("int bind(int fd, const void *address, uint32_t length)");
  const setsockopt = c.func(
    "int setsockopt(int fd, int level, int option, const void *value, uint32_t length)",
  );
  const getsockopt = c.func("int getsockopt(int fd, int level, int option, void *value, void *length)");
  const sendto = c.func(
    "intptr_t sendto(int fd, const void *bytes, size_t length, int flags, const void *to, uint32_t toLength)",
  );
  const recvfrom = c.func(
    "intptr_t recvfrom(int fd, void *out, size_t length, int flags, void *from, void *fromLength)",
  );
  return {
    open: (path, flags) => orErrno(open(path, flags | O_CLOEXEC)),
    read: (fd, out) => orErrno(read(fd, out, out.length)),
    write: (fd, bytes) => orErrno(write(fd, bytes, bytes.length)),
    ioctl: (fd, request, argument) => orErrno(ioctl(fd, request, argument)),
    ioctlValue: (fd, request, value) => orErrno(ioctlValue(fd, request, value)),
    close: (fd) => orErrno(close(fd)),
    socketPair() {
      const both = new Int32Array(2);
      const result = orErrno(socketpair(AF_UNIX, SOCK_DGRAM | O_CLOEXEC | O_NONBLOCK, 0, both));
      return result < 0 ? result : [both[0] ?? -1, both[1] ?? -1];
    },
    localPort(fd) {
      const address = new Uint8Array(SOCKADDR_IN6_LENGTH);
      const result = orErrno(getsockname(fd, address, Uint32Array.of(address.length)));
      return result < 0 ? result : decodeSockaddr(address).port;
    },
    socket: (family, type, protocol) => orErrno(socket(family, type | O_CLOEXEC | O_NONBLOCK, protocol)),
    bind(fd, address) {
      const bytes = encodeSockaddr(address);
      return orErrno(bind(fd, bytes, bytes.length));
    },
    bindNetlink(fd, groups) {
      const bytes = encodeSockaddrNetlink(groups);
      return orErrno(bind(fd, bytes, bytes.length));
    },
    setsockopt: (fd, level, option, value) =>
      orErrno(setsockopt(fd, level, option, Int32Array.of(value), Int32Array.BYTES_PER_ELEMENT)),
    getsockopt(fd, level, option) {
      const value = new Int32Array(1);
      const result = orErrno(getsockopt(fd, level, option, value, Uint32Array.of(value.byteLength)));
      return result < 0 ? result : (value[0] ?? 0);
    },
    sendto(fd, bytes, to) {
      const address = encodeSockaddr(to);
      return orErrno(sendto(fd, bytes, bytes.length, 0, address, address.length));
    },
    sendWhole(fd, bytes, to) {
      const address = encodeSockaddr(to);
      const discover = (how: number): number => {
        const [level, option] = to.ip.isV4
          ? [IPPROTO_IP, IP_MTU_DISCOVER]
          : [IPPROTO_IPV6, IPV6_MTU_DISCOVER];
        return orErrno(setsockopt(fd, level, option, Int32Array.of(how), Int32Array.BYTES_PER_ELEMENT));
      };
      const asked = discover(PMTUDISC_PROBE);
      if (asked < 0) return asked;
      const sent = orErrno(sendto(fd, bytes, bytes.length, 0, address, address.length));
      discover(PMTUDISC_WANT);
      return sent;
    },
    recvfrom(fd, out) {
      const from = new Uint8Array(SOCKADDR_IN6_LENGTH);
      const length = orErrno(recvfrom(fd, out, out.length, 0, from, Uint32Array.of(from.length)));
      return length < 0 ? length : { length, from: decodeSockaddr(from) };
    },
    watchReadable: (fd, ready) => new PollWatch(koffi, fd, ready),
  };
}

/** koffi closes a handle that nobody refers to. */
const openWatches = new Set<PollWatch>();

class PollWatch implements Watch {
  #handle: ReturnType<Koffi["node"]["poll"]> | undefined;

  constructor(koffi: Koffi, fd: number, ready: () => void) {
    let pending = false;
    const report = (): void => {
      pending = false;
      if (this.#handle !== undefined) ready();
    };
    // koffi calls back outside of Node's callback scope, where promises do not go on and errors get lost.
    this.#handle = koffi.node.poll(fd, { readable: true }, () => {
      if (!pending) setImmediate(report);
      pending = true;
    });
    openWatches.add(this);
  }

  close(): void {
    this.#handle?.close(); // a second call would crash
    this.#handle = undefined;
    openWatches.delete(this);
  }
}

/**
 *     sockaddr_in   family (2, host order)  port (2)  address (4)  zero (8)
 *     sockaddr_in6  family (2, host order)  port (2)  flow (4)     address (16)  scope (4)
 */
export function encodeSockaddr(to: IpPort): Uint8Array {
  const out = new Uint8Array(to.ip.isV4 ? SOCKADDR_IN_LENGTH : SOCKADDR_IN6_LENGTH);
  const view = viewOf(out);
  view.setUint16(0, to.ip.isV4 ? AF_INET : AF_INET6, true);
  view.setUint16(2, to.port);
  out.set(to.ip.bytes, to.ip.isV4 ? 4 : 8);
  return out;
}

/** sockaddr_nl: family (2, host order)  zero (2)  port, 0 for the kernel's choice (4)  groups (4, host order) */
function encodeSockaddrNetlink(groups: number): Uint8Array {
  const out = new Uint8Array(12);
  viewOf(out).setUint16(0, AF_NETLINK, true);
  viewOf(out).setUint32(8, groups, true);
  return out;
}

export function decodeSockaddr(bytes: Uint8Array): IpPort {
  const view = viewOf(bytes);
  const v4 = view.getUint16(0, true) === AF_INET;
  return new IpPort(Ip.fromBytes(v4 ? bytes.subarray(4, 8) : bytes.subarray(8, 24)), view.getUint16(2));
}
