/**
 * The arithmetic of the fast path, in AssemblyScript (TypeScript's syntax, compiled to WebAssembly with SIMD).
 *
 * Everything here works inside one linear memory, which the JavaScript around it shares: the arguments are
 * offsets into it. It knows packets, not sessions, sockets or peers. Its parts:
 *
 *   sum                       the Internet checksum, 16 bytes a step
 *   begin, next               one read of the TUN device cut into packets, in the order of sealing
 *   frame, enter, leave       what lies around a sealed packet
 *   …Keyed                    the same, and Poly1305 on OpenSSL's own state (`openssl-poly1305.as`)
 *   inspect, offer, finish    opened packets gathered into few large ones for the TUN device
 *
 * Words are read in the machine's order (little-endian): the ones' complement sum does not mind, as long as
 * every word is (RFC 1071, section 2B). `twin.ts` says the same in plain words, and a test holds them equal.
 */

import { begin as beginMac, end as endMac, mac0, mac1, use } from "./openssl-poly1305";

// Checksums

/** Folds a sum to 16 bits. */
@inline
function fold(total: u64): u32 {
  let s: u64 = (total & 0xffffffff) + (total >> 32);
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  s = (s & 0xffff) + (s >> 16);
  return <u32>s;
}

/** The folded sum of the words at `at`, added to `initial`. */
export function sum(at: usize, length: u32, initial: u32): u32 {
  let low = i32x4.splat(0);
  let high = i32x4.splat(0);
  let p = at;
  let left = length;
  while (left >= 64) {
    low = i32x4.add(low, i32x4.extadd_pairwise_i16x8_u(v128.load(p)));
    high = i32x4.add(high, i32x4.extadd_pairwise_i16x8_u(v128.load(p, 16)));
    low = i32x4.add(low, i32x4.extadd_pairwise_i16x8_u(v128.load(p, 32)));
    high = i32x4.add(high, i32x4.extadd_pairwise_i16x8_u(v128.load(p, 48)));
    p += 64;
    left -= 64;
  }
  while (left >= 16) {
    low = i32x4.add(low, i32x4.extadd_pairwise_i16x8_u(v128.load(p)));
    p += 16;
    left -= 16;
  }
  let total: u64 =
    <u64>initial +
    <u64>(<u32>i32x4.extract_lane(low, 0)) +
    <u64>(<u32>i32x4.extract_lane(low, 1)) +
    <u64>(<u32>i32x4.extract_lane(low, 2)) +
    <u64>(<u32>i32x4.extract_lane(low, 3)) +
    <u64>(<u32>i32x4.extract_lane(high, 0)) +
    <u64>(<u32>i32x4.extract_lane(high, 1)) +
    <u64>(<u32>i32x4.extract_lane(high, 2)) +
    <u64>(<u32>i32x4.extract_lane(high, 3));
  while (left >= 2) {
    total += load<u16>(p);
    p += 2;
    left -= 2;
  }
  if (left > 0) total += load<u8>(p);
  return fold(total);
}

@inline
function swap16(word: u32): u32 {
  return ((word & 0xff) << 8) | ((word >> 8) & 0xff);
}

@inline
function load16be(at: usize): u32 {
  return swap16(load<u16>(at));
}

@inline
function store16be(at: usize, value: u32): void {
  store<u16>(at, <u16>swap16(value));
}

/** The sum over the pseudo-header, the length left out. */
@inline
function pseudoSum(packet: usize, isV4: bool, protocol: u32): u32 {
  return isV4 ? sum(packet + 12, 8, protocol << 8) : sum(packet + 8, 32, protocol << 8);
}

@inline
function ipHeader(isV4: bool): u32 {
  return isV4 ? V4_HEADER : V6_HEADER;
}

const HOP_BY_HOP: u32 = 0;
const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const FRAGMENT: u32 = 44;
const ICMP_V6: u32 = 58;
const DESTINATION_OPTIONS: u32 = 60;
const SCTP: u32 = 132;
/** Of the field with the flags in an IPv4 header. */
const FRAGMENT_OFFSET: u32 = 0x1fff;
/** IPv6 extension headers that one packet may carry. */
const MAX_EXTENSIONS: i32 = 4;
const V4_HEADER: u32 = 20;
const V6_HEADER: u32 = 40;
const TCP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;
/** Of a ChaCha20 block: the first one of a packet becomes the Poly1305 key. */
const BLOCK: u32 = 64;
const TAG: u32 = 16;
const WG_HEADER: u32 = 16;

