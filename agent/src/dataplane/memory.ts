/**
 * The one shared memory of the fast path, and where everything lies in it.
 *
 *     control     flags between the engine and the workers, and in which order these send
 *     tables      peers, routes, the filter and its flows: written by the engine, read by all
 *     sessions    keys, counters and replay windows: written by the engine, counted in by all
 *     lanes       each worker's own: the rings to the engine, and what it works in:
 *       outbound    a read of the TUN device, sealed packets, one sendmsg
 *       inbound     received datagrams, opened packets, the flows that are being gathered
 *
 * Offsets are handed out once, at the start, by one allocator that ends every area on a cache line: nothing
 * else in the fast path adds up addresses of areas.
 */
import { AEAD_WASM } from "./wasm/aead-module.ts";
import { PACKETS_WASM } from "./wasm/packets-module.ts";
import { routeTableSize } from "./route-table.ts";
import { indexSize, SESSION_SIZE } from "./session-table.ts";
import { FLOWS_SIZE } from "./shared-flows.ts";

export interface MemoryOptions {
  /** Of the tunnel device, in bytes. */
  readonly mtu: number;
  /** How many sessions fit. */
  readonly maxSessions: number;
  /** How many peers have an address. */
  readonly maxPeers: number;
  /** @default 1 */
  readonly workers?: number | undefined;
  /** Bytes between areas and slots that nobody may write, for a test to look at; a multiple of 64. @default 0 */
  readonly gap?: number | undefined;
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

/** Indices of 32-bit words in the control area. Those that several threads change have a cache line each. */
export const Control = {
  /** The workers shall end. */
  stop: 0,
  /** The engine was woken and has not read the rings yet. */
  notified: 16,
  /** How often a table changed; never 0. */
  epoch: 32,
  /** How often something changed that verdicts hang on. */
  rules: 33,
  /** How often the filter changed, odd while it does; and how long its text is. */
  filter: 34,
  filterLength: 35,
  /** Which of the symmetric workers reads. */
  leader: 48,
  /** The order of what was read from the device, and of what came from the network; see `order.ts`. */
  outbound: 64,
  inbound: 112,
  /** The ring of messages that came by a relay: how many bytes were written and read. */
  relayed: 160,
} as const;

/** Words of a lane's own control area. */
const LaneControl = {
  /** The epoch that its worker goes by, 0 while it waits. */
  seen: 0,
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
export const TAILROOM = 128;
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
const RELAYED_SIZE = 1 << 20;
/** The filter's rules as JSON. Longer ones are the engine's to apply. */
const FILTER_SIZE = 1 << 22;
/** One line: see `peer-table.ts`. */
export const PEER_SIZE = 64;
/** Routed prefixes for each peer: its addresses and some subnets. */
const PREFIXES_OF_PEER = 4;

export interface RingPlace {
  readonly at: number;
  readonly size: number;
  /** The word of the control area with its `written`; `read` lies 16 words further. */
  readonly words: number;
}

export interface Layout {
  readonly size: number;
  /** Where `gap` bytes each are left out, in the first worker's lane and what all share. */
  readonly gaps: readonly number[];
  readonly control: number;
  readonly counters: number;
  readonly reports: RingPlace;
  readonly datagrams: RingPlace;
  readonly packets: RingPlace;
  /** From the engine: messages that came by a relay. */
  readonly relayed: RingPlace;
  readonly sessions: number;
  readonly indexes: number;
  readonly peers: number;
  readonly routes: number;
  readonly prefixes: number;
  readonly flowTable: number;
  readonly filter: number;
  readonly filterSize: number;
  /** The word of the control area from which on this lane has its own. */
  readonly lane: number;
  /** The sizes of a lane. */
  readonly laneSize: number;
  readonly workers: number;
  /** The address that packets are sent to. */
  readonly target: number;
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
  /** Who sent what was opened. */
  readonly senders: number;
  /** Where peers were heard: see `roaming.ts`. */
  readonly heard: number;
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

/** The layout as the first worker sees it; `layoutOf` gives the others'. */
export function planMemory({ mtu, maxSessions, maxPeers, workers = 1, gap = 0 }: MemoryOptions): Layout {
  let end = RESERVED;
  const gaps: number[] = [];
  const leave = (at: number): number => {
    if (gap > 0) gaps.push(at);
    return at + gap;
  };
  const take = (size: number): number => {
    const at = end;
    end = leave(align(at + size));
    return at;
  };
  /** As many rooms, each this far from the next. */
  const takeSlots = (count: number, distance: number): number => {
    const at = take(count * distance);
    for (let i = 1; i <= count; i++) leave(at + i * distance - gap);
    return at;
  };
  const largest = align(Math.max(mtu, 1280) + 16);
  const slot = BLOCK + largest + SLOT_TAIL + gap;
  const receivedSlot = HEADROOM + READ_SIZE + TAILROOM + 5 * LINE + gap;
  const control = take(16 * LINE);
  const prefixes = maxPeers * PREFIXES_OF_PEER;
  const shared = {
    control,
    flowTable: take(FLOWS_SIZE),
    indexes: take(indexSize(maxSessions)),
    peers: take(maxPeers * PEER_SIZE),
    routes: take(routeTableSize(prefixes)),
    filter: take(FILTER_SIZE),
    sessions: take(maxSessions * SESSION_SIZE),
    relayed: { at: take(RELAYED_SIZE), size: RELAYED_SIZE, words: Control.relayed },
  };
  const laneAt = take(8 * LINE);
  const words = (laneAt - control) / 4;
  const ring = (size: number, word: number): RingPlace => ({ at: take(size), size, words: words + word });
  const lane = {
    counters: take(16 * LINE),
    target: take(LINE),
    template: take(4 * LINE),
    parsed: take(LINE),
    nonce: take(LINE),
    cipherState: take(8 * LINE),
    tag: take(LINE),
    pollSet: take(LINE),
    eventValue: take(LINE),
    reports: ring(REPORTS_SIZE, LaneControl.reports),
    datagrams: ring(DATAGRAMS_SIZE, LaneControl.datagrams),
    packets: ring(PACKETS_SIZE, LaneControl.packets),
    read: take(HEADROOM + READ_SIZE + TAILROOM),
    sealed: takeSlots(TRAIN, slot),
    sealedIovecs: take(TRAIN * IOVEC),
    sendMessage: take(MESSAGE_HEADER),
    sendControl: take(CONTROL_SIZE),
    received: takeSlots(MESSAGES, receivedSlot),
    receivedIovecs: take(MESSAGES * IOVEC),
    receivedMessages: take(MESSAGES * MESSAGE_HEADER),
    receivedNames: take(MESSAGES * ADDRESS_SIZE),
    receivedControl: take(MESSAGES * CONTROL_SIZE),
    senders: take((OPENED + 1) * ADDRESS_SIZE),
    heard: take(maxPeers * ADDRESS_SIZE),
    opened: takeSlots(OPENED, slot),
    flows: take(FLOWS * FLOW_SIZE),
    singleIovecs: take(2 * IOVEC),
    singleHeader: take(LINE),
  };
  const laneSize = end - laneAt;
  const sizes = {
    gaps,
    prefixes,
    filterSize: FILTER_SIZE,
    lane: words,
    laneSize,
    workers,
    slot,
    largest,
    receivedSlot,
  };
  return { ...shared, ...lane, ...sizes, size: laneAt + workers * laneSize };
}

/** The layout as worker `number` sees it: a lane further on. */
export function layoutOf(layout: Layout, number: number): Layout {
  const by = number * layout.laneSize;
  const ring = ({ at, size, words }: RingPlace): RingPlace => ({ at: at + by, size, words: words + by / 4 });
  const { reports, datagrams, packets } = layout;
  const moved: { -readonly [name in (typeof LANE_AREAS)[number]]?: number } = {};
  for (const name of LANE_AREAS) moved[name] = layout[name] + by;
  return {
    ...layout,
    ...moved,
    lane: layout.lane + by / 4,
    reports: ring(reports),
    datagrams: ring(datagrams),
    packets: ring(packets),
  };
}

const LANE_AREAS = [
  "counters",
  "target",
  "template",
  "parsed",
  "nonce",
  "cipherState",
  "tag",
  "pollSet",
  "eventValue",
  "read",
  "sealed",
  "sealedIovecs",
  "sendMessage",
  "sendControl",
  "received",
  "receivedIovecs",
  "receivedMessages",
  "receivedNames",
  "receivedControl",
  "senders",
  "heard",
  "opened",
  "flows",
  "singleIovecs",
  "singleHeader",
] as const satisfies readonly (keyof Layout)[];

/** The word of the control area that says which epoch the lane's worker goes by. */
export function seenWord(layout: Layout): number {
  return layout.lane + LaneControl.seen;
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
  useMac(state: number, kind: number, blocksLow: number, blocksHigh: number): void;
  openMac(key: number): void;
  closeMac(tag: number): void;
  frameKeyed(slot: number, length: number, index: number, low: number, lengthAt: number): void;
  enterKeyed(slot: number, message: number, length: number): void;
  leaveKeyed(message: number, length: number): number;
  longest(): number;
  clamp(packet: number, length: number, mtu: number): number;
  inspect(packet: number, length: number): number;
  offer(udp: number): number;
  finish(flow: number): number;
}

/** @param base where the memory lies in the address space */
export function openPackets(memory: SharedMemory, layout: Layout, base: number): Packets {
  const packets = instantiate(PACKETS_WASM, memory) as unknown as Packets & {
    init(...layout: number[]): void;
  };
  const { template, flows, parsed, largest } = layout;
  packets.init(template, flows, parsed, base % 2 ** 32, Math.floor(base / 2 ** 32), largest);
  return packets;
}

/** The functions of aead.as. */
export interface WasmPrimitives {
  chacha20(out: number, input: number, length: number, key: number, nonce: number): void;
  poly1305(key: number, at: number, length: number, tag: number): void;
}

export function openPrimitives(memory: SharedMemory, layout: Layout): WasmPrimitives {
  const primitives = instantiate(AEAD_WASM, memory) as unknown as WasmPrimitives & { init(at: number): void };
  primitives.init(layout.cipherState);
  return primitives;
}

function instantiate(text: string, memory: SharedMemory): object {
  const binary = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  return new wasm.Instance(new wasm.Module(binary), { env: { memory } }).exports;
}

export const GATHERED_FLOWS: number = FLOWS;

/** Where the iovecs of a flow are: virtio header, first packet, payloads. */
export function flowIovecs(layout: Layout, flow: number): number {
  return layout.flows + flow * FLOW_SIZE + 64;
}

function align(size: number): number {
  return Math.ceil(size / LINE) * LINE;
}
