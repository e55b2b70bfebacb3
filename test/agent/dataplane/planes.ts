/** Data planes without threads, between a pair of Unix sockets that plays the device and UDP on the loopback. */
import { IpPort } from "../../../agent/src/base/address.ts";
import { cutPacket, decodeVirtioHeader } from "../../../agent/src/core/ip/offload.ts";
import {
  createMemory,
  type Layout,
  planMemory,
  type SharedMemory,
} from "../../../agent/src/dataplane/memory.ts";
import { Kind } from "../../../agent/src/dataplane/messages.ts";
import { DataPlane, type PlaneOptions } from "../../../agent/src/dataplane/plane.ts";
import { RingReader, RingWriter } from "../../../agent/src/dataplane/ring.ts";
import { type FastCalls, loadFastCalls } from "../../../agent/src/io/ffi/fast-calls.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import {
  AF_INET,
  decodeSockaddr,
  encodeSockaddr,
  loadLibc,
  SOCK_DGRAM,
  SOL_SOCKET,
} from "../../../agent/src/io/ffi/libc.ts";

export const MTU = 1280;
/** The peer's. */
export const PREFIXES: readonly string[] = ["100.0.0.0/8", "fd00::/8"];
export const KEYS = { a: new Uint8Array(32).fill(0xa1), b: new Uint8Array(32).fill(0xb2) };
const SECOND_KEYS = { a: new Uint8Array(32).fill(0xc3), b: new Uint8Array(32).fill(0xd4) };

const [calls, libc] = [loadFastCalls(), loadLibc()];
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const SOL_UDP = 17;
const UDP_GRO = 104;
const BUFFER = 1 << 22;
/** A turn leaves what is too much for one. */
const TURNS = 8;

/** A test that failed has not closed what it opened. */
const opened = new Set<number>();

export function closePlanes(): void {
  for (const fd of opened) if (!isAbsent(calls)) calls.close(fd);
  opened.clear();
}

/** One data plane and what is around it: 10 is its index, 20 the peer's. */
export interface Ends {
  readonly plane: DataPlane;
  readonly aead: string;
  readonly address: IpPort;
  readonly peerAddress: IpPort;
  toDevice(read: Uint8Array): void;
  /** Packets written to the device, large ones cut. */
  fromDevice(): readonly Uint8Array[];
  toPlane(datagram: Uint8Array): void;
  /** As the engine hands over what came by a relay, and wakes the worker. Returns false when there is no room. */
  relay(message: Uint8Array): boolean;
  wake(): void;
  /** Another socket of the peer. */
  openSocket(): PeerSocket;
  /** Where the peer was heard, as the engine is told. */
  roamed(): readonly IpPort[];
  /** What it sent to the peer. */
  datagrams(): readonly Uint8Array[];
  /** How many: reading them costs less than keeping them. */
  countDatagrams(): number;
  turn(): void;
  counter(index: number): number;
  handedPackets(): readonly Uint8Array[];
  /** All that it handed to the engine, by kind. */
  handedOver(): readonly { readonly kind: number; readonly bytes: Uint8Array }[];
  handedDatagrams(): readonly Uint8Array[];
  useSecondSession(other: Ends): void;
  close(): void;
}

export interface EndOptions extends Partial<PlaneOptions> {
  /** As `planMemory` has it. */
  readonly gap?: number;
}

export interface PeerSocket {
  readonly address: IpPort;
  toPlane(datagram: Uint8Array): void;
  datagrams(): readonly Uint8Array[];
}

/** `refuse`: an errno for messages of `size` that the kernel shall not take as a train; 0 for those that it may. */
export function openEnds(options: EndOptions, refuse?: (size: number) => number): Ends {
  const peer = openUdp(false);
  return openOne(options, { isA: true, peer, peerAddress: peer.address, refuse });
}