// From linux/virtio_net.h: flags 0, type 1, header length 2, segment size 4, checksum start 6, checksum offset 8.
const NEEDS_CSUM: u32 = 1;
const DATA_VALID: u32 = 2;
const GSO_NONE: u32 = 0;
const GSO_TCP_V4: u32 = 1;
const GSO_TCP_V6: u32 = 4;
const GSO_UDP_L4: u32 = 5;
const GSO_ECN: u32 = 0x80;
const VNET_HEADER: u32 = 10;

// TCP flags
const FIN: u32 = 1;
const PSH: u32 = 8;
const ACK: u32 = 16;
const CWR: u32 = 128;

/** The longest headers that a packet to be cut may have: what fits `templateAt`. */
const TEMPLATE_LIMIT: u32 = 192;

let templateAt: usize = 0;
let flowsAt: usize = 0;
let parsedAt: usize = 0;
/** What to add to an offset to get the address that the kernel knows. */
let native: u64 = 0;
let largest: u32 = 0;

/** Where this module keeps its own: see `memory.ts`. `limit`: the longest packet that a slot holds. */
export function init(template: usize, flows: usize, parsed: usize, nativeLow: u32, nativeHigh: u32, limit: u32): void {
  templateAt = template;
  flowsAt = flows;
  parsedAt = parsed;
  native = <u64>nativeLow | (<u64>nativeHigh << 32);
  largest = limit;
  for (let f: u32 = 0; f < FLOWS; f++) store<u32>(flow(f), 0, COUNT);
}

// Cutting

let cutBase: usize = 0;
let cutHeader: u32 = 0;
let cutSize: u32 = 0;
let cutTotal: u32 = 0;
let cutCount: u32 = 0;
let cutTransport: u32 = 0;
let cutIsV4: bool = false;
let cutIsTcp: bool = false;
let cutIpSum: u32 = 0;
let cutSum: u32 = 0;
let savedAt: usize = 0;
let saved0: u64 = 0;
let saved1: u64 = 0;

/**
 * Takes one read of the TUN device: `length` bytes at `packet`, described by the virtio header at `vnet`.
 * Returns how many packets it holds, or why it holds none: every number in it is checked here.
 */
export function begin(packet: usize, length: u32, vnet: usize): i32 {
  savedAt = 0;
  cutBase = packet;
  cutTotal = length;
  const flags: u32 = load<u8>(vnet);
  const gso: u32 = load<u8>(vnet, 1);
  const type = gso & ~GSO_ECN;
  const start: u32 = load<u16>(vnet, 6);
  const offset: u32 = load<u16>(vnet, 8);
  if (length < V4_HEADER) return -1;
  const version: u32 = load<u8>(packet) >> 4;
  if (version != 4 && (version != 6 || length < V6_HEADER)) return -1;
  if (type == GSO_NONE) {
    const isV4 = version == 4;
    const header: u32 = isV4 ? (<u32>load<u8>(packet) & 15) << 2 : V6_HEADER;
    const total = isV4 ? load16be(packet + 2) : V6_HEADER + load16be(packet + 4);
    if (header < ipHeader(isV4) || total < header || total > length) return -1;
    if (total > largest) return -2;
    if (!hasTransport(packet, total, isV4, header)) return -5;
    if ((flags & NEEDS_CSUM) != 0) {
      if (start < header || start + offset + 2 > total) return -3;
      const at = packet + start + offset;
      // The field holds the sum of the pseudo-header. A UDP checksum of zero would mean none.
      const value = ~sum(packet + start, total - start, 0) & 0xffff;
      store<u16>(at, <u16>(value == 0 && offset == 6 ? 0xffff : value));
    }
    cutCount = 1;
    cutTotal = total;
    cutHeader = total;
    return 1;
  }
  cutIsV4 = version == 4;
  cutIsTcp = type != GSO_UDP_L4;
  if (type != GSO_UDP_L4 && type != (cutIsV4 ? GSO_TCP_V4 : GSO_TCP_V6)) return -4;
  const ip: u32 = cutIsV4 ? (<u32>load<u8>(packet) & 15) << 2 : V6_HEADER;
  const protocol: u32 = cutIsV4 ? load<u8>(packet, 9) : load<u8>(packet, 6);
  // IPv6 extension headers lie between the two; there the last one names the transport.
  if ((flags & NEEDS_CSUM) == 0 || ip < ipHeader(cutIsV4) || start < ip) return -4;
  if (cutIsV4 && start != ip) return -4;
  if (start == ip && protocol != (cutIsTcp ? TCP : UDP)) return -4;
  if (start + (cutIsTcp ? TCP_HEADER : UDP_HEADER) > length) return -5;
  const transport: u32 = cutIsTcp ? (<u32>load<u8>(packet + start, 12) >> 4) << 2 : UDP_HEADER;
  if (cutIsTcp && transport < TCP_HEADER) return -5;
  cutTransport = start;
  cutHeader = start + transport;
  cutSize = load<u16>(vnet, 4);
  if (cutHeader >= length || cutHeader > TEMPLATE_LIMIT) return -5;
  if (!cutIsV4 && !hasTransport(packet, cutHeader, false, V6_HEADER)) return -5;
  if (cutSize == 0) return -6;
  if (cutHeader + min(cutSize, length - cutHeader) > largest) return -2;
  memory.copy(templateAt, packet, cutHeader);
  prepareTemplate();
  cutCount = (length - cutHeader + cutSize - 1) / cutSize;
  return <i32>cutCount;
}

