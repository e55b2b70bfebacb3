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
import type { Order } from "./order.ts";
import type { PlaneParts } from "./plane.ts";
import type { RingReader } from "./ring.ts";
import { BY_RELAY, Senders } from "./roaming.ts";

const TRANSPORT = 4;
const MESSAGE_OVERHEAD = 32;
const VNET = 10;
/** Datagrams before the other direction gets its turn. */
const DATAGRAMS = 64;
/** Of relayed messages. */
const RELAYED = 512;
/** Large datagrams are received few at a time: what was received and opened must stay in the processor's cache. */
const LARGE = 8192;
const FEW = 2;
/** More bytes are worth another thread's waking, when several work side by side. */
const SMALL = 8192;

/** From linux/udp.h and linux/socket.h. */
const SOL_UDP = 17;
const UDP_GRO = 104;
const CMSG_HEADER = 16;
const MSG_TRUNC = 0x20;

/** What `inspect` returns. */
const [TCP, UDP, OTHER] = [1, 2, 3];
/** Types of ICMP and ICMPv6 whose verdict hangs on addresses and type alone: echo request and reply. */
const ECHO_V4 = [8, 0];
const ECHO_V6 = [128, 129];
/** How long an answer to what we sent stays allowed without asking again. */
const REPLY_KEPT = 1_000;

export class Inbound {
  readonly #parts: PlaneParts;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  /** What `inspect` left. */
  readonly #parsed: Int32Array;
  readonly #order: Order;
  /** What was opened and waits to be delivered: its slot's number is its index. */
  #opened = 0;
  readonly #sessionOf = new Int32Array(OPENED);
  readonly #counterOf = new Uint32Array(OPENED);
  readonly #sizeOf = new Int32Array(OPENED);
  /** Who sent it. */
  readonly #senderOf = new Uint8Array(OPENED);
  readonly #senders: Senders;
  #isRelayed = false;
  /** How many datagrams the next call asks for, how many the last one brought, and how many bytes. */
  #wanted = MESSAGES;
  #datagrams = 0;
  #bytesReceived = 0;

  constructor(parts: PlaneParts, order: Order) {
    this.#parts = parts;
    this.#order = order;
    this.#view = new DataView(parts.memory);
    this.#bytes = new Uint8Array(parts.memory);
    this.#senders = new Senders(parts.memory, parts.layout);
    this.#parsed = new Int32Array(parts.memory, parts.layout.parsed, 16);
    this.#prepareMessages();
  }

