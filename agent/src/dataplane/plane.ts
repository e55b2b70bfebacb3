/**
 * One data plane: everything that a worker holds, and one turn of its loop. It runs as well without a thread,
 * which is how it is tested.
 *
 * There may be one worker for both directions, one for each, or any number of them that share both (`order.ts`).
 */
import type { FastCalls } from "../io/ffi/fast-calls.ts";
import { type Aead, chooseAead } from "./aead.ts";
import { Inbound } from "./inbound.ts";
import { Control, type Layout, openPackets, type Packets, type SharedMemory } from "./memory.ts";
import type { PlaneMessage } from "./messages.ts";
import { Leader, Order } from "./order.ts";
import { Outbound } from "./outbound.ts";
import { PeerTable } from "./peer-table.ts";
import { RingReader, RingWriter } from "./ring.ts";
import { Roaming } from "./roaming.ts";
import { SessionTable } from "./session-table.ts";
import { SharedTables } from "./shared-tables.ts";
import { Traffic } from "./traffic.ts";

/** What a worker does: both directions, from the device, to the device, or both in turns with others of its kind. */
export type Role = "both" | "outbound" | "inbound" | "shared";

export interface PlaneOptions {
  /** @default "both" */
  readonly role?: Role | undefined;
  readonly mtu: number;
  readonly maxSessions: number;
  readonly maxPeers: number;
  readonly tun: number;
  /** Whether reads and writes of the TUN device begin with a virtio header, and so may be large. */
  readonly offload: boolean;
  /** Whether the kernel takes and makes large UDP packets there, too. */
  readonly udpOffload: boolean;
  readonly udp4: number;
  /** -1 where there is no IPv6. */
  readonly udp6: number;
  readonly gso: boolean;
  readonly gro: boolean;
  /** One of the ways to seal, where it is not the fastest that is wanted. */
  readonly wantedAead: string | undefined;
  /** Another address of the memory that C functions may be given. */
  readonly lowAddress?: number | undefined;
  /** Wakes the worker. */
  readonly wakeWorker: number;
  /** Wakes the engine. */
  readonly wakeEngine: number;
}

/** What all parts of a data plane work with. */
export interface PlaneParts extends PlaneOptions {
  readonly calls: FastCalls;
  readonly memory: ArrayBufferLike;
  readonly layout: Layout;
  /** Of the memory, in the address space. */
  readonly base: number;
  readonly packets: Packets;
  readonly aead: Aead;
  readonly table: PeerTable;
  readonly sessions: SessionTable;
  readonly traffic: Traffic;
  readonly roaming: Roaming;
  readonly counters: Float64Array;
  readonly datagrams: RingWriter;
  readonly handover: RingWriter;
  readonly reports: RingWriter;
}

const POLLIN = 1;
const POLL_ENTRY = 8;
/** An upper limit, so that a worker that missed a wake-up still ends in time. */
const LONGEST_WAIT = 200;
/** While peers wait to be reported. */
const SHORT_WAIT = 25;

/** Where the descriptors stand in the poll set. */
const [WAKE, DEVICE, UDP4, UDP6] = [0, 1, 2, 3];

export class DataPlane {
  readonly aead: string;
  readonly whyNoFasterAead: readonly string[];
  readonly parts: PlaneParts;
  readonly outbound: Outbound;
  readonly inbound: Inbound;
  readonly #role: Role;
  readonly #control: Int32Array;
  readonly #pollSet: DataView;
  readonly #pollCount: number;
  readonly #leader: Leader;
  readonly #relayed: RingReader;
  #tables: SharedTables | undefined;
  #ready = 0;
  /** Whether messages that came by a relay are this worker's to open now. */
  #hasRelayed = false;
  /** Whose turn it is among those that are ready. */
  #first = DEVICE;
  #urgentBefore = 0;

