/**
 * From the network to the TUN device: receives large, opens into slots, gathers what belongs together, and writes
 * it at once.
 *
 * Whatever is no transport message of a session that this worker knows goes to the engine as it came.
 */
import { parsePacket, protocol, tcpFlag } from "../core/ip/packet.ts";
import {
  ADDRESS_SIZE,
  BLOCK,
  CONTROL_SIZE,
  flowIovecs,
  GATHERED_FLOWS,
  HEADROOM,
  IOVEC,
  MESSAGE_HEADER,
  MESSAGES,
  OPENED,
  READ_SIZE,
} from "./memory.ts";
import { Counter, Kind } from "./messages.ts";
import type { PlaneParts } from "./plane.ts";

const TRANSPORT = 4;
const MESSAGE_OVERHEAD = 32;
const VNET = 10;
/** recvmmsg calls before the other direction gets its turn. */
const CALLS = 4;

/** From linux/udp.h and linux/socket.h. */
const SOL_UDP = 17;
const UDP_GRO = 104;
const CMSG_HEADER = 16;
const MSG_TRUNC = 0x20;

/** What `inspect` returns. */
const [TCP, UDP, OTHER] = [1, 2, 3];
/** How long an answer to what we sent stays allowed without asking again. */
const REPLY_KEPT = 1_000;

export class Inbound {
  readonly #parts: PlaneParts;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  /** What `inspect` left. */
  readonly #parsed: Int32Array;
  #opened = 0;

  constructor(parts: PlaneParts) {
    this.#parts = parts;
    this.#view = new DataView(parts.memory);
    this.#bytes = new Uint8Array(parts.memory);
    this.#parsed = new Int32Array(parts.memory, parts.layout.parsed, 16);
    this.#prepareMessages();
  }

  drain(fd: number, now: number): void {
    const { calls, base, layout } = this.#parts;
    for (let i = 0; i < CALLS; i++) {
      const count = calls.recvmmsg(fd, base + layout.receivedMessages, MESSAGES);
      for (let m = 0; m < count; m++) this.#message(m, now);
      if (count < MESSAGES) break;
    }
    this.flush();
  }

  /** One datagram, or several of one length that the kernel has put together. */
  #message(m: number, now: number): void {
    const { layout, counters } = this.#parts;
    const view = this.#view;
    const message = layout.receivedMessages + m * MESSAGE_HEADER;
    const at = layout.received + m * layout.receivedSlot + HEADROOM;
    const length = Math.min(view.getUint32(message + 56, true), READ_SIZE);
    const truncated = (view.getInt32(message + 48, true) & MSG_TRUNC) !== 0;
    const segment = this.#segmentOf(m, message, length);
    const nameLength = view.getUint32(message + 8, true);
    view.setUint32(message + 8, ADDRESS_SIZE - 4, true);
    view.setUint32(message + 40, CONTROL_SIZE, true);
    if (truncated) {
      add(counters, Counter.truncated, 1);
      return;
    }
    const name = layout.receivedNames + m * ADDRESS_SIZE;
    for (let offset = 0; offset < length; offset += segment) {
      const size = Math.min(segment, length - offset);
      if (!this.#open(at + offset, size, now)) this.#handOver(at + offset, size, name, nameLength);
    }
  }

