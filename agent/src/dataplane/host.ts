/**
 * The engine's side of the data plane: starts the workers, writes decisions into the tables that they read, hears from
 * them, and stands in for the socket and the device, whose descriptors both sides use.
 */
import { availableParallelism } from "node:os";
import type { Prefix } from "../base/address.ts";
import { viewOf } from "../base/bytes.ts";
import { OperationError } from "../base/errors.ts";
import type { NodePublic } from "../base/keys.ts";
import type { Decision, FastPath, FastPathReceiver } from "../engine/fast-path.ts";
import { type FastCalls, loadFastCalls } from "../io/ffi/fast-calls.ts";
import { type Absent, isAbsent } from "../io/ffi/koffi.ts";
import {
  decodeSockaddr,
  encodeSockaddr,
  errnoName,
  type Libc,
  loadLibc,
  type Watch,
} from "../io/ffi/libc.ts";
import { Crew, roleOf, workersFor } from "./crew.ts";
import { Control, createMemory, type Layout, layoutOf, planMemory, seenWord } from "./memory.ts";
import { Counter, Kind, type PlaneMessage } from "./messages.ts";
import type { PlaneOptions } from "./plane.ts";
import { RingReader, RingWriter } from "./ring.ts";
import { SessionTable, SharedSessions } from "./session-table.ts";
import { SharedFlows } from "./shared-flows.ts";
import { SharedTables } from "./shared-tables.ts";
import { HostDevice, HostUdp } from "./stand-ins.ts";

export interface HostOptions {
  readonly mtu: number;
  readonly tun: {
    readonly name: string;
    readonly fd: number;
    readonly offload: boolean;
    readonly udpOffload: boolean;
  };
  readonly udp: {
    readonly v4: number;
    /** -1 where there is no IPv6. */
    readonly v6: number;
    readonly localPort: number;
    readonly marked: boolean;
    readonly gro: boolean;
  };
  /** Threads. @default as many as suit the processors */
  readonly workers?: number | undefined;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The file with the worker's program. @default the one that the build put into the bundle */
  readonly program?: string;
  /** The worker has died: nothing moves packets any more. */
  readonly onFatal: (error: OperationError) => void;
}

/** Which ways are in use, as `status` says it. */
export interface DataPlaneStatus {
  readonly workers: number;
  readonly aead: string;
  readonly tunOffload: "tcp+udp" | "tcp" | "none";
  readonly udpSegmentation: boolean;
  readonly udpReceiveOffload: boolean;
  /** Why it is not the fastest way: a sentence for each thing that is missing. */
  readonly fallbacks: readonly string[];
  readonly counters: Readonly<Record<keyof typeof Counter, number>>;
}

/** Each takes 16 KiB once it is used. */
const MAX_SESSIONS = 8192;
const MAX_PEERS = 16_384;
const TRANSPORT = 4;
const MESSAGE_OVERHEAD = 32;
/** Messages for a relay that go to the engine at once: half of what may wait there. */
const SEALED = 128;
/** Records handled before other events get their turn. */
const RECORDS = 512;
/** Longer than a worker's longest wait: by then it has let go of a session that was closed (ms). */
const LET_GO = 250;

/** Why there can be no data plane of this kind here; `undefined` where there can. */
export function whyNoDataPlane(env: HostOptions["env"]): string | undefined {
  if (env["SALLYPORT_DATAPLANE"] === "off") return "SALLYPORT_DATAPLANE is off";
  const calls = loadFastCalls();
  if (isAbsent(calls)) return calls.absent;
  return builtIn === undefined ? "only the bundle holds the program of its thread" : undefined;
}

/** The worker's program, as bin/build.mjs puts it into the bundle. */
declare const SALLYPORT_DATAPLANE_PROGRAM: string | undefined;
const builtIn = typeof SALLYPORT_DATAPLANE_PROGRAM === "string" ? SALLYPORT_DATAPLANE_PROGRAM : undefined;

/**
 * The descriptors belong to it from now on.
 * @throws OperationError when the worker does not start; then the descriptors are still the caller's
 */
