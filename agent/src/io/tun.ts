/**
 * The TUN device: where the kernel hands over the packets that are routed into the tunnel.
 *
 * It moves bytes only. Addresses and routes are `router.ts`, what the packets mean is the engine's.
 */
import { constants } from "node:os";
import { viewOf } from "../base/bytes.ts";
import { OperationError } from "../base/errors.ts";
import { isAbsent } from "./ffi/koffi.ts";
import {
  AF_INET,
  errnoName,
  type Libc,
  loadLibc,
  O_NONBLOCK,
  O_RDWR,
  SOCK_DGRAM,
  type Watch,
} from "./ffi/libc.ts";

/** A device that IP packets come out of and go into, real or in memory. */
export interface PacketDevice {
  readonly name: string;
  readonly kind: "tun" | "memory";
  /** Takes the packets that the host sends, in batches. They belong to the receiver. Replaces the former one. */
  onPackets(receive: (packets: readonly Uint8Array[]) => void): void;
  /** Hands a packet to the host. Never throws: what the kernel refuses is dropped and counted. */
  write(packet: Uint8Array): void;
  /** Called once when somebody else deletes the device. It hands out no packets any more. */
  onLost?(report: (error: OperationError) => void): void;
  close(): Promise<void>;
}

export interface Tun extends PacketDevice {
  readonly kind: "tun";
  /** Packets that the kernel did not take: the queue was full, the device down, or it was no IP packet. */
  readonly dropped: number;
  /** Called once when somebody else deletes the device. It hands out no packets any more. */
  onLost(report: (error: OperationError) => void): void;
}

export interface TunOptions {
  /** At most 15 characters. */
  readonly name: string;
  /** Bytes. */
  readonly mtu: number;
  /** @default "/dev/net/tun" */
  readonly devicePath?: string;
}

/** From linux/if_tun.h and linux/sockios.h. */
const TUNSETIFF = 0x400454ca;
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFF_VNET_HDR = 0x4000;
const TUNSETOFFLOAD = 0x400454d0;
/** TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6; TUN_F_USO4 and TUN_F_USO6, which Linux 6.2 and later take, and only together. */
const OFFLOADS = 0x01 | 0x02 | 0x04;
const UDP_OFFLOADS = 0x20 | 0x40;
const SIOCSIFMTU = 0x8922;
/** struct ifreq of 64-bit Linux: the name in 16 bytes with a final zero, then flags or a number. */
const IFREQ_LENGTH = 40;
const IFREQ_VALUE_AT = 16;
const NAME_LIMIT = IFREQ_VALUE_AT - 1;

/** The largest IP packet. */
const READ_LENGTH = 65_535;
/** Packets read before other events get their turn. */
const BATCH_LIMIT = 64;

const { EAGAIN, EINTR } = constants.errno;

const REMEDY = "run as root, give CAP_NET_ADMIN, or use --tun memory";

/** Creates the device, which goes away when it is closed or the process ends. @throws OperationError */
export function openTun(options: TunOptions): Promise<Tun> {
  return new Promise((resolve) => resolve(createTun(options, needLibc())));
}

/** An open TUN device, for whoever reads and writes it by other means. */
export interface TunDescriptor {
  readonly name: string;
  readonly fd: number;
  /** Reads and writes begin with a virtio header: packets may be large and without checksums. */
  readonly offload: boolean;
  /** That goes for UDP, too. */
  readonly udpOffload: boolean;
}

/** Opens the device with what the kernel offers of segmentation and checksums. @throws OperationError */
export function openTunDescriptor(options: TunOptions & { readonly offload: boolean }): TunDescriptor {
  const libc = needLibc();
  const { name, offload: wanted } = options;
  const fd = attach(options, libc, wanted ? IFF_VNET_HDR : 0);
  const udpOffload = wanted && libc.ioctlValue(fd, TUNSETOFFLOAD, OFFLOADS | UDP_OFFLOADS) === 0;
  if (wanted && !udpOffload) libc.ioctlValue(fd, TUNSETOFFLOAD, OFFLOADS);
  return { name, fd, offload: wanted, udpOffload };
}

function createTun(options: TunOptions, libc: Libc): Tun {
  return new LinuxTun(libc, options.name, attach(options, libc, 0));
}

/** Why no TUN device can be used here, whatever its name; `undefined` where one may. */
export function whyNoTun(): string | undefined {
  const libc = loadLibc();
  return isAbsent(libc) ? libc.absent : undefined;
}

function needLibc(): Libc {
  const libc = loadLibc();
  if (!isAbsent(libc)) return libc;
  throw new OperationError(
    "tun-no-ffi",
    `a TUN device can not be used here (${libc.absent}): use --tun memory`,
  );
}