/** Whether the transport header, IPv6 extension headers before it, lies whole in the packet (`parsePacket`). */
function hasTransport(packet: usize, length: u32, isV4: bool, header: u32): bool {
  let next: u32 = isV4 ? load<u8>(packet, 9) : load<u8>(packet, 6);
  let at = header;
  if (isV4) {
    if ((load16be(packet + 6) & FRAGMENT_OFFSET) != 0) return true;
  } else {
    for (let walked = 0; walked < MAX_EXTENSIONS; walked++) {
      if (next != HOP_BY_HOP && next != FRAGMENT && next != DESTINATION_OPTIONS) break;
      if (at + 8 > length) return false;
      const isLater = next == FRAGMENT && load16be(packet + at + 2) >> 3 != 0;
      const size: u32 = next == FRAGMENT ? 8 : (<u32>load<u8>(packet + at, 1) + 1) << 3;
      next = load<u8>(packet + at);
      at += size;
      if (at > length) return false;
      if (isLater) return true;
    }
  }
  return length - at >= transportHeader(next);
}

/** The shortest header of a transport; 0 for those that are not looked into. */
@inline
function transportHeader(protocol: u32): u32 {
  if (protocol == TCP) return TCP_HEADER;
  if (protocol == UDP || protocol == ICMP || protocol == ICMP_V6) return UDP_HEADER;
  return protocol == SCTP ? 12 : 0;
}

/** Clears what differs from packet to packet, and sums up what does not. */
function prepareTemplate(): void {
  const t = templateAt;
  if (cutIsV4) {
    store<u16>(t, 0, 10);
    cutIpSum = sum(t, cutTransport, 0) + (0xffff - <u32>load<u16>(t, 2)) + (0xffff - <u32>load<u16>(t, 4));
  }
  const l4 = t + cutTransport;
  if (cutIsTcp) {
    store<u16>(l4, 0, 16);
    const variable: u32 =
      (0xffff - <u32>load<u16>(l4, 4)) + (0xffff - <u32>load<u16>(l4, 6)) + (0xffff - <u32>load<u16>(l4, 12));
    cutSum = fold(<u64>pseudoSum(t, cutIsV4, TCP) + sum(l4, cutHeader - cutTransport, 0) + variable);
  } else {
    store<u16>(l4, 0, 4);
    store<u16>(l4, 0, 6);
    cutSum = fold(<u64>pseudoSum(t, cutIsV4, UDP) + sum(l4, UDP_HEADER, 0));
  }
}

/** How long the longest packet of the read is. */
export function longest(): u32 {
  return cutHeader == cutTotal ? cutTotal : cutHeader + min(cutSize, cutTotal - cutHeader);
}

/**
 * Makes packet `index` of the read ready to be sealed: its headers right before its payload, 64 zero bytes before
 * those, its padding after it. They lie where the packet before was, so take them in order, each once.
 * Returns its length with the padding; it begins at the read's start plus `index` times the segment size.
 */
