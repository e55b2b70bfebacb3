/**
 * One data plane: everything that a worker holds, and one turn of its loop. It runs as well without a thread,
 * which is how it is tested.
 */
import type { FastCalls } from "../io/ffi/fast-calls.ts";
import { type Aead, chooseAead } from "./aead.ts";
import { Inbound } from "./inbound.ts";
import { Control, type Layout, openPackets, type Packets, type SharedMemory } from "./memory.ts";
import { Kind, type PlaneMessage } from "./messages.ts";
import { Outbound } from "./outbound.ts";
import { PeerTable } from "./peer-table.ts";
import { RingWriter } from "./ring.ts";
import { SessionTable } from "./session-table.ts";
import { Traffic } from "./traffic.ts";

export interface PlaneOptions {
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

export class DataPlane {
  readonly aead: string;
  readonly parts: PlaneParts;
  readonly outbound: Outbound;
  readonly inbound: Inbound;
  readonly #control: Int32Array;
  readonly #pollSet: DataView;
  readonly #pollCount: number;

  constructor(options: PlaneOptions, calls: FastCalls, memory: SharedMemory, layout: Layout) {
    const { buffer } = memory;
    const base = options.lowAddress ?? calls.addressOf(new Uint8Array(buffer));
    const packets = openPackets(memory, layout, base);
    const aead = chooseAead({ memory, layout, packets, base }, options.wantedAead);
    const sessions = new SessionTable(buffer, layout.sessions);
    const reports = new RingWriter(buffer, layout.control, layout.reports);
    this.aead = aead.name;
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
      counters: new Float64Array(buffer, layout.counters, 32),
      datagrams: new RingWriter(buffer, layout.control, layout.datagrams),
      handover: new RingWriter(buffer, layout.control, layout.packets),
      reports,
    };
    this.outbound = new Outbound(this.parts);
    this.inbound = new Inbound(this.parts);
    this.#control = new Int32Array(buffer, layout.control, 128);
    this.#pollSet = new DataView(buffer, layout.pollSet, 4 * POLL_ENTRY);
    const watched = [options.wakeWorker, options.tun, options.udp4, options.udp6];
    this.#pollCount = options.udp6 < 0 ? 3 : 4;
    for (const [i, fd] of watched.entries()) {
      this.#pollSet.setInt32(i * POLL_ENTRY, fd, true);
      this.#pollSet.setInt16(i * POLL_ENTRY + 4, POLLIN, true);
    }
  }

  get mustStop(): boolean {
    return Atomics.load(this.#control, Control.stop) !== 0;
  }

  /** Whether messages of the engine wait; asking clears it. */
  takePending(): boolean {
    return (
      Atomics.load(this.#control, Control.pending) !== 0 &&
      Atomics.exchange(this.#control, Control.pending, 0) !== 0
    );
  }

  apply(message: PlaneMessage): void {
    const released = this.parts.table.apply(message);
    if (released >= 0) this.parts.reports.push(Kind.released, released, 0, 0, 0);
  }

  /** Waits for something to do, at most `limit` milliseconds, and does it. */
  turn(now: number, limit: number = LONGEST_WAIT): void {
    const { calls, base, layout, traffic, udp4, udp6 } = this.parts;
    const wait = Math.min(limit, traffic.isPending ? SHORT_WAIT : LONGEST_WAIT);
    const ready = calls.poll(base + layout.pollSet, this.#pollCount, wait);
    if (ready > 0) {
      if (this.#isReady(0)) calls.read(this.parts.wakeWorker, base + layout.eventValue, 8);
      if (this.#isReady(2)) this.inbound.drain(udp4, now);
      if (this.#pollCount > 3 && this.#isReady(3)) this.inbound.drain(udp6, now);
      if (this.#isReady(1)) this.outbound.drain(now);
    }
    traffic.report(now);
    this.wakeEngine();
  }

  #isReady(index: number): boolean {
    return this.#pollSet.getInt16(index * POLL_ENTRY + 6, true) !== 0;
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

  #urgentBefore = 0;
}
