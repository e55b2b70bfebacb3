/**
 * The socket and the device as the engine's driver knows them, on descriptors that the worker uses, too: the
 * engine writes by itself, and reads what the worker leaves to it.
 */
import type { IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { errnoName, type Libc, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET } from "../io/ffi/libc.ts";

const VNET_HEADER = 10;
/** errno of Linux. */
const EAGAIN = 11;

export class HostUdp {
  readonly localPort: number;
  readonly hasV6: boolean;
  readonly marked: boolean;
  readonly #libc: Libc;
  readonly #v4: number;
  readonly #v6: number;
  #receive: (from: IpPort, payload: Uint8Array) => void = () => {};
  #report: (to: IpPort, code: string) => void = () => {};
  #dropped = 0;
  #closed = false;

  constructor(libc: Libc, options: { v4: number; v6: number; localPort: number; marked: boolean }) {
    this.#libc = libc;
    this.#v4 = options.v4;
    this.#v6 = options.v6;
    this.localPort = options.localPort;
    this.hasV6 = options.v6 >= 0;
    this.marked = options.marked;
  }

  get dropped(): number {
    return this.#dropped;
  }

  get buffers(): { readonly receive: number; readonly send: number } | undefined {
    if (this.#closed) return undefined;
    const size = (option: number): number => this.#libc.getsockopt(this.#v4, SOL_SOCKET, option);
    return { receive: size(SO_RCVBUF), send: size(SO_SNDBUF) };
  }

  canReach(to: IpPort): boolean {
    return to.port !== 0 && (to.ip.isV4 || this.hasV6);
  }

  send(to: IpPort, payload: Uint8Array): void {
    if (this.#closed) return;
    if (!this.canReach(to)) return this.fail(to, to.port === 0 ? "EINVAL" : "EAFNOSUPPORT");
    const sent = this.#libc.sendto(to.ip.isV4 ? this.#v4 : this.#v6, payload, to);
    if (sent === -EAGAIN) this.#dropped++;
    else if (sent < 0) this.fail(to, errnoName(sent));
  }

  sendWhole(to: IpPort, payload: Uint8Array): void {
    if (!this.#closed && this.canReach(to))
      this.#libc.sendWhole(to.ip.isV4 ? this.#v4 : this.#v6, payload, to);
  }

  onDatagram(receive: (from: IpPort, payload: Uint8Array) => void): void {
    this.#receive = receive;
  }

  onError(report: (to: IpPort, code: string) => void): void {
    this.#report = report;
  }

  /** A datagram that the worker does not handle. */
  receive(from: IpPort, payload: Uint8Array): void {
    this.#receive(from, payload);
  }

  /** The sender may be at work on its own input: it hears of this afterwards. */
  fail(to: IpPort, code: string): void {
    queueMicrotask(() => {
      if (!this.#closed) this.#report(to, code);
    });
  }

  /** The descriptors are closed with the device. */
  close(): Promise<void> {
    this.#closed = true;
    return Promise.resolve();
  }
}

export class HostDevice {
  readonly kind = "tun";
  readonly name: string;
  readonly #libc: Libc;
  readonly #fd: number;
  readonly #headroom: number;
  readonly #close: () => Promise<void>;
  #receive: (packets: readonly Uint8Array[]) => void = () => {};
  #reportLost: (error: OperationError) => void = () => {};
  #dropped = 0;
  #closed = false;

  constructor(
    libc: Libc,
    { name, fd, offload }: { name: string; fd: number; offload: boolean },
    close: () => Promise<void>,
  ) {
    this.#libc = libc;
    this.#fd = fd;
    this.#headroom = offload ? VNET_HEADER : 0;
    this.#close = close;
    this.name = name;
  }

  get dropped(): number {
    return this.#dropped;
  }

  onPackets(receive: (packets: readonly Uint8Array[]) => void): void {
    this.#receive = receive;
  }

  onLost(report: (error: OperationError) => void): void {
    this.#reportLost = report;
  }

  write(packet: Uint8Array): void {
    if (this.#closed) return;
    const framed = new Uint8Array(this.#headroom + packet.length);
    framed.set(packet, this.#headroom);
    if (this.#libc.write(this.#fd, framed) < 0) this.#dropped++;
  }

  /** Packets that the worker does not handle. */
  receive(packets: readonly Uint8Array[]): void {
    this.#receive(packets);
  }

  lose(errno: string): void {
    this.#reportLost(
      new OperationError(
        "tun-lost",
        `TUN device ${this.name} is gone (${errno}): restart the daemon to create it anew`,
      ),
    );
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#close();
  }
}
