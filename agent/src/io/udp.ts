/**
 * The tunnel's one UDP port, for IPv4 and IPv6.
 *
 * WireGuard, disco and STUN share it. Two sockets of one family each, so that an IPv4 peer has an IPv4
 * address everywhere.
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { Ip, IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { isAbsent } from "./ffi/koffi.ts";
import {
  AF_INET,
  AF_INET6,
  errnoName,
  IPPROTO_IPV6,
  IPV6_V6ONLY,
  type Libc,
  loadLibc,
  SO_MARK,
  SO_RCVBUFFORCE,
  SO_RCVBUF,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_REUSEADDR,
  SOCK_DGRAM,
  SOL_SOCKET,
} from "./ffi/libc.ts";
import { codeOf } from "./system-error.ts";

export interface UdpOptions {
  /** This very port, or 0 for any that is free. */
  readonly port: number;
  /** @default "0.0.0.0" */
  readonly addressV4?: string;
  /** @default "::", or no IPv6 where `addressV4` is given */
  readonly addressV6?: string;
  /**
   * SO_MARK of every packet sent, so that routing rules can tell them from the tunnel's. Linux with the C
   * library and CAP_NET_ADMIN only; `marked` says whether it is set.
   */
  readonly mark?: number;
}

export interface UdpSocket {
  readonly localPort: number;
  readonly hasV6: boolean;
  readonly marked: boolean;
  /** What the kernel keeps for the IPv4 socket, in bytes; `undefined` where it can not be asked. */
  readonly buffers?: { readonly receive: number; readonly send: number } | undefined;
  /** Datagrams not sent because the sockets' queues were full. */
  readonly dropped: number;
  /** Never throws. `payload` must not change afterwards: the kernel may take it later. */
  send(to: IpPort, payload: Uint8Array): void;
  /**
   * Sends a datagram that is lost rather than cut into fragments; one that is too long is no error, since it asks just
   * that. Absent where that can not be had.
   */
  readonly sendWhole?: ((to: IpPort, payload: Uint8Array) => void) | undefined;
  /** The payload belongs to the receiver. Replaces the former one. */
  onDatagram(receive: (from: IpPort, payload: Uint8Array) => void): void;
  /**
   * What the system said about a destination: EHOSTUNREACH, ENETUNREACH, EPERM, EMSGSIZE… Never called from
   * within `send`. Replaces the former one.
   */
  onError(report: (to: IpPort, code: string) => void): void;
  close(): Promise<void>;
}

/** Room for 0.1 s at 300 Mbit/s; Linux gives less to those who are not root (net.core.rmem_max). */
const RECEIVE_BUFFER = 4 << 20;
/** A burst of one peer's window, sent at once. */
const SEND_BUFFER = 4 << 20;
/** From linux/udp.h. */
const SOL_UDP = 17;
const UDP_GRO = 104;
/** What may wait in Node for a socket whose kernel buffer is full. */
const SEND_QUEUE_LIMIT = 4 << 20;
/** How often another IPv4 port is tried where IPv6 has the same number in use. */
const PORT_ATTEMPTS = 8;
/** Senders whose parsed address is remembered; a flood from forged ones can not fill the memory. */
const SENDER_LIMIT = 4096;

/** IPv6 is left out where the system has none. @throws OperationError */
export async function bindUdp(options: UdpOptions): Promise<UdpSocket> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await bindBoth(options);
    } catch (error) {
      const code = codeOf(error);
      const again = code === "EADDRINUSE" && options.port === 0 && attempt < PORT_ATTEMPTS;
      if (!again) throw bindError(options, code, error);
    }
  }
}

/** Both sockets as descriptors, for whoever sends and receives by other means. */
export interface UdpDescriptors {
  readonly v4: number;
  /** -1 where the system has no IPv6. */
  readonly v6: number;
  readonly localPort: number;
  readonly marked: boolean;
  /** Whether the kernel hands over several datagrams of one sender as one. */
  readonly gro: boolean;
}

/** @param options.gro whether to ask for it @throws OperationError */
export function openUdpDescriptors(options: UdpOptions & { readonly gro: boolean }): UdpDescriptors {
  const libc = loadLibc();
  if (isAbsent(libc)) throw new OperationError("udp-no-ffi", `no sockets of our own here: ${libc.absent}`);
  for (let attempt = 1; ; attempt++) {
    try {
      return openBoth(options, libc);
    } catch (error) {
      const code = codeOf(error);
      const again = code === "EADDRINUSE" && options.port === 0 && attempt < PORT_ATTEMPTS;
      if (!again) throw bindError(options, code, error);
    }
  }
}