  #segmentOf(m: number, message: number, length: number): number {
    const view = this.#view;
    if (view.getUint32(message + 40, true) < CMSG_HEADER + 4) return length;
    const control = this.#parts.layout.receivedControl + m * CONTROL_SIZE;
    if (view.getInt32(control + 8, true) !== SOL_UDP || view.getInt32(control + 12, true) !== UDP_GRO)
      return length;
    const size = view.getInt32(control + CMSG_HEADER, true);
    return size > 0 && size < length ? size : length;
  }

  #handOver(at: number, length: number, name: number, nameLength: number): void {
    const { datagrams, counters } = this.#parts;
    if (!datagrams.push(Kind.datagram, nameLength, 0, name, ADDRESS_SIZE, at, length))
      add(counters, Counter.ringDropped, 1);
  }

  /** Returns false where it is the engine's to handle. */
  #open(message: number, size: number, now: number): boolean {
    const view = this.#view;
    const { table, sessions, layout, counters, aead } = this.#parts;
    if (size < MESSAGE_OVERHEAD || view.getInt32(message, true) !== TRANSPORT) return false;
    const slot = table.slotOf(view.getInt32(message + 4, true));
    const length = size - MESSAGE_OVERHEAD;
    if (slot < 0 || length > layout.largest || view.getInt32(message + 12, true) !== 0) return false;
    if (now >= (table.slotUntil[slot] ?? 0)) return false;
    const counter = view.getUint32(message + 8, true);
    if (counter === 0xffff_ffff) return false;
    if (!sessions.isFresh(slot, counter)) {
      add(counters, Counter.replay, 1);
      return true;
    }
    if (this.#opened === OPENED) this.flush();
    const to = layout.opened + this.#opened * layout.slot;
    if (!aead.open(to, message, length, sessions.receiveKey(slot), counter | 0)) {
      add(counters, Counter.unauthenticated, 1);
      return true;
    }
    if (!sessions.mark(slot, counter)) {
      add(counters, Counter.replay, 1);
      return true;
    }
    const peer = table.slotPeer[slot] ?? -1;
    this.#parts.traffic.received(peer, size, length > 0);
    add(counters, Counter.receivedPackets, 1);
    add(counters, Counter.receivedBytes, size);
    if (length > 0) this.#deliver(to + BLOCK, length, peer, now);
    return true;
  }

  /** An opened packet of `peer`: to the device, to the engine, or nowhere. */
  #deliver(packet: number, padded: number, peer: number, now: number): void {
    const { packets, counters, table } = this.#parts;
    const kind = packets.inspect(packet, padded);
    if (kind < 0) {
      add(counters, Counter.notIp, 1);
      return;
    }
    const parsed = this.#parsed;
    const length = parsed[0] ?? 0;
    const version = parsed[2] ?? 0;
    const isPlain =
      kind === TCP ? ((parsed[3] ?? 0) & (tcpFlag.syn | tcpFlag.ack)) !== tcpFlag.syn : kind === UDP;
    const ports = kind === UDP ? (parsed[4] ?? 0) : 0;
    const known = isPlain && table.verdicts.find(packet, version, ports, now) === peer;
    if (!known && !this.#judge(packet, length, version, kind, isPlain ? ports : -1, peer, now)) return;
    if (kind === TCP ? ((parsed[3] ?? 0) & tcpFlag.syn) !== 0 : kind === OTHER)
      packets.clamp(packet, length, table.mtu[peer] ?? 0);
    this.#write(packet, length, kind);
  }

  /** Asks the tables and the filter. Returns whether the packet may go to the device. */
  #judge(
    packet: number,
    length: number,
    version: number,
    kind: number,
    ports: number,
    peer: number,
    now: number,
  ): boolean {
    const { table, counters, handover } = this.#parts;
    const copy = this.#bytes.slice(packet, packet + length);
    if (!table.allowed.mayHaveSent(peer, copy)) {
      add(counters, Counter.wrongSource, 1);
      return false;
    }
    const parsed = parsePacket(copy);
    if (typeof parsed === "string") {
      add(counters, Counter.malformed, 1);
      return false;
    }
    const decision = table.filter?.accepts(parsed);
    const isFlow = parsed.protocol === protocol.udp || parsed.protocol === protocol.sctp;
    const isAppeal = decision?.why === "no-rule" && isFlow;
    if (
      decision === undefined ||
      isAppeal ||
      (decision.why === "tsmp" && parsed.protocol === protocol.tsmp)
    ) {
      // What we sent by a relay, the engine knows; its own messages are its own to answer.
      if (!handover.push(Kind.opened, peer, 0, packet, length)) add(counters, Counter.ringDropped, 1);
      return false;
    }
    if (decision.verdict === "drop") {
      add(counters, Counter.filtered, 1);
      return false;
    }
    if ((kind === TCP && ports === 0) || (kind === UDP && ports !== 0 && ports !== -1)) {
      const until = kind === UDP && decision.why === "reply" ? now + REPLY_KEPT : Number.POSITIVE_INFINITY;
      table.verdicts.keep(packet, version, ports, peer, until);
    }
    return true;
  }

  #write(packet: number, length: number, kind: number): void {
    const { packets, offload, udpOffload } = this.#parts;
    this.#opened++;
    if (offload && (kind === TCP || kind === UDP)) {
      for (;;) {
        const flow = packets.offer(udpOffload ? 1 : 0);
        if (flow === -1) return;
        if (flow < 0) break;
        this.#writeFlow(flow);
      }
    } else {
      this.#writeFlows();
    }
    this.#writeSingle(packet, length);
  }

  /** Writes all that was gathered. */
  flush(): void {
    this.#writeFlows();
    this.#opened = 0;
  }

  #writeFlows(): void {
    if (!this.#parts.offload || this.#opened === 0) return;
    for (let flow = 0; flow < GATHERED_FLOWS; flow++) this.#writeFlow(flow);
  }

  #writeFlow(flow: number): void {
    const { packets, calls, tun, base, layout } = this.#parts;
    const iovecs = packets.finish(flow);
    if (iovecs === 0) return;
    this.#count(calls.writev(tun, base + flowIovecs(layout, flow), iovecs));
  }

  #writeSingle(packet: number, length: number): void {
    const { calls, tun, base, layout, offload } = this.#parts;
    if (!offload) {
      this.#count(calls.write(tun, base + packet, length));
      return;
    }
    const { singleIovecs: at } = layout;
    setAddress(this.#view, at + IOVEC, base + packet);
    this.#view.setUint32(at + IOVEC + 8, length, true);
    this.#count(calls.writev(tun, base + at, 2));
  }

  #count(result: number): void {
    add(this.#parts.counters, Counter.writeCalls, 1);
    if (result < 0) add(this.#parts.counters, Counter.tunDropped, 1);
  }

  #prepareMessages(): void {
    const { layout, base } = this.#parts;
    const view = this.#view;
    setAddress(view, layout.singleIovecs, base + layout.singleHeader);
    view.setUint32(layout.singleIovecs + 8, VNET, true);
    for (let m = 0; m < MESSAGES; m++) {
      const iovec = layout.receivedIovecs + m * IOVEC;
      setAddress(view, iovec, base + layout.received + m * layout.receivedSlot + HEADROOM);
      view.setUint32(iovec + 8, READ_SIZE, true);
      const message = layout.receivedMessages + m * MESSAGE_HEADER;
      setAddress(view, message, base + layout.receivedNames + m * ADDRESS_SIZE);
      view.setUint32(message + 8, ADDRESS_SIZE - 4, true);
      setAddress(view, message + 16, base + iovec);
      view.setUint32(message + 24, 1, true);
      setAddress(view, message + 32, base + layout.receivedControl + m * CONTROL_SIZE);
      view.setUint32(message + 40, CONTROL_SIZE, true);
    }
  }
}

/** Addresses have 47 bits here, and numbers 53. */
function setAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address >>> 0, true);
  view.setUint32(at + 4, Math.floor(address / 2 ** 32), true);
}

function add(counters: Float64Array, index: number, count: number): void {
  counters[index] = (counters[index] ?? 0) + count;
}
