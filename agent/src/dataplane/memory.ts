/**
 * The one shared memory of the fast path, and where everything lies in it.
 *
 *     control     flags between the engine and the worker
 *     sessions    keys, counters and replay windows: written by the engine, counted in by both
 *     ring        what the worker hands to the engine
 *     outbound    a read of the TUN device, sealed packets, one sendmsg
 *     inbound     received datagrams, opened packets, the flows that are being gathered
 *
 * Offsets are handed out once, at the start, by one allocator that ends every area on a cache line: nothing
 * else in the fast path adds up addresses of areas.
 */
import { PACKETS_WASM } from "./wasm/packets-module.ts";
import { SESSION_SIZE } from "./session-table.ts";

export interface MemoryOptions {
  /** Of the tunnel device, in bytes. */
  readonly mtu: number;
  /** How many sessions fit. */
  readonly maxSessions: number;
  /** How many peers have an address. */
  readonly maxPeers: number;
}

/** The part of WebAssembly that is used here: its whole type library is the browser's. */
export interface SharedMemory {
  readonly buffer: SharedArrayBuffer;
}

interface Wasm {
  readonly Memory: new (size: { initial: number; maximum: number; shared: true }) => SharedMemory;
  readonly Module: new (binary: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: object };
}

const wasm = (globalThis as unknown as { readonly WebAssembly: Wasm }).WebAssembly;

/** Indices of 32-bit words in the control area. */
export const Control = {
  /** The worker shall end. */
  stop: 0,
  /** Messages wait for the worker. */
  pending: 1,
  /** The engine was woken and has not read the ring yet. */
  notified: 2,
  /** The rings: how many bytes were written and read, modulo 2^32, each on a cache line of its own. */
  reports: 16,
  datagrams: 48,
  packets: 80,
} as const;

const LINE = 64;
/** WebAssembly's own; areas begin after it. */
const RESERVED = 2048;
const PAGE = 65_536;

/** Before and after a read: room for the headers of the first packet, and for the padding of the last. */
export const HEADROOM = 256;
const TAILROOM = 128;
/** The largest read of a TUN device or UDP socket. */
export const READ_SIZE = 65_536;
/** ChaCha20's first block, which becomes the Poly1305 key, lies before each ciphertext. */
export const BLOCK = 64;
/** Tag, and the lengths that Poly1305 ends with. */
const SLOT_TAIL = 64;
/** Packets in one sendmsg (UDP_MAX_SEGMENTS of Linux before 6.9). */
export const TRAIN = 64;
/** Datagrams, or trains of them, in one recvmmsg. */
export const MESSAGES = 16;
/** Opened packets that wait to be written. */
export const OPENED = 192;
export const MESSAGE_HEADER = 64;
export const ADDRESS_SIZE = 32;
export const CONTROL_SIZE = 64;
export const IOVEC = 16;
/** As packets.as has them. */
const FLOWS = 16;
const FLOW_SIZE = 64 + (64 + 2) * IOVEC;
/** Powers of two. A flood of one kind fills its own ring only. */
const REPORTS_SIZE = 1 << 18;
const DATAGRAMS_SIZE = 1 << 20;
const PACKETS_SIZE = 1 << 21;

export interface RingPlace {
  readonly at: number;
  readonly size: number;
  /** The word of the control area with its `written`; `read` lies 16 words further. */
  readonly words: number;
}

export interface Layout {
  readonly size: number;
  readonly control: number;
  readonly counters: number;
  readonly reports: RingPlace;
  readonly datagrams: RingPlace;
  readonly packets: RingPlace;
  readonly sessions: number;
  readonly addresses: number;
  readonly template: number;
  readonly parsed: number;
  readonly nonce: number;
  readonly cipherState: number;
  readonly tag: number;
  readonly pollSet: number;
  readonly eventValue: number;
  readonly read: number;
  readonly sealed: number;
  readonly sealedIovecs: number;
  readonly sendMessage: number;
  readonly sendControl: number;
  readonly received: number;
  readonly receivedIovecs: number;
  readonly receivedMessages: number;
  readonly receivedNames: number;
  readonly receivedControl: number;
  readonly opened: number;
  readonly flows: number;
  readonly singleIovecs: number;
  readonly singleHeader: number;
  /** From one packet to the next, and the longest packet that fits. */
  readonly slot: number;
  readonly largest: number;
  /** From one received datagram to the next: no power of two, which would fight for the same cache lines. */
  readonly receivedSlot: number;
}