export function next(index: u32, mtu: u32): u32 {
  if (savedAt != 0) {
    store<u64>(savedAt, saved0);
    store<u64>(savedAt, saved1, 8);
    savedAt = 0;
  }
  let packet = cutBase;
  let length = cutTotal;
  if (cutHeader != cutTotal) {
    packet = cutBase + index * cutSize;
    const payload = min(cutSize, cutTotal - cutHeader - index * cutSize);
    length = cutHeader + payload;
    writeHeaders(packet, index, payload);
  }
  clearBlock(packet - BLOCK);
  const padded = max(length, min(mtu, (length + 15) & ~15));
  if (padded > length) {
    savedAt = packet + length;
    saved0 = load<u64>(savedAt);
    saved1 = load<u64>(savedAt, 8);
    for (let at = length; at < padded; at++) store<u8>(packet + at, 0);
  }
  return padded;
}

function writeHeaders(packet: usize, index: u32, payload: u32): void {
  const t = templateAt;
  memory.copy(packet, t, cutHeader);
  const length = cutHeader + payload;
  if (cutIsV4) {
    const id = swap16((load16be(t + 4) + index) & 0xffff);
    const total = swap16(length);
    store<u16>(packet, <u16>total, 2);
    store<u16>(packet, <u16>id, 4);
    store<u16>(packet, <u16>(~fold(<u64>cutIpSum + total + id) & 0xffff), 10);
  } else {
    store16be(packet + 4, length - V6_HEADER);
  }
  const l4 = packet + cutTransport;
  const l4Length = swap16(length - cutTransport);
  const data = sum(packet + cutHeader, payload, 0);
  if (!cutIsTcp) {
    store<u16>(l4, <u16>l4Length, 4);
    const value = ~fold(<u64>cutSum + l4Length + l4Length + data) & 0xffff;
    store<u16>(l4, <u16>(value == 0 ? 0xffff : value), 6);
    return;
  }
  const sequence = bswap<u32>(bswap<u32>(load<u32>(t + cutTransport, 4)) + index * cutSize);
  let flags: u32 = load<u8>(t + cutTransport, 13);
  if (index > 0) flags &= ~CWR;
  if (index + 1 < cutCount) flags &= ~(FIN | PSH);
  const word: u32 = <u32>load<u8>(t + cutTransport, 12) | (flags << 8);
  store<u32>(l4, sequence, 4);
  store<u16>(l4, <u16>word, 12);
  const value = ~fold(<u64>cutSum + l4Length + (sequence & 0xffff) + (sequence >> 16) + word + data) & 0xffff;
  store<u16>(l4, <u16>value, 16);
}

@inline
function clearBlock(at: usize): void {
  const zero = i64x2.splat(0);
  v128.store(at, zero);
  v128.store(at, zero, 16);
  v128.store(at, zero, 32);
  v128.store(at, zero, 48);
}

// The beginning of a connection

const SYN: u32 = 2;

/**
 * Lowers the maximum segment size that a SYN offers to what fits into `mtu`, and changes its finished checksum along.
 * Returns 1 where it did.
 */
export function clamp(packet: usize, length: u32, mtu: u32): u32 {
  if (length < V4_HEADER) return 0;
  const version: u32 = load<u8>(packet) >> 4;
  const isV4 = version == 4;
  if (!isV4 && (version != 6 || length < V6_HEADER)) return 0;
  if (<u32>(isV4 ? load<u8>(packet, 9) : load<u8>(packet, 6)) != TCP) return 0;
  if (isV4 && (load<u16>(packet, 6) & 0xff3f) != 0) return 0;
  const ip: u32 = isV4 ? (<u32>load<u8>(packet) & 15) << 2 : V6_HEADER;
  const total = isV4 ? load16be(packet + 2) : V6_HEADER + load16be(packet + 4);
  if (ip < ipHeader(isV4) || total > length || ip + TCP_HEADER > total) return 0;
  const tcp = packet + ip;
  const headers: u32 = (<u32>load<u8>(tcp, 12) >> 4) << 2;
  if (ip + headers > total || (load<u8>(tcp, 13) & SYN) == 0) return 0;
  let at: u32 = TCP_HEADER;
  while (at + 1 < headers) {
    const kind: u32 = load<u8>(tcp + at);
    if (kind == 0) return 0;
    if (kind == 1) {
      at++;
      continue;
    }
    const size: u32 = load<u8>(tcp + at, 1);
    if (size < 2 || at + size > headers) return 0;
    if (kind == 2 && size == 4) {
      at += 2;
      const before = load16be(tcp + at);
      const most: u32 = mtu - ipHeader(isV4) - TCP_HEADER;
      if (before <= most) return 0;
      // As the words are counted that the checksum adds up: those at odd places with their bytes swapped.
      const odd = (at & 1) != 0;
      const out = odd ? before : swap16(before);
      const into = odd ? most : swap16(most);
      const kept: u64 = <u64>(~(<u32>load<u16>(tcp, 16)) & 0xffff) + (~out & 0xffff) + into;
      store<u16>(tcp, <u16>(~fold(kept) & 0xffff), 16);
      store16be(tcp + at, most);
      return 1;
    }
    at += size;
  }
  return 0;
}