function openBoth(options: UdpOptions & { readonly gro: boolean }, libc: Libc): UdpDescriptors {
  const { addressV4 = "0.0.0.0", addressV6 = "::", port, mark } = options;
  const v4 = openMarked(libc, new IpPort(Ip.parse(addressV4), port), mark);
  const localPort = libc.localPort(v4.fd);
  const gro = prepareDescriptor(libc, v4, options.gro);
  try {
    const v6 = openMarked(libc, new IpPort(Ip.parse(addressV6), localPort), mark);
    prepareDescriptor(libc, v6, gro);
    return { v4: v4.fd, v6: v6.fd, localPort, marked: v4.marked && v6.marked, gro };
  } catch (error) {
    if (WITHOUT_V6.has(codeOf(error))) return { v4: v4.fd, v6: -1, localPort, marked: v4.marked, gro };
    libc.close(v4.fd);
    throw error;
  }
}

function prepareDescriptor(libc: Libc, opened: Opened, gro: boolean): boolean {
  const { fd } = opened;
  opened.afterBind();
  if (libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, SEND_BUFFER) < 0)
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER);
  return gro && libc.setsockopt(fd, SOL_UDP, UDP_GRO, 1) === 0;
}

async function bindBoth(options: UdpOptions): Promise<UdpSocket> {
  const { addressV4 = "0.0.0.0", mark } = options;
  const addressV6 = options.addressV6 ?? (options.addressV4 === undefined ? "::" : undefined);
  const v4 = await bindOne("udp4", addressV4, options.port, mark);
  if (addressV6 === undefined) return new DualSocket(v4, undefined);
  try {
    return new DualSocket(v4, await bindOne("udp6", addressV6, v4.socket.address().port, mark));
  } catch (error) {
    if (WITHOUT_V6.has(codeOf(error))) return new DualSocket(v4, undefined);
    v4.socket.close();
    throw error;
  }
}

const WITHOUT_V6: ReadonlySet<string> = new Set(["EAFNOSUPPORT", "EADDRNOTAVAIL", "EPROTONOSUPPORT"]);

interface Bound {
  readonly socket: Socket;
  /** Its descriptor and the C library, where there are such. */
  readonly native: { readonly libc: Libc; readonly fd: number } | undefined;
  readonly marked: boolean;
}

/** A literal address needs no look-up: answering at once spares each datagram a turn of the event loop. */
function literalLookup(
  address: string,
  _options: unknown,
  done: (error: null, address: string, family: number) => void,
): void {
  done(null, address, address.includes(":") ? 6 : 4);
}

async function bindOne(type: "udp4" | "udp6", address: string, port: number, mark?: number): Promise<Bound> {
  const libc = loadLibc();
  const opened = isAbsent(libc) ? undefined : openMarked(libc, new IpPort(Ip.parse(address), port), mark);
  const socket = createSocket({ type, ipv6Only: type === "udp6", lookup: literalLookup });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    const ready = (): void => {
      socket.removeListener("error", reject);
      resolve();
    };
    if (opened === undefined) socket.bind({ address, port, exclusive: true }, ready);
    else socket.bind({ fd: opened.fd, exclusive: true }, ready);
  }).catch((error: unknown) => {
    socket.close();
    throw error;
  });
  if (opened === undefined) trySetBuffer(socket);
  else opened.afterBind();
  socket.on("error", () => {}); // a socket's late error belongs to one datagram; send reports those
  const native = isAbsent(libc) || opened === undefined ? undefined : { libc, fd: opened.fd };
  return { socket, native, marked: opened?.marked ?? false };
}

interface Opened {
  readonly fd: number;
  readonly marked: boolean;
  afterBind(): void;
}

/** Opens the descriptor ourselves where we can, for the options that Node does not offer. */
function openMarked(libc: Libc, address: IpPort, mark: number | undefined): Opened {
  const fd = libc.socket(address.ip.isV4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
  if (fd < 0) throw new SystemError(errnoName(fd));
  if (!address.ip.isV4) libc.setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
  const marked = mark !== undefined && libc.setsockopt(fd, SOL_SOCKET, SO_MARK, mark) === 0;
  const bound = libc.bind(fd, address);
  if (bound < 0) {
    libc.close(fd);
    throw new SystemError(errnoName(bound));
  }
  return {
    fd,
    marked,
    afterBind() {
      // Node lets others share the port of a descriptor it did not bind. This one is ours alone.
      libc.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 0);
      if (libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER) < 0) {
        libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BUFFER);
      }
    },
  };
}

function trySetBuffer(socket: Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER);
  } catch {
    // the system's default has to do
  }
}

class DualSocket implements UdpSocket {
  readonly localPort: number;
  readonly hasV6: boolean;
  readonly marked: boolean;
  readonly sendWhole: UdpSocket["sendWhole"];
  readonly #v4: Socket;
  readonly #v6: Socket | undefined;
  readonly #senders = new SenderCache();
  /** One callback for each destination that is in use, made once. */
  readonly #reports = new WeakMap<IpPort, (error: Error | null) => void>();
  #receive: (from: IpPort, payload: Uint8Array) => void = () => {};
  #report: (to: IpPort, code: string) => void = () => {};
  #closed = false;
  #dropped = 0;