/** Two that send to each other. */
export function openPair(options: Partial<PlaneOptions>): {
  readonly a: Ends;
  readonly b: Ends;
  close(): void;
} {
  const [ua, ub] = [openUdp(options.gro !== false), openUdp(options.gro !== false)];
  const a = openOne(options, { isA: true, own: ua, peerAddress: ub.address });
  const b = openOne(options, { isA: false, own: ub, peerAddress: ua.address });
  const close = (): void => {
    a.close();
    b.close();
  };
  return { a, b, close };
}

interface Udp {
  readonly fd: number;
  readonly address: IpPort;
}

function need(): {
  calls: Exclude<typeof calls, { absent: string }>;
  libc: Exclude<typeof libc, { absent: string }>;
} {
  if (isAbsent(calls) || isAbsent(libc)) throw new Error("no koffi");
  return { calls, libc };
}

function openUdp(gro: boolean): Udp {
  const { libc: c } = need();
  const fd = c.socket(AF_INET, SOCK_DGRAM, 0);
  opened.add(fd);
  c.bind(fd, IpPort.parse("127.0.0.1:0"));
  c.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER);
  if (gro) c.setsockopt(fd, SOL_UDP, UDP_GRO, 1);
  return { fd, address: IpPort.parse(`127.0.0.1:${c.localPort(fd)}`) };
}

interface Place {
  readonly isA: boolean;
  readonly own?: Udp;
  /** Whose end of the wire the test holds. */
  readonly peer?: Udp;
  readonly peerAddress: IpPort;
  readonly refuse?: ((size: number) => number) | undefined;
}

function openOne(
  { gap, ...changes }: EndOptions,
  { isA, own = openUdp(true), peer, peerAddress, refuse }: Place,
): Ends {
  const { calls: f, libc: c } = need();
  const pair = c.socketPair();
  if (typeof pair === "number") throw new Error(`no socket pair: ${pair}`);
  const [device, deviceEnd] = pair;
  const descriptors = [device, deviceEnd, f.eventfd(), f.eventfd()];
  for (const fd of descriptors) opened.add(fd);
  for (const fd of pair) c.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER);
  const options: PlaneOptions = {
    mtu: MTU,
    maxSessions: 4,
    maxPeers: 4,
    tun: device,
    offload: true,
    udpOffload: true,
    udp4: own.fd,
    udp6: -1,
    gso: true,
    gro: true,
    wantedAead: process.env["SALLYPORT_AEAD"],
    wakeWorker: descriptors[2] ?? -1,
    wakeEngine: descriptors[3] ?? -1,
    ...changes,
  };
  const layout = planMemory({ ...options, gap });
  const memory = createMemory(layout);
  const refusing =
    refuse === undefined ? f : { ...f, sendmsg: refusingSend(f.sendmsg, memory, layout, refuse) };
  const plane = new DataPlane(options, refusing, memory, layout);
  introduce(plane, isA, peerAddress);
  const ring = (place: Layout["packets"]): RingReader => new RingReader(memory.buffer, layout.control, place);
  const [packets, datagrams, reports] = [ring(layout.packets), ring(layout.datagrams), ring(layout.reports)];
  const relayed = new RingWriter(memory.buffer, layout.control, layout.relayed);
  const scratch = new Uint8Array(70_000);
  const readAll = (fd: number): Uint8Array[] => {
    const found: Uint8Array[] = [];
    for (let length = c.read(fd, scratch); length > 0; length = c.read(fd, scratch))
      found.push(scratch.slice(0, length));
    return found;
  };
  return {
    plane,
    aead: plane.aead,
    address: own.address,
    peerAddress,
    toDevice: (read) => void c.write(deviceEnd, read),
    fromDevice: () => readAll(deviceEnd).flatMap((read) => (options.offload ? cutRead(read) : [read])),
    toPlane: (datagram) => void c.sendto(peer?.fd ?? -1, datagram, own.address),
    relay: (message) => relayed.pushBytes(Kind.datagram, message),
    wake: () => void c.write(options.wakeWorker, Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0)),
    openSocket() {
      const { fd, address } = openUdp(false);
      const send = (datagram: Uint8Array): void => void c.sendto(fd, datagram, own.address);
      return { address, toPlane: send, datagrams: () => readAll(fd) };
    },
    roamed: () => records(reports, Kind.roamed).map(decodeSockaddr),
    datagrams: () => readAll(peer?.fd ?? -1),
    countDatagrams() {
      let count = 0;
      while (c.read(peer?.fd ?? -1, scratch) > 0) count++;
      return count;
    },
    turn() {
      for (let i = 0; i < TURNS; i++) plane.turn(1000, 0);
    },
    counter: (index) => plane.parts.counters[index] ?? 0,
    handedPackets: () => records(packets, Kind.packet),
    handedOver() {
      const found: { kind: number; bytes: Uint8Array }[] = [];
      for (const from of [packets, datagrams])
        from.drain(10_000, (kind, _, __, bytes) => found.push({ kind, bytes }));
      return found;
    },
    handedDatagrams: () => records(datagrams, Kind.datagram).map((bytes) => bytes.subarray(32)),
    useSecondSession(other) {
      openSession(other.plane, 1, !isA, SECOND_KEYS);
      openSession(plane, 1, isA, SECOND_KEYS);
      plane.apply({
        kind: "send",
        peer: 1,
        to: { slot: 1, until: 1e9, inDoubt: false, address: encodeSockaddr(peerAddress) },
      });
    },
    close() {
      for (const fd of [...descriptors, own.fd, peer?.fd ?? -1]) if (opened.delete(fd)) f.close(fd);
    },
  };
}