// Around a sealed packet

/**
 * Completes a packet whose ciphertext begins 64 bytes into `slot`: the lengths that Poly1305 ends with, where the
 * tag will go, and the WireGuard header before it. `lengthAt`: where its iovec has the length.
 */
export function frame(slot: usize, length: u32, index: u32, counterLow: u32, counterHigh: u32, lengthAt: usize): void {
  endWithLengths(slot + BLOCK, length);
  store<u32>(slot, 4, 48);
  store<u32>(slot, index, 52);
  store<u32>(slot, counterLow, 56);
  store<u32>(slot, counterHigh, 60);
  store<u32>(lengthAt, WG_HEADER + length + TAG);
}

/** Zeroes up to a multiple of 16, the length of the associated data (none), the length of the ciphertext. */
@inline
function endWithLengths(ciphertext: usize, length: u32): void {
  const zero = i64x2.splat(0);
  v128.store(ciphertext + length, zero);
  const end = ciphertext + ((length + 15) & ~15);
  store<u64>(end, 0);
  store<u64>(end, <u64>length, 8);
}

let tag0: u64 = 0;
let tag1: u64 = 0;
let after0: u64 = 0;
let after1: u64 = 0;

/** Makes a received message ready to be opened: zeroes before the ciphertext, lengths after it. */
export function enter(message: usize, length: u32): void {
  const end = message + WG_HEADER + length;
  tag0 = load<u64>(end);
  tag1 = load<u64>(end, 8);
  after0 = load<u64>(end, 16);
  after1 = load<u64>(end, 24);
  clearBlock(message + WG_HEADER - BLOCK);
  endWithLengths(message + WG_HEADER, length);
}

/** Whether the tag at `computed` is the one that the message came with. Gives back what lay after it. */
export function leave(message: usize, length: u32, computed: usize): u32 {
  const end = message + WG_HEADER + length;
  store<u64>(end, after0, 16);
  store<u64>(end, after1, 24);
  const difference = (load<u64>(computed) ^ tag0) | (load<u64>(computed, 8) ^ tag1);
  return difference == 0 ? 1 : 0;
}

// Around a packet whose authentication is OpenSSL's `Poly1305_Update` alone

/** `state`: of Poly1305, of that kind, to which belongs the function at `blocks` in the address space. */
export function useMac(state: usize, kind: u32, blocksLow: u32, blocksHigh: u32): void {
  use(state, kind, blocksLow, blocksHigh);
}

/** Begins with the 32 bytes at `key`. */
export function openMac(key: usize): void {
  beginMac(load<u64>(key), load<u64>(key, 8), load<u64>(key, 16), load<u64>(key, 24));
}

/** Writes the tag. */
export function closeMac(tag: usize): void {
  endMac();
  store<u64>(tag, mac0);
  store<u64>(tag, mac1, 8);
}

/** As `frame`; the key is what ChaCha20 has left at the beginning of the slot. */
export function frameKeyed(slot: usize, length: u32, index: u32, counterLow: u32, lengthAt: usize): void {
  openMac(slot);
  frame(slot, length, index, counterLow, 0, lengthAt);
}

/**
 * As `enter`, but when ChaCha20 has already made `slot` of the message and the 48 bytes before it, whatever they are: with
 * these taken off again its first block is the key.
 */
