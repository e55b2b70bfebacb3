/**
 * From the TUN device to the network: reads large, cuts in place, seals into slots, sends many at once.
 *
 * A packet is copied once, by the cipher: from the read buffer into its slot. Slots that go to the same address
 * and have the same length leave as one train (UDP_SEGMENT), of which the last may be shorter.
 */
import { extension, isExtension, maxExtensions, parsePacket, protocol, tcpFlag } from "../core/ip/packet.ts";
import { BLOCK, IOVEC, MESSAGE_HEADER, TRAIN } from "./memory.ts";
import { Counter, Kind } from "./messages.ts";
import type { Order } from "./order.ts";
import type { PlaneParts } from "./plane.ts";

/** Reads before the other direction gets its turn. */
const READS = 32;
const VNET = 10;
const V6_HEADER = 40;
/** Of the field with the flags in an IPv4 header. */
const FRAGMENT_OFFSET = 0x1fff;
const MESSAGE_OVERHEAD = 32;
/** Of the UDP payload of one train. */
const TRAIN_BYTES = 65_507;

/** From linux/udp.h. */
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const CMSG_HEADER = 16;
const SEGMENT_CONTROL = 24;

const AF_INET6 = 10;
const POLLOUT = 4;
/** How long a full socket may hold up everything. */
const SEND_PATIENCE = 5;

/** errno of Linux. */
const [EAGAIN, EINTR, EIO, EINVAL, EMSGSIZE, ENOBUFS, EBADFD] = [11, 4, 5, 22, 90, 105, 77];

/** Packets since the last report of which copies are kept for sending again. */
const COPIES = 64;
/** While the path is in doubt: what the relay may carry of a bulk transfer, until the path is given up. */
const COPIES_IN_DOUBT = 512;
/** A read of more packets is worth another thread's waking, when several work side by side. */
const SMALL = 8;
/** Trains that are sent one by one after the kernel refused one (EINVAL: a message is longer than the path's MTU). */
const TRY_AGAIN = 4_096;
/** How long a flow that was noted counts as noted. */
const NOTED = 1_000;

export class Outbound {
  /** Whether the network takes trains. */
  gso: boolean;
  readonly #parts: PlaneParts;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #packetAt: number;
  readonly #order: Order;
  /** The read that is being sealed: how many packets, how far apart, for whom, from which counter on. */
  #cutCount = 0;
  #cutSize = 0;
  #cutPeer = -1;
  #cutCounter = 0;
  /** The protocol of the transport header that was looked for last. */
  #transport = 0;
  /** The train that is being made. */
  #peer = -1;
  #size = 0;
  #count = 0;
  #total = 0;
  #isClosed = false;
  /** By peer: messages of this length and longer go one by one, as the path does not carry them whole; 0 for none. */
  readonly #refusedSize: Uint16Array;
  /** By peer: how many trains were sent so, until it is tried again. */
  readonly #sentSingly: Uint16Array;

  constructor(parts: PlaneParts, order: Order) {
    this.#parts = parts;
    this.#order = order;
    // What is the default anyway is refused by a kernel that knows nothing of trains.
    this.gso = parts.gso && parts.calls.setsockopt(parts.udp4, SOL_UDP, UDP_SEGMENT, 0) === 0;
    parts.counters[Counter.gso] = this.gso ? 1 : 0;
    this.#refusedSize = new Uint16Array(parts.maxPeers);
    this.#sentSingly = new Uint16Array(parts.maxPeers);
    this.#view = new DataView(parts.memory);
    this.#bytes = new Uint8Array(parts.memory);
    this.#packetAt = parts.layout.read + 256;
    const { layout, base } = parts;
    for (let i = 0; i < TRAIN; i++) {
      const start = base + layout.sealed + i * layout.slot + BLOCK - 16;
      this.#view.setBigUint64(layout.sealedIovecs + i * IOVEC, BigInt(start), true);
    }
  }

