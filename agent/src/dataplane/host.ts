/**
 * The engine's side of the data plane: starts the worker, passes decisions on to it and hears from it, and
 * stands in for the socket and the device, whose descriptors both sides use.
 */
import { MessageChannel, Worker } from "node:worker_threads";
import type { Prefix } from "../base/address.ts";
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
import { Control, createMemory, type Layout, planMemory, type SharedMemory } from "./memory.ts";
import { Counter, Kind, type PlaneMessage } from "./messages.ts";
import type { PlaneOptions } from "./plane.ts";
import { RingReader } from "./ring.ts";
import { SessionTable, SharedSessions } from "./session-table.ts";
import { HostDevice, HostUdp } from "./stand-ins.ts";
import { clockZero } from "./clock-zero.ts";
import type { Ready, WorkerInput } from "./worker.ts";

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
  readonly counters: Readonly<Record<keyof typeof Counter, number>>;
}

/** Each takes 16 KiB once it is used. */
const MAX_SESSIONS = 8192;
const MAX_PEERS = 16_384;
/** Records handled before other events get their turn. */
const RECORDS = 512;
/** A worker that does not end by itself; its longest wait is 200 ms. */
const END_PATIENCE = 1_000;

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
  readonly ready: Promise<void>;
  readonly #options: HostOptions;
  readonly #calls: FastCalls;
  readonly #control: Int32Array;
  readonly #counters: Float64Array;
  /** Kept for as long as its second address is in use. */
  readonly #memory: Uint8Array;
  readonly #lowAddress: number | undefined;
  readonly #worker: Worker;
  readonly #exited: Promise<void>;
  readonly #decisions = new MessageChannel();
  readonly #wakeWorker: number;
  readonly #wakeEngine: number;
  readonly #one: { readonly address: number; readonly bytes: Uint8Array };
  readonly #watch: Watch;
  readonly #rings: {
    readonly reports: RingReader;
    readonly datagrams: RingReader;
    readonly packets: RingReader;
  };
  readonly #peers = new PeerNumbers();
  readonly #told = new Set<number>();
  #receiver: FastPathReceiver | undefined;
  #aead = "";
  #hasFailed = false;
  #closing: Promise<void> | undefined;

  constructor(options: HostOptions, calls: FastCalls, libc: Libc) {
    this.#options = options;
    this.#calls = calls;
    this.#wakeWorker = calls.eventfd();
    this.#wakeEngine = calls.eventfd();
    const sized = this.#planeOptions();
    const layout = planMemory(sized);
    const memory = createMemory(layout);
    const { buffer } = memory;
    this.#memory = new Uint8Array(buffer);
    this.#lowAddress = calls.mapLow(this.#memory);
    const plane: PlaneOptions = { ...sized, lowAddress: this.#lowAddress };
    this.#control = new Int32Array(buffer, layout.control, 128);
    this.#counters = new Float64Array(buffer, layout.counters, 32);
    const ring = (place: Layout["reports"]): RingReader => new RingReader(buffer, layout.control, place);
    this.#rings = {
      reports: ring(layout.reports),
      datagrams: ring(layout.datagrams),
      packets: ring(layout.packets),
    };
    const bytes = new Uint8Array(buffer, layout.eventValue + 32, 16);
    bytes[0] = 1;
    this.#one = { address: calls.addressOf(bytes), bytes };
    const table = new SessionTable(buffer, layout.sessions);
    this.sessions = new SharedSessions(table, MAX_SESSIONS, (slot) => {
      this.#told.delete(slot);
      this.#post({ kind: "close-session", slot });
    });
    this.udp = new HostUdp(libc, options.udp);
    this.device = new HostDevice(libc, options.tun, () => this.close());
    this.#worker = this.#startWorker(plane, layout, memory);
    this.#exited = new Promise((resolve) => this.#worker.once("exit", () => resolve()));
    this.ready = this.#untilReady();
    this.#watch = libc.watchReadable(this.#wakeEngine, () => this.#woken());
  }

  get status(): DataPlaneStatus {
    const { tun, udp } = this.#options;
    const counters = Object.entries(Counter).map(([name, at]) => [name, this.#counters[at] ?? 0] as const);
    return {
      workers: 1,
      aead: this.#aead,
      tunOffload: tun.offload ? (tun.udpOffload ? "tcp+udp" : "tcp") : "none",
      udpSegmentation: this.#counters[Counter.gso] === 1,
      udpReceiveOffload: udp.gro,
      counters: Object.fromEntries(counters) as Record<keyof typeof Counter, number>,
    };
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
        this.#post({ ...decision, localAddresses: texts(decision.localAddresses) });
        return;
      case "forget": {
        const peer = this.#peers.release(decision.peer);
        if (peer !== undefined) this.#post({ kind: "remove-peer", peer });
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

  /** Ends within the worker's longest wait. */
  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  /** Ends, and leaves the descriptors of device and socket open. */
  async abandon(): Promise<void> {
    this.#closing ??= this.#endWorker();
    await this.#closing;
  }

  #decideFor(peer: number, decision: Extract<Decision, { kind: "peer" | "mtu" | "receive" | "send" }>): void {
    switch (decision.kind) {
      case "peer":
        this.#post({ kind: "peer", peer, prefixes: texts(decision.prefixes) });
        return;
      case "mtu":
        this.#post({ kind: "mtu", peer, mtu: decision.mtu });
        return;
      case "receive":
        for (const { localIndex, expiresAt } of decision.sessions) {
          const slot = this.sessions.slotOf(localIndex);
          if (slot === undefined || this.#told.has(slot)) continue;
          this.#told.add(slot);
          this.#post({ kind: "session", slot, peer, until: expiresAt });
        }
        return;
      case "send": {
        const { to } = decision;
        const slot = to === undefined ? undefined : this.sessions.slotOf(to.session.localIndex);
        const usable = to !== undefined && slot !== undefined && this.udp.canReach(to.address);
        const address = usable ? encodeSockaddr(to.address) : undefined;
        this.#post({
          kind: "send",
          peer,
          to:
            address === undefined || slot === undefined || to === undefined
              ? undefined
              : { slot, until: to.session.expiresAt, inDoubt: to.inDoubt, address },
        });
      }
    }
  }

  #planeOptions(): PlaneOptions {
    const { mtu, tun, udp, env } = this.#options;
    return {
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
      wakeWorker: this.#wakeWorker,
      wakeEngine: this.#wakeEngine,
    };
  }

  #startWorker(options: PlaneOptions, layout: Layout, memory: SharedMemory): Worker {
    const { port1, port2 } = this.#decisions;
    const input: WorkerInput = {
      options,
      layout,
      memory,
      decisions: port2,
      clockZero: clockZero(),
      bundleUrl: import.meta.url,
    };
    port1.unref();
    const { program } = this.#options;
    return new Worker(program ?? builtIn ?? "", {
      eval: program === undefined,
      workerData: input,
      transferList: [port2],
      name: "dataplane",
    });
  }

  #untilReady(): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (why: string): void => {
        if (this.#closing !== undefined || this.#hasFailed) return;
        this.#hasFailed = true;
        const error = new OperationError(
          "dataplane",
          `the data plane's thread has ended (${why}): restart the daemon; SALLYPORT_DATAPLANE=off does without it`,
        );
        reject(error);
        if (this.#aead !== "") this.#options.onFatal(error);
      };
      this.#worker.once("message", ({ aead }: Ready) => {
        this.#aead = aead;
        resolve();
      });
      this.#worker.once("error", (error) => fail(error instanceof Error ? error.message : String(error)));
      this.#worker.once("exit", (code) => fail(`exit code ${code}`));
    });
  }

  #post(message: PlaneMessage): void {
    if (this.#closing !== undefined) return;
    this.#decisions.port1.postMessage(message);
    if (Atomics.exchange(this.#control, Control.pending, 1) === 0) this.#wake();
  }

  #wake(): void {
    this.#calls.write(this.#wakeWorker, this.#one.address, 8);
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
    const { reports, datagrams, packets } = this.#rings;
    const handed: Uint8Array[] = [];
    // Copies first: a report may be what makes the engine send them again.
    packets.drain(limit, (kind, peer, _, bytes) => this.#hearPacket(kind, peer, bytes, handed));
    reports.drain(limit, (kind, a, b, bytes) => this.#hearReport(kind, a, b, bytes));
    datagrams.drain(limit, (_, nameLength, __, bytes) => {
      if (nameLength > 0) this.udp.receive(decodeSockaddr(bytes), bytes.subarray(32));
    });
    if (handed.length > 0) this.device.receive(handed);
    if (!reports.isEmpty || !datagrams.isEmpty || !packets.isEmpty) setImmediate(() => this.#drain(limit));
  }

  #hearPacket(kind: number, number: number, bytes: Uint8Array, handed: Uint8Array[]): void {
    const peer = this.#peers.key(number);
    if (kind === Kind.packet) handed.push(bytes);
    else if (kind === Kind.flow) this.#receiver?.flow(bytes);
    else if ((kind === Kind.sent || kind === Kind.doubted) && peer !== undefined)
      this.#receiver?.sent(peer, bytes);
    else if (kind === Kind.opened && peer !== undefined) this.#receiver?.opened(peer, bytes);
  }

  #hearReport(kind: number, a: number, b: number, bytes: Uint8Array): void {
    switch (kind) {
      case Kind.traffic:
        this.#hearTraffic(new Float64Array(bytes.buffer, bytes.byteOffset, 8));
        return;
      case Kind.released:
        this.sessions.release(a);
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
    await this.#endWorker();
    const { tun, udp } = this.#options;
    for (const fd of [tun.fd, udp.v4, udp.v6]) if (fd >= 0) this.#calls.close(fd);
  }

  async #endWorker(): Promise<void> {
    Atomics.store(this.#control, Control.stop, 1);
    this.#wake();
    this.#watch.close();
    const timer = setTimeout(() => void this.#worker.terminate(), END_PATIENCE);
    await this.#exited;
    clearTimeout(timer);
    this.#decisions.port1.close();
    if (this.#lowAddress !== undefined) this.#calls.unmap(this.#lowAddress, this.#memory.length);
    this.#calls.close(this.#wakeEngine);
    this.#calls.close(this.#wakeWorker);
  }
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