  constructor(v4: Bound, v6: Bound | undefined) {
    this.#v4 = v4.socket;
    this.#v6 = v6?.socket;
    this.localPort = v4.socket.address().port;
    this.hasV6 = v6 !== undefined;
    this.marked = v4.marked && (v6?.marked ?? true);
    this.sendWhole =
      v4.native === undefined ? undefined : (to, payload) => this.#sendWhole(v4, v6, to, payload);
    const receive = (payload: Uint8Array, info: RemoteInfo): void => {
      const from = this.#senders.get(info.address, info.port);
      if (from !== undefined) this.#receive(from, payload);
    };
    v4.socket.on("message", receive);
    v6?.socket.on("message", receive);
  }

  get dropped(): number {
    return this.#dropped;
  }

  get buffers(): UdpSocket["buffers"] {
    if (this.#closed) return undefined;
    return { receive: this.#v4.getRecvBufferSize(), send: this.#v4.getSendBufferSize() };
  }

  send(to: IpPort, payload: Uint8Array): void {
    if (this.#closed) return;
    const socket = to.ip.isV4 ? this.#v4 : this.#v6;
    if (socket === undefined) return this.#refuse(to, "EAFNOSUPPORT");
    if (to.port === 0) return this.#refuse(to, "EINVAL");
    if (socket.getSendQueueSize() > SEND_QUEUE_LIMIT) {
      this.#dropped++;
      return;
    }
    socket.send(payload, to.port, to.ip.text, this.#reportFor(to));
  }

  onDatagram(receive: (from: IpPort, payload: Uint8Array) => void): void {
    this.#receive = receive;
  }

  onError(report: (to: IpPort, code: string) => void): void {
    this.#report = report;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const sockets = this.#v6 === undefined ? [this.#v4] : [this.#v4, this.#v6];
    await Promise.all(sockets.map((socket) => new Promise<void>((resolve) => socket.close(resolve))));
  }

  #sendWhole(v4: Bound, v6: Bound | undefined, to: IpPort, payload: Uint8Array): void {
    const native = to.ip.isV4 ? v4.native : v6?.native;
    if (!this.#closed && native !== undefined) native.libc.sendWhole(native.fd, payload, to);
  }

  /** The sender is still at work on its own input: it hears of this afterwards, as of the system's errors. */
  #refuse(to: IpPort, code: string): void {
    queueMicrotask(() => {
      if (!this.#closed) this.#report(to, code);
    });
  }

  #reportFor(to: IpPort): (error: Error | null) => void {
    let callback = this.#reports.get(to);
    if (callback === undefined) {
      callback = (error) => {
        if (error !== null && !this.#closed) this.#report(to, codeOf(error));
      };
      this.#reports.set(to, callback);
    }
    return callback;
  }
}

/** Parsing an address per datagram is slow, and nearly all of them come from a few. */
class SenderCache {
  readonly #byAddress = new Map<string, Map<number, IpPort>>();
  #size = 0;
  #lastAddress = "";
  #last: IpPort | undefined;

  /** `undefined` for a link-local address with its zone, to which no peer can be told to send. */
  get(address: string, port: number): IpPort | undefined {
    if (this.#last?.port === port && address === this.#lastAddress) return this.#last;
    const found = this.#byAddress.get(address)?.get(port) ?? this.#add(address, port);
    if (found === undefined) return undefined;
    this.#lastAddress = address;
    this.#last = found;
    return found;
  }

  #add(address: string, port: number): IpPort | undefined {
    const ip = Ip.tryParse(address);
    if (ip === undefined) return undefined;
    if (this.#size >= SENDER_LIMIT) {
      this.#byAddress.clear();
      this.#size = 0;
    }
    const added = new IpPort(ip, port);
    const ports = this.#byAddress.get(address) ?? new Map<number, IpPort>();
    this.#byAddress.set(address, ports.set(port, added));
    this.#size++;
    return added;
  }
}

/** An error of a C function, in the form of Node's own. */
class SystemError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

function bindError(options: UdpOptions, code: string, cause: unknown): OperationError {
  const { port } = options;
  switch (code) {
    case "EADDRINUSE":
      return new OperationError(
        "udp-port-in-use",
        `UDP port ${port} is in use by another program: choose another with --port, or stop it`,
        { cause },
      );
    case "EACCES":
    case "EPERM":
      return new OperationError(
        "udp-permission",
        `no permission to use UDP port ${port}: choose one above 1023 with --port, or run as root`,
        { cause },
      );
    case "EADDRNOTAVAIL":
      return new OperationError(
        "udp-address",
        `${options.addressV4 ?? "0.0.0.0"} is not an address of this machine: choose one that "ip addr" shows`,
        { cause },
      );
    default:
      return new OperationError("udp-bind", `UDP port ${port} can not be opened: ${code}`, { cause });
  }
}