/** With UDP_SEGMENT's size after the header of its control message, where there is one. */
function refusingSend(
  send: FastCalls["sendmsg"],
  { buffer }: SharedMemory,
  { sendMessage, sendControl }: Layout,
  refuse: (size: number) => number,
): FastCalls["sendmsg"] {
  const view = new DataView(buffer);
  return (fd, message) => {
    const isTrain = view.getUint32(sendMessage + 40, true) > 0;
    const errno = isTrain ? refuse(view.getUint16(sendControl + 16, true)) : 0;
    return errno === 0 ? send(fd, message) : -errno;
  };
}

function records(ring: RingReader, wanted: number): readonly Uint8Array[] {
  const found: Uint8Array[] = [];
  ring.drain(10_000, (kind, _, __, bytes) => {
    if (kind === wanted) found.push(bytes);
  });
  return found;
}

function introduce(plane: DataPlane, isA: boolean, peerAddress: IpPort): void {
  const everywhere = [{ IP: "*", Ports: { First: 0, Last: 65_535 } }];
  plane.apply({
    kind: "filter",
    rules: [{ SrcIPs: ["*"], DstPorts: everywhere }],
    localAddresses: ["0.0.0.0/0", "::/0"],
    excluded: [],
  });
  plane.apply({ kind: "peer", peer: 1, prefixes: PREFIXES, roams: true });
  openSession(plane, 0, isA, KEYS);
  plane.apply({
    kind: "send",
    peer: 1,
    to: { slot: 0, until: 1e9, inDoubt: false, address: encodeSockaddr(peerAddress) },
  });
}

function openSession(plane: DataPlane, slot: number, isA: boolean, keys: typeof KEYS): void {
  const [ours, theirs] = [10 + slot, 20 + slot];
  plane.parts.sessions.write(slot, {
    keys: isA ? { send: keys.a, receive: keys.b } : { send: keys.b, receive: keys.a },
    localIndex: isA ? ours : theirs,
    remoteIndex: isA ? theirs : ours,
  });
  plane.apply({ kind: "session", slot, peer: 1, until: 1e9 });
}

function cutRead(read: Uint8Array): readonly Uint8Array[] {
  const cut = cutPacket(read.subarray(10), decodeVirtioHeader(read.subarray(0, 10)), 65_535);
  if (typeof cut === "string") throw new Error(cut);
  return cut;
}