export function enterKeyed(slot: usize, message: usize, length: u32): void {
  const before = message + WG_HEADER - BLOCK;
  beginMac(
    load<u64>(slot) ^ load<u64>(before),
    load<u64>(slot, 8) ^ load<u64>(before, 8),
    load<u64>(slot, 16) ^ load<u64>(before, 16),
    load<u64>(slot, 24) ^ load<u64>(before, 24),
  );
  const end = message + WG_HEADER + length;
  tag0 = load<u64>(end);
  tag1 = load<u64>(end, 8);
  after0 = load<u64>(end, 16);
  after1 = load<u64>(end, 24);
  endWithLengths(message + WG_HEADER, length);
}

/** As `leave`. */
export function leaveKeyed(message: usize, length: u32): u32 {
  const end = message + WG_HEADER + length;
  store<u64>(end, after0, 16);
  store<u64>(end, after1, 24);
  endMac();
  return ((mac0 ^ tag0) | (mac1 ^ tag1)) == 0 ? 1 : 0;
}

// Gathering

/** Flows gathered at the same time, and packets in one. */
const FLOWS: u32 = 16;
const FLOW_PACKETS: u32 = 64;
/** Each flow: 64 bytes of its own, then the iovecs: virtio header, first packet, payloads. */
const FLOW_SIZE: u32 = 64 + (FLOW_PACKETS + 2) * 16;
const VNET: usize = 0;
const COUNT: usize = 12;
const FIRST: usize = 16;
const NEXT_SEQUENCE: usize = 20;
const PAYLOAD: usize = 24;
const TOTAL: usize = 28;
const HEADERS: usize = 32;
const TRANSPORT: usize = 36;
const CLOSED: usize = 40;
const NEXT_ID: usize = 44;
const USED: usize = 48;
const IOVECS: usize = 64;

// What `inspect` found, and `offer` uses.
let seen: usize = 0;
let seenLength: u32 = 0;
let seenHeaders: u32 = 0;
let seenTransport: u32 = 0;
let seenIsTcp: bool = false;
let seenIsV4: bool = false;
let clockTick: u32 = 0;

@inline
function flow(index: u32): usize {
  return flowsAt + index * FLOW_SIZE;
}

/**
 * Reads the headers of the packet at `packet`. Returns 1 for TCP and 2 for UDP without options, extensions and
 * fragments; 3 for any other IP packet; a negative number where it is no whole IP packet. At `parsedAt`, as
 * 32-bit numbers: length without padding, transport offset, version, TCP flags, both ports as they lie there.
 */
export function inspect(packet: usize, length: u32): i32 {
  seen = packet;
  const version: u32 = load<u8>(packet) >> 4;
  if (length < V4_HEADER || (version != 4 && version != 6)) return -1;
  if (version == 6 && length < V6_HEADER) return -1;
  seenIsV4 = version == 4;
  const ip: u32 = seenIsV4 ? (<u32>load<u8>(packet) & 15) << 2 : V6_HEADER;
  const total = seenIsV4 ? load16be(packet + 2) : V6_HEADER + load16be(packet + 4);
  if (total < ipHeader(seenIsV4) || total > length) return -1;
  seenLength = total;
  seenTransport = ip;
  const parsed = parsedAt;
  store<u32>(parsed, total);
  store<u32>(parsed, ip, 4);
  store<u32>(parsed, version, 8);
  if (seenIsV4 && (ip != V4_HEADER || (load<u16>(packet, 6) & 0xffbf) != 0)) return 3;
  const protocol: u32 = seenIsV4 ? load<u8>(packet, 9) : load<u8>(packet, 6);
  if (protocol == TCP) {
    if (ip + TCP_HEADER > total) return 3;
    seenIsTcp = true;
    seenHeaders = ip + ((<u32>load<u8>(packet + ip, 12) >> 4) << 2);
    store<u32>(parsed, load<u8>(packet + ip, 13), 12);
  } else if (protocol == UDP) {
    if (ip + UDP_HEADER > total) return 3;
    seenIsTcp = false;
    seenHeaders = ip + UDP_HEADER;
  } else {
    return 3;
  }
  store<u32>(parsed, load<u32>(packet + ip), 16);
  return seenIsTcp ? 1 : 2;
}