  /** Receives until there is no more, for a worker that alone receives. */
  drain(fd: number, now: number): void {
    for (let received = 0; received < DATAGRAMS; received += this.#datagrams) {
      const wanted = this.#wanted;
      this.#receive(fd);
      this.#openReceived(now);
      if (this.#datagrams < wanted) break;
    }
    this.flush(now);
  }

  /** Receives once. Returns whether `follow` has much to do, so that others may receive. */
  lead(fd: number): boolean {
    this.#order.takeTicket();
    this.#receive(fd);
    return this.#bytesReceived > SMALL;
  }

  /** Opens what `lead` has received, and delivers it in turn. */
  follow(now: number): void {
    this.#openReceived(now);
    this.flush(now);
    this.#order.finish();
  }

  /** Messages that came by a relay: the engine hands them over. */
  takeRelayed(ring: RingReader, now: number): void {
    const at = this.#parts.layout.received + HEADROOM;
    const { counters } = this.#parts;
    this.#isRelayed = true;
    for (let i = 0; i < RELAYED && ring.next(); i++) {
      const { length } = ring;
      if (length <= READ_SIZE) {
        this.#bytes.copyWithin(at, ring.at, ring.at + length);
        if (!this.#open(at, length, now)) add(counters, Counter.expired, 1);
      }
      ring.advance();
    }
    this.#isRelayed = false;
    this.flush(now);
  }

  #receive(fd: number): void {
    const { calls, base, layout } = this.#parts;
    const wanted = this.#wanted;
    const count = Math.max(0, calls.recvmmsg(fd, base + layout.receivedMessages, wanted));
    let bytes = 0;
    for (let m = 0; m < count; m++)
      bytes += this.#view.getUint32(layout.receivedMessages + m * MESSAGE_HEADER + 56, true);
    this.#datagrams = count;
    this.#bytesReceived = bytes;
    this.#wanted = bytes > count * LARGE ? FEW : MESSAGES;
  }

  #openReceived(now: number): void {
    for (let m = 0; m < this.#datagrams; m++) this.#message(m, now);
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
    this.#senders.note(name, this.#opened);
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

  /** Opens a message; it is delivered later. Returns false where it is the engine's to handle. */
  #open(message: number, size: number, now: number): boolean {
    const view = this.#view;
    const { table, sessions, layout, counters, aead } = this.#parts;
    if (size < MESSAGE_OVERHEAD || view.getInt32(message, true) !== TRANSPORT) return false;
    const slot = table.slotOf(view.getInt32(message + 4, true));
    const length = size - MESSAGE_OVERHEAD;
    if (slot < 0 || length > layout.largest || view.getInt32(message + 12, true) !== 0) return false;
    if (now >= sessions.until(slot)) return false;
    const counter = view.getUint32(message + 8, true);
    if (counter === 0xffff_ffff) return false;
    if (!sessions.isFresh(slot, counter)) {
      add(counters, Counter.replay, 1);
      return true;
    }
    if (this.#opened === OPENED) this.flush(now);
    const place = this.#opened;
    const to = layout.opened + place * layout.slot;
    if (!aead.open(to, message, length, sessions.receiveKey(slot), counter | 0)) {
      add(counters, Counter.unauthenticated, 1);
      return true;
    }
    this.#sessionOf[place] = slot;
    this.#counterOf[place] = counter;
    this.#sizeOf[place] = size;
    this.#senderOf[place] = this.#isRelayed ? BY_RELAY : this.#senders.last;
    this.#opened = place + 1;
    return true;
  }

  /** Delivers what was opened, each message once, and writes all that was gathered. */
  flush(now: number): void {
    const opened = this.#opened;
    if (opened === 0) return;
    this.#order.awaitTurn();
    const { sessions, layout, counters, traffic, roaming } = this.#parts;
    let [lastPeer, lastSender] = [-1, BY_RELAY];
    for (let place = 0; place < opened; place++) {
      const slot = this.#sessionOf[place] ?? 0;
      if (!sessions.mark(slot, this.#counterOf[place] ?? 0)) {
        add(counters, Counter.replay, 1);
        continue;
      }
      const size = this.#sizeOf[place] ?? 0;
      const peer = sessions.peer(slot);
      if (peer < 0) continue;
      const sender = this.#senderOf[place] ?? BY_RELAY;
      if (sender !== BY_RELAY && (sender !== lastSender || peer !== lastPeer)) {
        roaming.noteSender(peer, layout.senders + sender * ADDRESS_SIZE);
        [lastPeer, lastSender] = [peer, sender];
      }
      traffic.received(peer, size, size > MESSAGE_OVERHEAD);
      add(counters, Counter.receivedPackets, 1);
      add(counters, Counter.receivedBytes, size);
      if (size > MESSAGE_OVERHEAD)
        this.#deliver(layout.opened + place * layout.slot + BLOCK, size - MESSAGE_OVERHEAD, peer, now);
    }
    this.#writeFlows();
    this.#opened = 0;
    this.#senders.keepLast();
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
    const proto = this.#protocolOf(packet, length, version, kind);
    const ports =
      kind === UDP
        ? (parsed[4] ?? 0)
        : kind === OTHER
          ? (this.#bytes[packet + (version === 4 ? 20 : 40)] ?? 0)
          : 0;
    const known = proto !== 0 && table.verdicts.find(packet, version, proto, ports, now) === peer;
    if (!known && !this.#judge(packet, length, version, proto, ports, peer, now)) return;
    if (kind === TCP ? ((parsed[3] ?? 0) & tcpFlag.syn) !== 0 : kind === OTHER)
      packets.clamp(packet, length, table.mtuOf(peer));
    this.#write(packet, length, kind);
  }

  /** The protocol of a packet whose verdict is the same for all of its kind; 0 for others. */
  #protocolOf(packet: number, length: number, version: number, kind: number): number {
    if (kind === UDP) return protocol.udp;
    if (kind === TCP) {
      const flags = this.#parsed[3] ?? 0;
      return (flags & (tcpFlag.syn | tcpFlag.ack)) !== tcpFlag.syn ? protocol.tcp : 0;
    }
    const bytes = this.#bytes;
    if (version === 6) {
      const isEcho = bytes[packet + 6] === protocol.icmpV6 && length >= 48;
      return isEcho && ECHO_V6.includes(bytes[packet + 40] ?? 0) ? protocol.icmpV6 : 0;
    }
    const isWhole = bytes[packet] === 0x45 && (this.#view.getUint16(packet + 6) & 0x3fff) === 0;
    const isEcho = isWhole && bytes[packet + 9] === protocol.icmp && length >= 28;
    return isEcho && ECHO_V4.includes(bytes[packet + 20] ?? -1) ? protocol.icmp : 0;
  }

  /** Asks the tables and the filter. Returns whether the packet may go to the device. */
  #judge(
    packet: number,
    length: number,
    version: number,
    proto: number,
    ports: number,
    peer: number,
    now: number,
  ): boolean {
    const { table, counters, handover } = this.#parts;
    const isV4 = version === 4;
    if (!table.routes.mayHaveSent(peer, packet + (isV4 ? 12 : 8), isV4 ? 4 : 16)) {
      add(counters, Counter.wrongSource, 1);
      return false;
    }
    const parsed = parsePacket(this.#bytes.slice(packet, packet + length));
    if (typeof parsed === "string") {
      add(counters, Counter.malformed, 1);
      return false;
    }
    const decision = table.filter?.accepts(parsed);
    if (decision === undefined || (decision.why === "tsmp" && parsed.protocol === protocol.tsmp)) {
      // Its own messages are the engine's to answer.
      if (!handover.push(Kind.opened, peer, 0, packet, length)) add(counters, Counter.ringDropped, 1);
      return false;
    }
    if (decision.verdict === "drop") {
      add(counters, Counter.filtered, 1);
      return false;
    }
    if (proto !== 0) {
      const until =
        proto === protocol.udp && decision.why === "reply" ? now + REPLY_KEPT : Number.POSITIVE_INFINITY;
      table.verdicts.keep(packet, version, proto, ports, peer, until);
    }
    return true;
  }

  #write(packet: number, length: number, kind: number): void {
    const { packets, offload, udpOffload } = this.#parts;
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

  #writeFlows(): void {
    if (!this.#parts.offload) return;
    for (let flow = 0; flow < GATHERED_FLOWS; flow++) this.#writeFlow(flow);
  }

  #writeFlow(flow: number): void {
    const { packets, calls, tun, base, layout } = this.#parts;
    const iovecs = packets.finish(flow);
    if (iovecs === 0) return;
    this.#noteWrite(calls.writev(tun, base + flowIovecs(layout, flow), iovecs));
  }

  #writeSingle(packet: number, length: number): void {
    const { calls, tun, base, layout, offload } = this.#parts;
    if (!offload) {
      this.#noteWrite(calls.write(tun, base + packet, length));
      return;
    }
    const { singleIovecs: at } = layout;
    setAddress(this.#view, at + IOVEC, base + packet);
    this.#view.setUint32(at + IOVEC + 8, length, true);
    this.#noteWrite(calls.writev(tun, base + at, 2));
  }

  #noteWrite(result: number): void {
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