export async function startDataPlane(options: HostOptions): Promise<DataPlaneHost> {
  const [calls, libc] = [loadFastCalls(), loadLibc()];
  if (isAbsent(calls) || isAbsent(libc)) throw new OperationError("dataplane", absentText(calls, libc));
  const host = new DataPlaneHost(options, calls, libc);
  await host.ready.catch(async (error: unknown) => {
    await host.abandon();
    throw error;
  });
  return host;
}

function absentText(...parts: readonly (object | Absent)[]): string {
  return parts.map((part) => ("absent" in part ? String(part.absent) : "")).join("");
}

export class DataPlaneHost implements FastPath {
  readonly udp: HostUdp;
  readonly device: HostDevice;
  readonly sessions: SharedSessions;
  readonly flows: SharedFlows;
  readonly ready: Promise<void>;
  readonly #options: HostOptions;
  readonly #calls: FastCalls;
  readonly #control: Int32Array;
  readonly #counters: readonly Float64Array[];
  /** Kept for as long as its second address is in use. */
  readonly #memory: Uint8Array;
  readonly #lowAddress: number | undefined;
  readonly #crew: Crew;
  readonly #tables: SharedTables;
  readonly #seenWords: readonly number[];
  /** Of each worker: the event that wakes it. */
  readonly #wakeWorkers: readonly number[];
  readonly #wakeEngine: number;
  readonly #one: { readonly address: number; readonly bytes: Uint8Array };
  readonly #watch: Watch;
  readonly #rings: readonly Rings[];
  readonly #relayed: RingWriter;
  #hasRelayed = false;
  readonly #peers = new PeerNumbers();
  readonly #told = new Set<number>();
  /** Slots that were closed in an epoch which a worker may not have seen yet. */
  #retired: { readonly slot: number; readonly epoch: number }[] = [];
  #letGo: NodeJS.Timeout | undefined;
  #receiver: FastPathReceiver | undefined;
  #closing: Promise<void> | undefined;

  constructor(options: HostOptions, calls: FastCalls, libc: Libc) {
    this.#options = options;
    this.#calls = calls;
    const workers = options.workers ?? workersFor(availableParallelism());
    this.#wakeWorkers = wakeEvents(calls, workers);
    this.#wakeEngine = calls.eventfd();
    const sized = this.#planeOptions(0, workers);
    const layout = planMemory({ ...sized, workers });
    const memory = createMemory(layout);
    const { buffer } = memory;
    const lanes = Array.from({ length: workers }, (_, number) => layoutOf(layout, number));
    this.#memory = new Uint8Array(buffer);
    this.#lowAddress = calls.mapLow(this.#memory);
    this.#control = new Int32Array(buffer, layout.control);
    this.#seenWords = lanes.map(seenWord);
    this.#counters = lanes.map(({ counters }) => new Float64Array(buffer, counters, 32));
    this.#rings = lanes.map((lane) => openRings(buffer, lane));
    this.#relayed = new RingWriter(buffer, layout.control, layout.relayed);
    const bytes = new Uint8Array(buffer, layout.eventValue + 32, 16);
    bytes[0] = 1;
    this.#one = { address: calls.addressOf(bytes), bytes };
    const table = new SessionTable(buffer, layout.sessions);
    this.#tables = new SharedTables(buffer, layout, table, sized);
    this.flows = new SharedFlows(buffer, layout.flowTable);
    this.sessions = new SharedSessions(table, MAX_SESSIONS, (slot) => this.#retire(slot));
    this.udp = new HostUdp(libc, options.udp);
    this.device = new HostDevice(libc, options.tun, () => this.close());
    const { program } = options;
    this.#crew = new Crew({
      program: program === undefined ? { text: builtIn ?? "" } : { file: program },
      layout,
      memory,
      plane: (number) => ({ ...this.#planeOptions(number, workers), lowAddress: this.#lowAddress }),
      onFatal: (error) => options.onFatal(error),
    });
    this.ready = this.#crew.ready;
    this.#watch = libc.watchReadable(this.#wakeEngine, () => this.#woken());
  }

  get status(): DataPlaneStatus {
    const { tun, udp } = this.#options;
    const sum = (at: number): number =>
      this.#counters.reduce((total, counters) => total + (counters[at] ?? 0), 0);
    const counters = Object.entries(Counter).map(([name, at]) => [name, sum(at)] as const);
    const workers = this.#counters.length;
    return {
      workers,
      aead: this.#crew.aead,
      tunOffload: tun.offload ? (tun.udpOffload ? "tcp+udp" : "tcp") : "none",
      udpSegmentation: sum(Counter.gso) === workers,
      udpReceiveOffload: udp.gro,
      fallbacks: this.#fallbacks(sum(Counter.gso) === workers),
      counters: Object.fromEntries(counters) as Record<keyof typeof Counter, number>,
    };
  }

  #fallbacks(gso: boolean): readonly string[] {
    const { tun, udp, env } = this.#options;
    const why = (variable: string, otherwise: string): string =>
      env[variable] === "1" ? `${variable} is 1` : otherwise;
    const list = this.#crew.whyNoFasterAead.map((reason) => `sealing by ${reason}`);
    if (!tun.offload)
      list.push(
        `no large packets at the device: ${why("SALLYPORT_NO_TUN_OFFLOAD", "the kernel offers none")}`,
      );
    else if (!tun.udpOffload)
      list.push("no large UDP packets at the device: the kernel is older than Linux 6.2");
    if (!gso)
      list.push(
        `no segmentation of UDP: ${why("SALLYPORT_NO_GSO", "the kernel or the network device refused it")}`,
      );
    if (!udp.gro)
      list.push(`no gathering of received UDP: ${why("SALLYPORT_NO_GRO", "the kernel offers none")}`);
    return list;
  }