/**
 * Adds the packet inspected last to the flow that it continues, or begins one with it. Returns -1 when that is
 * done; -2 when it must be written by itself; else the flow that has to be finished, written and dropped first,
 * for then to ask again: so a flow's packets keep their order.
 */
export function offer(udp: bool): i32 {
  const same = findFlow();
  if (!mayGather(udp)) return same >= 0 ? same : -2;
  const payload = seenLength - seenHeaders;
  if (same >= 0) {
    const f = flow(same);
    if (!continues(f, payload)) return same;
    append(f, payload);
    return -1;
  }
  let free: i32 = -1;
  let oldest: i32 = 0;
  for (let i: u32 = 0; i < FLOWS; i++) {
    if (load<u32>(flow(i), COUNT) == 0) {
      free = <i32>i;
      break;
    }
    if (load<u32>(flow(i), USED) < load<u32>(flow(oldest), USED)) oldest = <i32>i;
  }
  if (free < 0) return oldest;
  start(flow(free), payload);
  return -1;
}

/** The flow between the same two ports. */
function findFlow(): i32 {
  const ports = load<u32>(seen + seenTransport);
  for (let i: u32 = 0; i < FLOWS; i++) {
    const f = flow(i);
    if (load<u32>(f, COUNT) == 0) continue;
    const first: usize = load<u32>(f, FIRST);
    if (load<u32>(first + load<u32>(f, TRANSPORT)) != ports) continue;
    if ((load<u8>(first) ^ load<u8>(seen)) >> 4 != 0) continue;
    if (seenIsV4) {
      if (load<u8>(first, 9) == load<u8>(seen, 9) && load<u64>(first, 12) == load<u64>(seen, 12)) return <i32>i;
    } else if (
      load<u8>(first, 6) == load<u8>(seen, 6) &&
      ((load<u64>(first, 8) ^ load<u64>(seen, 8)) | (load<u64>(first, 16) ^ load<u64>(seen, 16))) == 0 &&
      ((load<u64>(first, 24) ^ load<u64>(seen, 24)) | (load<u64>(first, 32) ^ load<u64>(seen, 32))) == 0
    ) {
      return <i32>i;
    }
  }
  return -1;
}

/** Whether the packet is plain data whose checksums are right: the kernel will believe us. */
function mayGather(udp: bool): bool {
  if (seenHeaders >= seenLength) return false;
  const l4 = seen + seenTransport;
  if (seenIsTcp) {
    if (seenHeaders < seenTransport + TCP_HEADER) return false;
    if ((load<u8>(l4, 13) & ~PSH) != ACK) return false;
  } else {
    if (!udp || load<u16>(l4, 6) == 0 || load16be(l4 + 4) != seenLength - seenTransport) return false;
  }
  if (seenIsV4 && sum(seen, V4_HEADER, 0) != 0xffff) return false;
  const protocol = seenIsTcp ? TCP : UDP;
  const length = seenLength - seenTransport;
  return sum(l4, length, pseudoSum(seen, seenIsV4, protocol) + swap16(length)) == 0xffff;
}

function continues(f: usize, payload: u32): bool {
  const first: usize = load<u32>(f, FIRST);
  if (load<u32>(f, CLOSED) != 0 || load<u32>(f, COUNT) >= FLOW_PACKETS) return false;
  if (load<u32>(f, HEADERS) != seenHeaders || payload > load<u32>(f, PAYLOAD)) return false;
  if (load<u32>(f, TOTAL) + payload > 65535) return false;
  if (seenIsV4) {
    if (load<u16>(first) != load<u16>(seen) || load<u32>(first, 6) != load<u32>(seen, 6)) return false;
    const dontFragment = (load<u8>(seen, 6) & 0x40) != 0;
    if (!dontFragment && load16be(seen + 4) != load<u32>(f, NEXT_ID)) return false;
  } else if (load<u32>(first) != load<u32>(seen) || load<u8>(first, 7) != load<u8>(seen, 7)) {
    return false;
  }
  if (!seenIsTcp) return true;
  const a = first + seenTransport;
  const b = seen + seenTransport;
  if (bswap<u32>(load<u32>(b, 4)) != load<u32>(f, NEXT_SEQUENCE)) return false;
  if (load<u32>(a, 8) != load<u32>(b, 8)) return false;
  // Data offset, flags but PSH, window; then the options.
  if (((load<u32>(a, 12) ^ load<u32>(b, 12)) & ~(PSH << 8)) != 0) return false;
  for (let at: u32 = TCP_HEADER; at < seenHeaders - seenTransport; at += 4) {
    if (load<u32>(a + at) != load<u32>(b + at)) return false;
  }
  return true;
}