export function planMemory({ mtu, maxSessions, maxPeers }: MemoryOptions): Layout {
  let end = RESERVED;
  const take = (size: number): number => {
    const at = end;
    end = align(at + size);
    return at;
  };
  const largest = align(Math.max(mtu, 1280) + 16);
  const slot = BLOCK + largest + SLOT_TAIL;
  const receivedSlot = HEADROOM + READ_SIZE + TAILROOM + 5 * LINE;
  const ring = (size: number, words: number): RingPlace => ({ at: take(size), size, words });
  const layout = {
    control: take(8 * LINE),
    counters: take(16 * LINE),
    template: take(4 * LINE),
    parsed: take(LINE),
    nonce: take(LINE),
    cipherState: take(8 * LINE),
    tag: take(LINE),
    pollSet: take(LINE),
    eventValue: take(LINE),
    reports: ring(REPORTS_SIZE, Control.reports),
    datagrams: ring(DATAGRAMS_SIZE, Control.datagrams),
    packets: ring(PACKETS_SIZE, Control.packets),
    read: take(HEADROOM + READ_SIZE + TAILROOM),
    sealed: take(TRAIN * slot),
    sealedIovecs: take(TRAIN * IOVEC),
    sendMessage: take(MESSAGE_HEADER),
    sendControl: take(CONTROL_SIZE),
    received: take(MESSAGES * receivedSlot),
    receivedIovecs: take(MESSAGES * IOVEC),
    receivedMessages: take(MESSAGES * MESSAGE_HEADER),
    receivedNames: take(MESSAGES * ADDRESS_SIZE),
    receivedControl: take(MESSAGES * CONTROL_SIZE),
    opened: take(OPENED * slot),
    flows: take(FLOWS * FLOW_SIZE),
    singleIovecs: take(2 * IOVEC),
    singleHeader: take(LINE),
    addresses: take(maxPeers * ADDRESS_SIZE),
    sessions: take(maxSessions * SESSION_SIZE),
  };
  return { ...layout, size: end, slot, largest, receivedSlot };
}

/** The memory; the kernel gives its pages when they are first used. */
export function createMemory(layout: Layout): SharedMemory {
  const pages = Math.ceil(layout.size / PAGE);
  return new wasm.Memory({ initial: pages, maximum: pages, shared: true });
}

/** The functions of packets.as: offsets in, numbers out. */
export interface Packets {
  sum(at: number, length: number, initial: number): number;
  begin(packet: number, length: number, vnet: number): number;
  next(index: number, mtu: number): number;
  frame(slot: number, length: number, index: number, low: number, high: number, lengthAt: number): void;
  enter(message: number, length: number): void;
  leave(message: number, length: number, computed: number): number;
  longest(): number;
  clamp(packet: number, length: number, mtu: number): number;
  inspect(packet: number, length: number): number;
  offer(udp: number): number;
  finish(flow: number): number;
}

/** @param base where the memory lies in the address space */
export function openPackets(memory: SharedMemory, layout: Layout, base: number): Packets {
  const binary = Uint8Array.from(atob(PACKETS_WASM), (character) => character.charCodeAt(0));
  const { exports } = new wasm.Instance(new wasm.Module(binary), { env: { memory } });
  const packets = exports as unknown as Packets & { init(...layout: number[]): void };
  const { template, flows, parsed, largest } = layout;
  packets.init(template, flows, parsed, base % 2 ** 32, Math.floor(base / 2 ** 32), largest);
  return packets;
}

export const GATHERED_FLOWS: number = FLOWS;

/** Where the iovecs of a flow are: virtio header, first packet, payloads. */
export function flowIovecs(layout: Layout, flow: number): number {
  return layout.flows + flow * FLOW_SIZE + 64;
}

function align(size: number): number {
  return Math.ceil(size / LINE) * LINE;
}