  constructor(options: PlaneOptions, calls: FastCalls, memory: SharedMemory, layout: Layout) {
    const { buffer } = memory;
    const base = options.lowAddress ?? calls.addressOf(new Uint8Array(buffer));
    const packets = openPackets(memory, layout, base);
    const { aead, whyNot } = chooseAead({ memory, layout, packets, base }, options.wantedAead);
    const sessions = new SessionTable(buffer, layout.sessions);
    const reports = new RingWriter(buffer, layout.control, layout.reports);
    const control = new Int32Array(buffer, layout.control, 256);
    this.#role = options.role ?? "both";
    this.aead = aead.name;
    this.whyNoFasterAead = whyNot;
    this.parts = {
      ...options,
      calls,
      memory: buffer,
      layout,
      base,
      packets,
      aead,
      sessions,
      table: new PeerTable(buffer, layout, sessions, options),
      traffic: new Traffic(buffer, reports, options.maxPeers, layout.template + 192),
      roaming: new Roaming(buffer, layout, reports),
      counters: new Float64Array(buffer, layout.counters, 32),
      datagrams: new RingWriter(buffer, layout.control, layout.datagrams),
      handover: new RingWriter(buffer, layout.control, layout.packets),
      reports,
    };
    this.#control = control;
    this.#leader = new Leader(control, Control.leader);
    this.#relayed = new RingReader(buffer, layout.control, layout.relayed);
    this.outbound = new Outbound(this.parts, new Order(control, Control.outbound, Control.stop));
    this.inbound = new Inbound(this.parts, new Order(control, Control.inbound, Control.stop));
    this.#pollSet = new DataView(buffer, layout.pollSet, 4 * POLL_ENTRY);
    const { wakeWorker, tun, udp4, udp6 } = options;
    this.#pollCount = udp6 < 0 ? 3 : 4;
    // poll leaves out what is below zero.
    const watched = [
      wakeWorker,
      this.#role === "inbound" ? -1 : tun,
      ...(this.#role === "outbound" ? [-1, -1] : [udp4, udp6]),
    ];
    for (const [i, fd] of watched.entries()) {
      this.#pollSet.setInt32(i * POLL_ENTRY, fd, true);
      this.#pollSet.setInt16(i * POLL_ENTRY + 4, POLLIN, true);
    }
  }

  get mustStop(): boolean {
    return Atomics.load(this.#control, Control.stop) !== 0;
  }

  /** As the engine does it, where there is none. */
  apply(message: PlaneMessage): void {
    const { memory, layout, sessions } = this.parts;
    this.#tables ??= new SharedTables(memory, layout, sessions, this.parts);
    this.#tables.apply(message);
  }

  /** Waits for something to do, at most `limit` milliseconds, and does it. */
  turn(now: number, limit: number = LONGEST_WAIT): void {
    this.wait(limit);
    this.work(now);
  }

  wait(limit: number = LONGEST_WAIT): void {
    const { calls, base, layout, traffic, table } = this.parts;
    const most = Math.min(limit, traffic.isPending ? SHORT_WAIT : LONGEST_WAIT);
    table.leave();
    // Asked again by who leads only now: the one before may have read the wake-up that came with the stop.
    const mayRead = (this.#role !== "shared" || this.#leader.take(most)) && !this.mustStop;
    // The wake-up for them is gone once it was read, and one turn need not have taken all of them.
    const isBehind = mayRead && this.#isRelayedWaiting;
    this.#ready = mayRead ? calls.poll(base + layout.pollSet, this.#pollCount, isBehind ? 0 : most) : 0;
    this.#hasRelayed = mayRead && this.#isRelayedWaiting;
    table.enter();
  }

  work(now: number): void {
    const { traffic, calls, wakeWorker, base, layout } = this.parts;
    if ((this.#ready > 0 || this.#hasRelayed) && !this.mustStop) {
      if (this.#isReady(WAKE)) calls.read(wakeWorker, base + layout.eventValue, 8);
      if (this.#role === "shared") this.#workInTurns(now);
      else this.#workAlone(now);
    }
    traffic.report(now);
    this.wakeEngine();
    // Others may be waiting to lead: each tells the next one.
    if (this.mustStop) this.#leader.pass();
  }

  #workAlone(now: number): void {
    const { udp4, udp6 } = this.parts;
    if (this.#hasRelayed) this.inbound.takeRelayed(this.#relayed, now);
    if (this.#isReady(UDP4)) this.inbound.drain(udp4, now);
    if (this.#isReady(UDP6)) this.inbound.drain(udp6, now);
    // What was just delivered is often answered at once: to look costs less than to wait for it.
    const mayAnswer = this.#role === "both" && (this.#isReady(UDP4) || this.#isReady(UDP6));
    if (this.#isReady(DEVICE) || mayAnswer) this.outbound.drain(now);
  }

  /** Reads what is ready, the directions by turns, and leaves the reading to others while there is much to do. */
  #workInTurns(now: number): void {
    const { udp4, udp6 } = this.parts;
    if (this.#hasRelayed) {
      this.inbound.lead(-1);
      this.inbound.takeRelayed(this.#relayed, now);
      this.inbound.follow(now);
    }
    for (let i = 0; i < 3; i++) {
      const entry = ((this.#first - DEVICE + i) % 3) + DEVICE;
      if (entry >= this.#pollCount || !this.#isReady(entry)) continue;
      this.#first = (entry % 3) + DEVICE;
      const isOutbound = entry === DEVICE;
      const hasLeft = isOutbound ? this.outbound.lead(now) : this.inbound.lead(entry === UDP4 ? udp4 : udp6);
      if (hasLeft) this.#leader.pass();
      if (isOutbound) this.outbound.follow(hasLeft);
      else this.inbound.follow(now);
      if (hasLeft) return;
    }
  }

  get #isRelayedWaiting(): boolean {
    return this.#role !== "outbound" && !this.#relayed.isEmpty;
  }

  #isReady(index: number): boolean {
    return (
      this.#ready > 0 && index < this.#pollCount && this.#pollSet.getInt16(index * POLL_ENTRY + 6, true) !== 0
    );
  }

  /** Once for all that is in the rings; not again before the engine has read them. */
  wakeEngine(): void {
    const control = this.#control;
    const { reports, datagrams, handover } = this.parts;
    const urgent = reports.urgent + datagrams.urgent + handover.urgent;
    if (urgent === this.#urgentBefore) return;
    this.#urgentBefore = urgent;
    if (Atomics.exchange(control, Control.notified, 1) !== 0) return;
    const { calls, wakeEngine, base, layout, memory } = this.parts;
    new DataView(memory).setUint32(layout.eventValue + 8, 1, true);
    calls.write(wakeEngine, base + layout.eventValue + 8, 8);
  }
}