function start(f: usize, payload: u32): void {
  store<u32>(f, 1, COUNT);
  store<u32>(f, seen, FIRST);
  store<u32>(f, payload, PAYLOAD);
  store<u32>(f, seenLength, TOTAL);
  store<u32>(f, seenHeaders, HEADERS);
  store<u32>(f, seenTransport, TRANSPORT);
  store<u32>(f, 0, CLOSED);
  store<u32>(f, ++clockTick, USED);
  store<u64>(f + IOVECS, native + f + VNET);
  store<u64>(f + IOVECS, VNET_HEADER, 8);
  store<u64>(f + IOVECS, native + seen, 16);
  store<u64>(f + IOVECS, seenLength, 24);
  follow(f, payload);
}

function append(f: usize, payload: u32): void {
  const count = load<u32>(f, COUNT);
  const iovec = f + IOVECS + ((count + 1) << 4);
  store<u64>(iovec, native + seen + seenHeaders);
  store<u64>(iovec, payload, 8);
  store<u32>(f, count + 1, COUNT);
  store<u32>(f, load<u32>(f, TOTAL) + payload, TOTAL);
  if (payload < load<u32>(f, PAYLOAD)) store<u32>(f, 1, CLOSED);
  follow(f, payload);
}

/** What the packet after this one has to look like. */
function follow(f: usize, payload: u32): void {
  if (seenIsV4) store<u32>(f, (load16be(seen + 4) + 1) & 0xffff, NEXT_ID);
  if (!seenIsTcp) return;
  const l4 = seen + seenTransport;
  store<u32>(f, bswap<u32>(load<u32>(l4, 4)) + payload, NEXT_SEQUENCE);
  if ((load<u8>(l4, 13) & PSH) != 0) {
    const first: usize = load<u32>(f, FIRST) + seenTransport;
    store<u8>(first, load<u8>(first, 13) | <u8>PSH, 13);
    store<u32>(f, 1, CLOSED);
  }
}

/** Writes the headers of what was gathered. Returns how many iovecs it is, 0 for none. The flow is free then. */
export function finish(index: u32): u32 {
  const f = flow(index);
  const count = load<u32>(f, COUNT);
  if (count == 0) return 0;
  store<u32>(f, 0, COUNT);
  const packet: usize = load<u32>(f, FIRST);
  store<u64>(f, 0, VNET);
  store<u16>(f, 0, VNET + 8);
  if (count == 1) {
    store<u8>(f, DATA_VALID, VNET);
    // A PSH that was set on it is its own.
    return 2;
  }
  const isV4 = (load<u8>(packet) >> 4) == 4;
  const total = load<u32>(f, TOTAL);
  const transport = load<u32>(f, TRANSPORT);
  const isTcp = (isV4 ? <u32>load<u8>(packet, 9) : <u32>load<u8>(packet, 6)) == TCP;
  store<u8>(f, NEEDS_CSUM, VNET);
  store<u8>(f, <u8>(isTcp ? (isV4 ? GSO_TCP_V4 : GSO_TCP_V6) : GSO_UDP_L4), VNET + 1);
  store<u16>(f, <u16>load<u32>(f, HEADERS), VNET + 2);
  store<u16>(f, <u16>load<u32>(f, PAYLOAD), VNET + 4);
  store<u16>(f, <u16>transport, VNET + 6);
  store<u16>(f, <u16>(isTcp ? 16 : 6), VNET + 8);
  if (isV4) {
    store16be(packet + 2, total);
    store<u16>(packet, 0, 10);
    store<u16>(packet, <u16>(~sum(packet, V4_HEADER, 0) & 0xffff), 10);
  } else {
    store16be(packet + 4, total - V6_HEADER);
  }
  const l4 = packet + transport;
  const length = swap16(total - transport);
  if (!isTcp) store<u16>(l4, <u16>length, 4);
  const partial = fold(<u64>pseudoSum(packet, isV4, isTcp ? TCP : UDP) + length);
  store<u16>(l4 + (isTcp ? 16 : 6), <u16>partial);
  return count + 1;
}