  /** Reads until there is no more, for a worker that alone reads the device. */
  drain(now: number): void {
    for (let i = 0; i < READS; i++) {
      const length = this.#read();
      if (length < 0) break;
      if (this.#take(length, now)) this.#seal();
    }
    this.flush();
  }

  /** Reads for as long as there is little to do. Returns whether `follow` has much to do, so that others may read. */
  lead(now: number): boolean {
    this.#order.takeTicket();
    for (let i = 0; i < READS; i++) {
      const length = this.#read();
      if (length < 0) break;
      if (!this.#take(length, now)) continue;
      if (this.#cutCount > SMALL) return true;
      this.#seal();
    }
    return false;
  }

  /** Seals what `lead` has left, and sends in turn. */
  follow(hasLeft: boolean): void {
    if (hasLeft) this.#seal();
    this.flush();
    this.#order.finish();
  }

  /** The length of the next read without its virtio header, or -1. */
  #read(): number {
    const { calls, base, offload, tun } = this.#parts;
    const headroom = offload ? VNET : 0;
    if (!offload) this.#bytes.fill(0, this.#packetAt - VNET, this.#packetAt);
    const length = calls.read(tun, base + this.#packetAt - headroom, 65_535 + headroom);
    if (length >= 0) return Math.max(0, length - headroom);
    if (length !== -EAGAIN && length !== -EINTR) this.#lose(-length);
    return -1;
  }

  /** Takes one read, with its virtio header before it. Returns whether there is something to seal. */
  #take(length: number, now: number): boolean {
    const { packets, counters, table } = this.#parts;
    const packet = this.#packetAt;
    const size = this.#view.getUint16(packet - 6, true);
    const count = packets.begin(packet, length, packet - VNET);
    if (count < 0) {
      add(counters, Counter.malformed, 1);
      return false;
    }
    const version = (this.#bytes[packet] ?? 0) >> 4;
    const peer = this.#route(packet, version, now);
    if (peer < 0) {
      if (!table.routes.isIncomplete) add(counters, Counter.noPeer, count);
      else this.#handOver(packet, count, size);
      return false;
    }
    if (peer !== table.peer) {
      this.flush();
      table.look(peer);
    }
    const { mtu, sendSlot: slot } = table;
    if (packets.longest() > mtu) {
      this.#handOver(packet, count, size);
      return false;
    }
    if (count === 1) this.#clamp(packet, version, length, mtu);
    const counter = slot >= 0 && now < table.sendUntil ? this.#parts.sessions.reserve(slot, count) : -1;
    if (counter < 0) {
      this.#handOver(packet, count, size);
      return false;
    }
    if (this.#protocol(packet, version) !== protocol.tcp) this.#noteFlow(packet, version, length, peer, now);
    this.#cutCount = count;
    this.#cutSize = size;
    this.#cutPeer = peer;
    this.#cutCounter = counter;
    return true;
  }

  #seal(): void {
    const { packets, counters, table, layout, sessions, handover, traffic, aead } = this.#parts;
    const { sendSlot: slot, isInDoubt, isByEngine } = table;
    const packet = this.#packetAt;
    const [count, size, peer, counter] = [this.#cutCount, this.#cutSize, this.#cutPeer, this.#cutCounter];
    const key = sessions.sendKey(slot);
    const index = sessions.remoteIndex(slot);
    const kind = isByEngine ? Kind.relayed : isInDoubt ? Kind.doubted : Kind.sent;
    const copies = isByEngine || traffic.unreported(peer) < (isInDoubt ? COPIES_IN_DOUBT : COPIES);
    let bytes = 0;
    for (let i = 0; i < count; i++) {
      const padded = packets.next(i, this.#parts.mtu);
      const length = padded + MESSAGE_OVERHEAD;
      const place = isByEngine ? 0 : this.#place(peer, length);
      const to = layout.sealed + place * layout.slot;
      const lengthAt = layout.sealedIovecs + place * IOVEC + 8;
      aead.seal(to, packet + i * size, padded, key, index, (counter + i) | 0, lengthAt);
      bytes += length;
      if (copies && !handover.push(kind, peer, 0, to + 48, length) && isByEngine)
        add(counters, Counter.ringDropped, 1);
    }
    traffic.sent(peer, count, bytes);
    add(counters, Counter.sentPackets, count);
    add(counters, Counter.sentBytes, bytes);
  }

  /** A connection must not begin with segments that the path does not carry. */
  #clamp(packet: number, version: number, length: number, mtu: number): void {
    const bytes = this.#bytes;
    if (this.#protocol(packet, version) !== protocol.tcp) return;
    const tcp = packet + (version === 4 ? ((bytes[packet] ?? 0) & 15) * 4 : V6_HEADER);
    if (((bytes[tcp + 13] ?? 0) & tcpFlag.syn) !== 0) this.#parts.packets.clamp(packet, length, mtu);
  }

  #protocol(packet: number, version: number): number {
    return this.#bytes[packet + (version === 4 ? 9 : 6)] ?? 0;
  }

  #route(packet: number, version: number, now: number): number {
    const { outboundVerdicts, routes } = this.#parts.table;
    const known = outboundVerdicts.find(packet, version, 0, 0, now);
    if (known >= 0) return known;
    const peer = routes.lookup(packet + (version === 4 ? 16 : 24), version === 4 ? 4 : 16);
    if (peer >= 0) outboundVerdicts.keep(packet, version, 0, 0, peer, Number.POSITIVE_INFINITY);
    return peer;
  }

  /** The filter must know which flows of UDP and SCTP are ours. */
  #noteFlow(packet: number, version: number, length: number, peer: number, now: number): void {
    const { outboundVerdicts, filter } = this.#parts.table;
    const transport = version === 4 ? this.#transportV4(packet) : this.#transportV6(packet);
    const proto = transport === 0 ? 0 : this.#transport;
    if (proto !== protocol.udp && proto !== protocol.sctp) return;
    const ports = this.#view.getInt32(transport, true);
    if (outboundVerdicts.find(packet, version, proto, ports, now) >= 0) return;
    const parsed = parsePacket(this.#bytes.slice(packet, packet + length));
    if (typeof parsed === "string") return;
    filter?.noteOutbound(parsed);
    outboundVerdicts.keep(packet, version, proto, ports, peer, now + NOTED);
  }

  /** Where the transport header is, or 0 in a later fragment. That it lies whole in the packet was looked at before. */
  #transportV4(packet: number): number {
    if ((this.#view.getUint16(packet + 6) & FRAGMENT_OFFSET) !== 0) return 0;
    this.#transport = this.#bytes[packet + 9] ?? 0;
    return packet + ((this.#bytes[packet] ?? 0) & 15) * 4;
  }

  #transportV6(packet: number): number {
    const bytes = this.#bytes;
    let at = packet + V6_HEADER;
    let next = bytes[packet + 6] ?? 0;
    for (let walked = 0; walked < maxExtensions && isExtension(next); walked++) {
      const isFragment = next === extension.fragment;
      if (isFragment && this.#view.getUint16(at + 2) >> 3 !== 0) return 0;
      next = bytes[at] ?? 0;
      at += isFragment ? 8 : ((bytes[at + 1] ?? 0) + 1) * 8;
    }
    this.#transport = next;
    return at;
  }

  /** The engine has to send these: there is no session, or no proven path. */
  #handOver(packet: number, count: number, size: number): void {
    const { packets, handover, counters } = this.#parts;
    for (let i = 0; i < count; i++) {
      const length = packets.next(i, 0);
      if (!handover.push(Kind.packet, 0, 0, packet + i * size, length)) add(counters, Counter.ringDropped, 1);
    }
  }

  /** The slot for the next message of the train. */
  #place(peer: number, size: number): number {
    const fits =
      this.#count > 0 &&
      peer === this.#peer &&
      !this.#isClosed &&
      size <= this.#size &&
      this.#count < TRAIN &&
      this.#total + size <= TRAIN_BYTES;
    if (!fits) {
      this.flush();
      this.#peer = peer;
      this.#size = size;
    } else if (size < this.#size) {
      this.#isClosed = true;
    }
    this.#total += size;
    return this.#count++;
  }

  /** Sends the train. */
  flush(): void {
    const count = this.#count;
    if (count === 0) return;
    this.#order.awaitTurn();
    this.#count = 0;
    this.#total = 0;
    this.#isClosed = false;
    if (count === 1 || (this.gso && this.#mayTrain())) this.#send(0, count);
    else for (let i = 0; i < count; i++) this.#send(i, 1);
  }

  /** Whether the peer's path takes trains of this length, as far as is known. */
  #mayTrain(): boolean {
    const peer = this.#peer;
    const refused = this.#refusedSize[peer] ?? 0;
    if (refused === 0 || this.#size < refused) return true;
    const sent = (this.#sentSingly[peer] ?? 0) + 1;
    this.#sentSingly[peer] = sent % TRY_AGAIN;
    if (sent < TRY_AGAIN) return false;
    this.#refusedSize[peer] = 0;
    return true;
  }

  #send(first: number, count: number): void {
    const { calls, base, layout, counters, table, udp4, udp6 } = this.#parts;
    const peer = this.#peer;
    const { addressLength } = table;
    const addressAt = layout.target;
    const fd = this.#view.getUint16(addressAt, true) === AF_INET6 ? udp6 : udp4;
    this.#describe(addressAt, addressLength, first, count);
    let result = calls.sendmsg(fd, base + layout.sendMessage);
    if (result === -EAGAIN) {
      this.#waitForRoom(fd);
      result = calls.sendmsg(fd, base + layout.sendMessage);
    }
    add(counters, Counter.sendCalls, 1);
    if (result >= 0) return;
    if (count > 1 && (result === -EIO || result === -EINVAL || result === -EMSGSIZE)) {
      if (result === -EIO) this.#stopTrains();
      else if (result === -EINVAL) this.#refusedSize[peer] = this.#size;
      for (let i = first; i < first + count; i++) this.#send(i, 1);
      return;
    }
    add(counters, Counter.sendDropped, count);
    if (result !== -EAGAIN && result !== -ENOBUFS) {
      this.#parts.reports.push(Kind.sendError, peer, -result, addressAt, addressLength);
    }
  }

  /** The network device can not make checksums: it will not for anybody. */
  #stopTrains(): void {
    this.gso = false;
    this.#parts.counters[Counter.gso] = 0;
  }

  #describe(addressAt: number, addressLength: number, first: number, count: number): void {
    const { base, layout } = this.#parts;
    const view = this.#view;
    const message = layout.sendMessage;
    setAddress(view, message, base + addressAt);
    view.setUint32(message + 8, addressLength, true);
    setAddress(view, message + 16, base + layout.sealedIovecs + first * IOVEC);
    view.setUint32(message + 24, count, true);
    const control = layout.sendControl;
    setAddress(view, message + 32, count > 1 ? base + control : 0);
    view.setUint32(message + 40, count > 1 ? SEGMENT_CONTROL : 0, true);
    if (count === 1) return;
    view.setUint32(control, CMSG_HEADER + 2, true);
    view.setInt32(control + 8, SOL_UDP, true);
    view.setInt32(control + 12, UDP_SEGMENT, true);
    view.setUint16(control + CMSG_HEADER, this.#size, true);
  }

  #waitForRoom(fd: number): void {
    const { calls, base, layout } = this.#parts;
    const at = layout.sendControl + MESSAGE_HEADER - 16;
    this.#view.setInt32(at, fd, true);
    this.#view.setInt16(at + 4, POLLOUT, true);
    calls.poll(base + at, 1, SEND_PATIENCE);
  }

  #lose(errno: number): void {
    if (errno === EBADFD || errno === EIO) this.#parts.reports.push(Kind.tunLost, 0, errno, 0, 0);
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