  onPassed(receive: FastPathReceiver): void {
    this.#receiver = receive;
  }

  hear(): void {
    this.#drain(RECORDS);
  }

  decide(decision: Decision): void {
    switch (decision.kind) {
      case "filter":
        this.#apply({
          ...decision,
          localAddresses: texts(decision.localAddresses),
          excluded: texts(decision.excluded),
        });
        return;
      case "forget": {
        const peer = this.#peers.release(decision.peer);
        if (peer !== undefined) this.#apply({ kind: "remove-peer", peer });
        return;
      }
      case "peer":
      case "mtu":
      case "receive":
      case "send": {
        const peer = this.#peers.number(decision.peer);
        if (peer !== undefined) this.#decideFor(peer, decision);
        return;
      }
    }
  }

  openRelayed(message: Uint8Array): boolean {
    if (message.length < MESSAGE_OVERHEAD || message[0] !== TRANSPORT || this.#closing !== undefined)
      return false;
    const slot = this.sessions.slotOf(viewOf(message).getUint32(4, true));
    if (slot === undefined || !this.#told.has(slot)) return false;
    this.#relayed.pushBytes(Kind.datagram, message); // a full ring loses it, as a network does
    if (!this.#hasRelayed) queueMicrotask(() => this.#wakeReceiver());
    this.#hasRelayed = true;
    return true;
  }

  /** Once for all that came together. */
  #wakeReceiver(): void {
    this.#hasRelayed = false;
    if (this.#closing === undefined) this.#wake(this.#wakeWorkers.at(-1) ?? -1);
  }

  /** Ends within the worker's longest wait. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** Ends, and leaves the descriptors of device and socket open. */
  async abandon(): Promise<void> {
    this.#closing ??= this.#endWorkers();
    await this.#closing;
  }

  #decideFor(peer: number, decision: Extract<Decision, { kind: "peer" | "mtu" | "receive" | "send" }>): void {
    switch (decision.kind) {
      case "peer":
        this.#apply({ kind: "peer", peer, prefixes: texts(decision.prefixes), roams: decision.roams });
        return;
      case "mtu":
        this.#apply({ kind: "mtu", peer, mtu: decision.mtu });
        return;
      case "receive":
        for (const { localIndex, expiresAt } of decision.sessions) {
          const slot = this.sessions.slotOf(localIndex);
          if (slot === undefined || this.#told.has(slot)) continue;
          this.#told.add(slot);
          this.#apply({ kind: "session", slot, peer, until: expiresAt });
        }
        return;
      case "send": {
        const { to } = decision;
        const slot = to === undefined ? undefined : this.sessions.slotOf(to.session.localIndex);
        if (to === undefined || slot === undefined) {
          this.#apply({ kind: "send", peer, to: undefined });
          return;
        }
        const { address: wanted, inDoubt, session } = to;
        const address =
          wanted !== undefined && this.udp.canReach(wanted) ? encodeSockaddr(wanted) : undefined;
        this.#apply({ kind: "send", peer, to: { slot, until: session.expiresAt, inDoubt, address } });
      }
    }
  }

  #planeOptions(number: number, workers: number): PlaneOptions {
    const { mtu, tun, udp, env } = this.#options;
    return {
      role: roleOf(number, workers),
      mtu,
      maxSessions: MAX_SESSIONS,
      maxPeers: MAX_PEERS,
      tun: tun.fd,
      offload: tun.offload,
      udpOffload: tun.udpOffload,
      udp4: udp.v4,
      udp6: udp.v6,
      gso: env["SALLYPORT_NO_GSO"] !== "1",
      gro: udp.gro,
      wantedAead: env["SALLYPORT_AEAD"],
      wakeWorker: this.#wakeWorkers[number] ?? -1,
      wakeEngine: this.#wakeEngine,
    };
  }

  #apply(message: PlaneMessage): number {
    return this.#tables.apply(message);
  }

  /** A session was closed: its slot is free when no worker goes by what was before. */
  #retire(slot: number): void {
    this.#told.delete(slot);
    this.#retired.push({ slot, epoch: this.#apply({ kind: "close-session", slot }) });
    this.#release();
  }

  #release(): void {
    const seen = this.#seenWords.map((word) => Atomics.load(this.#control, word));
    const isPast = ({ epoch }: { epoch: number }): boolean =>
      seen.every((one) => one === 0 || ((one - epoch) | 0) >= 0);
    for (const { slot } of this.#retired.filter(isPast)) this.sessions.release(slot);
    this.#retired = this.#retired.filter((one) => !isPast(one));
    if (this.#retired.length === 0 || this.#letGo !== undefined || this.#closing !== undefined) return;
    this.#letGo = setTimeout(() => {
      this.#letGo = undefined;
      this.#release();
    }, LET_GO);
    this.#letGo.unref();
  }

  #wake(fd: number): void {
    this.#calls.write(fd, this.#one.address, 8);
  }

  /** Reads what the worker has handed over. */
  #woken(): void {
    if (this.#closing !== undefined) return;
    this.#calls.read(this.#wakeEngine, this.#one.address + 8, 8);
    Atomics.store(this.#control, Control.notified, 0);
    this.#drain(RECORDS);
  }

  #drain(limit: number): void {
    if (this.#closing !== undefined) return;
    const handed: Uint8Array[] = [];
    const sealed = new Map<NodePublic, Uint8Array[]>();
    let isEmpty = true;
    for (const { reports, datagrams, packets } of this.#rings) {
      // Copies first: a report may be what makes the engine send them again.
      packets.drain(limit, (kind, peer, _, bytes) => this.#hearPacket(kind, peer, bytes, handed, sealed));
      reports.drain(limit, (kind, a, b, bytes) => this.#hearReport(kind, a, b, bytes));
      datagrams.drain(limit, (_, nameLength, __, bytes) => {
        if (nameLength > 0) this.udp.receive(decodeSockaddr(bytes), bytes.subarray(32));
      });
      isEmpty &&= reports.isEmpty && datagrams.isEmpty && packets.isEmpty;
    }
    for (const [peer, messages] of sealed) this.#receiver?.sealed(peer, messages);
    if (handed.length > 0) this.device.receive(handed);
    if (!isEmpty) setImmediate(() => this.#drain(limit));
  }

  #hearPacket(
    kind: number,
    number: number,
    bytes: Uint8Array,
    handed: Uint8Array[],
    sealed: Map<NodePublic, Uint8Array[]>,
  ): void {
    if (kind === Kind.packet) {
      handed.push(bytes);
      return;
    }
    const peer = this.#peers.key(number);
    if (peer === undefined) return;
    if (kind === Kind.sent || kind === Kind.doubted) this.#receiver?.sent(peer, bytes);
    else if (kind === Kind.opened) this.#receiver?.opened(peer, bytes);
    else if (kind === Kind.relayed) this.#collectSealed(peer, bytes, sealed);
  }

  #collectSealed(peer: NodePublic, message: Uint8Array, sealed: Map<NodePublic, Uint8Array[]>): void {
    const messages = sealed.get(peer) ?? [];
    messages.push(message);
    sealed.set(peer, messages);
    if (messages.length < SEALED) return;
    sealed.delete(peer);
    this.#receiver?.sealed(peer, messages);
  }

  #hearReport(kind: number, a: number, b: number, bytes: Uint8Array): void {
    switch (kind) {
      case Kind.roamed: {
        const peer = this.#peers.key(a);
        if (peer !== undefined) this.#receiver?.roamed(peer, decodeSockaddr(bytes));
        return;
      }
      case Kind.traffic:
        this.#hearTraffic(new Float64Array(bytes.buffer, bytes.byteOffset, 8));
        return;
      case Kind.sendError:
        this.udp.fail(decodeSockaddr(bytes), errnoName(b));
        return;
      case Kind.tunLost:
        this.device.lose(errnoName(b));
        return;
    }
  }

  #hearTraffic(fields: Float64Array): void {
    const [number = 0, sentPackets = 0, sentBytes = 0, receivedPackets = 0, receivedBytes = 0] = fields;
    const peer = this.#peers.key(number);
    if (peer === undefined) return;
    this.#receiver?.passed(peer, {
      sentPackets,
      sentBytes,
      receivedPackets,
      receivedBytes,
      sentData: fields[5] === 1,
      receivedData: fields[6] === 1,
      sentLast: fields[7] === 1,
    });
  }

  async #end(): Promise<void> {
    await this.#endWorkers();
    const { tun, udp } = this.#options;
    for (const fd of [tun.fd, udp.v4, udp.v6]) if (fd >= 0) this.#calls.close(fd);
  }

  async #endWorkers(): Promise<void> {
    this.#watch.close();
    clearTimeout(this.#letGo);
    await this.#crew.end(() => this.#wakeWorkers.forEach((fd) => this.#wake(fd)));
    if (this.#lowAddress !== undefined) this.#calls.unmap(this.#lowAddress, this.#memory.length);
    for (const fd of new Set([this.#wakeEngine, ...this.#wakeWorkers])) this.#calls.close(fd);
  }
}

interface Rings {
  readonly reports: RingReader;
  readonly datagrams: RingReader;
  readonly packets: RingReader;
}

function openRings(memory: ArrayBufferLike, lane: Layout): Rings {
  const open = (place: Layout["reports"]): RingReader => new RingReader(memory, lane.control, place);
  return { reports: open(lane.reports), datagrams: open(lane.datagrams), packets: open(lane.packets) };
}

/** Workers that read by turns share one: only one of them waits for packets. */
function wakeEvents(calls: FastCalls, workers: number): readonly number[] {
  const events = Array.from({ length: workers > 2 ? 1 : workers }, () => calls.eventfd());
  return Array.from({ length: workers }, (_, number) => events[number % events.length] ?? -1);
}

/** Small numbers for peers; one that was given back is given out again as late as possible. */
class PeerNumbers {
  readonly #numbers = new Map<string, number>();
  readonly #keys: (NodePublic | undefined)[] = [];
  readonly #free: number[] = [];

  /** `undefined` when there are too many peers: the rest are the engine's alone. */
  number(key: NodePublic): number | undefined {
    const known = this.#numbers.get(key.text);
    if (known !== undefined) return known;
    const number = this.#keys.length < MAX_PEERS ? this.#keys.length : this.#free.shift();
    if (number === undefined) return undefined;
    this.#numbers.set(key.text, number);
    this.#keys[number] = key;
    return number;
  }

  release(key: NodePublic): number | undefined {
    const number = this.#numbers.get(key.text);
    if (number === undefined) return undefined;
    this.#numbers.delete(key.text);
    this.#keys[number] = undefined;
    this.#free.push(number);
    return number;
  }

  key(number: number): NodePublic | undefined {
    return this.#keys[number];
  }
}

function texts(prefixes: readonly Prefix[]): readonly string[] {
  return prefixes.map(({ text }) => text);
}