/** Creates the device. Returns its descriptor. */
function attach(options: TunOptions, libc: Libc, flags: number): number {
  const { name, mtu, devicePath = "/dev/net/tun" } = options;
  if (!/^[^\s/:%]+$/.test(name) || name.length > NAME_LIMIT) {
    throw new OperationError(
      "tun-name",
      `"${name}" can not be a TUN device's name: choose one of 1 to ${NAME_LIMIT} letters, digits or dashes`,
    );
  }
  const fd = libc.open(devicePath, O_RDWR | O_NONBLOCK);
  if (fd < 0) throw openError(devicePath, errnoName(fd));
  const attached = libc.ioctl(fd, TUNSETIFF, ifreq(name, IFF_TUN | IFF_NO_PI | flags));
  if (attached < 0) {
    libc.close(fd);
    throw attachError(name, errnoName(attached));
  }
  const resized = setMtu(libc, name, mtu);
  if (resized < 0) {
    libc.close(fd);
    throw new OperationError(
      "tun-mtu",
      `TUN device ${name} does not take an MTU of ${mtu} bytes (${errnoName(resized)}): choose 1280 to 65535`,
    );
  }
  return fd;
}

class LinuxTun implements Tun {
  readonly kind = "tun";
  readonly name: string;
  readonly #libc: Libc;
  readonly #scratch = new Uint8Array(READ_LENGTH);
  #fd: number | undefined;
  #watch: Watch | undefined;
  #dropped = 0;
  #reportLost: (error: OperationError) => void = () => {};

  constructor(libc: Libc, name: string, fd: number) {
    this.#libc = libc;
    this.name = name;
    this.#fd = fd;
  }

  get dropped(): number {
    return this.#dropped;
  }

  onPackets(receive: (packets: readonly Uint8Array[]) => void): void {
    this.#watch?.close();
    if (this.#fd === undefined) return;
    this.#watch = this.#libc.watchReadable(this.#fd, () => {
      const packets: Uint8Array[] = [];
      const lost = this.#readBatch(packets);
      if (packets.length > 0) receive(packets);
      if (lost !== undefined) this.#lose(lost);
    });
  }

  onLost(report: (error: OperationError) => void): void {
    this.#reportLost = report;
  }

  write(packet: Uint8Array): void {
    if (this.#fd === undefined || this.#libc.write(this.#fd, packet) < 0) this.#dropped++;
  }

  close(): Promise<void> {
    this.#watch?.close();
    this.#watch = undefined;
    if (this.#fd !== undefined) this.#libc.close(this.#fd);
    this.#fd = undefined;
    return Promise.resolve();
  }

  /** Returns the errno of a device that will never be readable again. */
  #readBatch(packets: Uint8Array[]): string | undefined {
    while (this.#fd !== undefined && packets.length < BATCH_LIMIT) {
      const length = this.#libc.read(this.#fd, this.#scratch);
      if (length < 0) return length === -EAGAIN || length === -EINTR ? undefined : errnoName(length);
      packets.push(this.#scratch.slice(0, length));
    }
    return undefined;
  }

  #lose(errno: string): void {
    this.#watch?.close();
    this.#watch = undefined;
    this.#reportLost(
      new OperationError(
        "tun-lost",
        `TUN device ${this.name} is gone (${errno}): restart the daemon to create it anew`,
      ),
    );
  }
}

function ifreq(name: string, value: number): Uint8Array {
  const out = new Uint8Array(IFREQ_LENGTH);
  new TextEncoder().encodeInto(name, out.subarray(0, NAME_LIMIT));
  viewOf(out).setUint32(IFREQ_VALUE_AT, value, true);
  return out;
}

/** Zero, or -errno. */
function setMtu(libc: Libc, name: string, mtu: number): number {
  const socket = libc.socket(AF_INET, SOCK_DGRAM, 0);
  if (socket < 0) return socket;
  const result = libc.ioctl(socket, SIOCSIFMTU, ifreq(name, mtu));
  libc.close(socket);
  return result;
}

function openError(path: string, errno: string): OperationError {
  switch (errno) {
    case "ENOENT":
    case "ENODEV":
    case "ENXIO":
      return new OperationError(
        "tun-missing",
        `this machine has no ${path} (${errno}): load the module with "modprobe tun", ` +
          `in a container add --device /dev/net/tun, or use --tun memory`,
      );
    case "EPERM":
    case "EACCES":
      return new OperationError("tun-permission", `no permission to open ${path} (${errno}): ${REMEDY}`);
    default:
      return new OperationError("tun-open", `${path} can not be opened (${errno}): ${REMEDY}`);
  }
}

function attachError(name: string, errno: string): OperationError {
  switch (errno) {
    case "EBUSY":
      return new OperationError(
        "tun-busy",
        `TUN device ${name} is in use by another program: stop it, or choose another name with --tun`,
      );
    case "EPERM":
    case "EACCES":
      return new OperationError(
        "tun-permission",
        `no permission to create TUN device ${name} (${errno}): ${REMEDY}`,
      );
    case "EINVAL":
      return new OperationError(
        "tun-busy",
        `${name} is taken by a network interface that is not a TUN device: choose another name with --tun`,
      );
    default:
      return new OperationError("tun-create", `TUN device ${name} can not be created (${errno}): ${REMEDY}`);
  }
}
