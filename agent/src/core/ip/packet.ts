/**
 * IP packets as they come out of the tunnel or the TUN device: a view of the header fields that
 * routing, the filter and the pingers ask for. Nothing is copied and nothing throws.
 *
 *   IPv4 (RFC 791)                                 IPv6 (RFC 8200)
 *    0  version:4 header length:4  (words)          0  version:4 class:8 flow label:20
 *    2  total length:16                             4  payload length:16
 *    6  flags:3 (2 = more fragments)                6  next header:8
 *       fragment offset:13 (8-byte blocks)          7  hop limit:8
 *    8  time to live:8                              8  source:128
 *    9  protocol:8                                 24  destination:128
 *   10  header checksum:16                         40  extension headers, payload
 *   12  source:32
 *   16  destination:32
 *   20  options, payload
 */
import { Ip } from "../../base/address.ts";

/** IP protocol numbers (IANA). */
export const protocol = {
  icmp: 1,
  tcp: 6,
  udp: 17,
  gre: 47,
  icmpV6: 58,
  /** Tailscale's own messages inside the tunnel; a number IANA reserves for "any private encryption". */
  tsmp: 99,
  sctp: 132,
} as const;

export const tcpFlag = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

/** IPv6 headers that may lie before the transport's. */
export const extension = { hopByHop: 0, fragment: 44, destinationOptions: 60 } as const;

/** Those that one packet may carry; more is somebody playing (RFC 8504 section 5.3 lets hosts set a limit). */
export const maxExtensions = 4;

export function isExtension(next: number): boolean {
  return next === extension.hopByHop || next === extension.fragment || next === extension.destinationOptions;
}

/**
 * Whether the packet is one piece. "suspicious" is a later fragment that begins inside the transport
 * header and could overwrite what was judged in the first one (RFC 1858).
 */
export type Fragment = "whole" | "first" | "later" | "suspicious";

export interface Packet {
  /** The packet up to its own length field; padding after it is cut off. */
  readonly bytes: Uint8Array;
  readonly version: 4 | 6;
  /** Of the transport, after IPv6 extension headers. */
  readonly protocol: number;
  readonly fragment: Fragment;
  /** Where the transport header begins in `bytes`. */
  readonly payloadAt: number;
  /** 0 where the protocol has no ports, and in later fragments. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** 0 for all but TCP. */
  readonly tcpFlags: number;
}

/** "empty" is a WireGuard keepalive. */
export type MalformedPacket = "empty" | "too-short" | "not-ip" | "bad-length" | "short-transport";

export function parsePacket(bytes: Uint8Array): Packet | MalformedPacket {
  if (bytes.length === 0) return "empty";
  if (bytes.length < V4_HEADER) return "too-short";
  switch ((bytes[0] ?? 0) >> 4) {
    case 4:
      return parseV4(bytes);
    case 6:
      return parseV6(bytes);
    default:
      return "not-ip";
  }
}

export function payloadOf(packet: Packet): Uint8Array {
  return packet.bytes.subarray(packet.payloadAt);
}

export function addressLength(packet: Packet): 4 | 16 {
  return packet.version === 4 ? 4 : 16;
}

export function sourceOffset(packet: Packet): number {
  return packet.version === 4 ? 12 : 8;
}

export function destinationOffset(packet: Packet): number {
  return packet.version === 4 ? 16 : 24;
}

export function sourceIp(packet: Packet): Ip {
  return ipAt(packet, sourceOffset(packet));
}

export function destinationIp(packet: Packet): Ip {
  return ipAt(packet, destinationOffset(packet));
}

/** For debug logs and tests: "TCP{100.64.0.2:1000 > 100.64.0.1:22}". */
export function describePacket(packet: Packet | MalformedPacket): string {
  if (typeof packet === "string") return "Unknown{???}";
  const end = (ip: Ip, port: number): string => `${ip.isV4 ? ip.text : `[${ip.text}]`}:${port}`;
  const from = end(sourceIp(packet), packet.sourcePort);
  const to = end(destinationIp(packet), packet.destinationPort);
  return `${nameOf(packet)}{${from} > ${to}}`;
}

const V4_HEADER = 20;
const V6_HEADER = 40;
const FRAGMENT_HEADER = 8;
/** In 8-byte blocks: the longest IPv4 header (60 bytes) and a TCP header (20), so no later fragment touches either. */
const MIN_LATER_FRAGMENT = 10;

const NAMES: ReadonlyMap<number, string> = new Map([
  [protocol.icmp, "ICMPv4"],
  [protocol.tcp, "TCP"],
  [protocol.udp, "UDP"],
  [protocol.gre, "GRE"],
  [protocol.icmpV6, "ICMPv6"],
  [protocol.tsmp, "TSMP"],
  [protocol.sctp, "SCTP"],
]);

function parseV4(bytes: Uint8Array): Packet | MalformedPacket {
  const header = ((bytes[0] ?? 0) & 15) * 4;
  const length = word(bytes, 2);
  if (header < V4_HEADER || length < header || length > bytes.length) return "bad-length";
  const flags = word(bytes, 6);
  const fragment = fragmentOf(flags & 0x1fff, (flags & 0x2000) !== 0);
  return withTransport(bytes.subarray(0, length), 4, bytes[9] ?? 0, header, fragment);
}

function parseV6(bytes: Uint8Array): Packet | MalformedPacket {
  if (bytes.length < V6_HEADER) return "too-short";
  const length = V6_HEADER + word(bytes, 4);
  if (length > bytes.length) return "bad-length";
  const whole = bytes.subarray(0, length);
  const found = walkV6(whole);
  if (found === undefined) return "short-transport";
  return withTransport(whole, 6, found.next, found.at, found.fragment);
}

/** Whether the transport header of an IPv6 packet, extension headers before it, lies whole in `bytes`. */
export function hasTransportV6(bytes: Uint8Array): boolean {
  const found = walkV6(bytes);
  if (found === undefined) return false;
  return !begins(found.fragment) || bytes.length - found.at >= minimumHeader(found.next);
}

/** Over the extension headers; undefined if they go beyond `bytes`. */
function walkV6(
  bytes: Uint8Array,
): { readonly next: number; readonly at: number; readonly fragment: Fragment } | undefined {
  let next = bytes[6] ?? 0;
  let at = V6_HEADER;
  let fragment: Fragment = "whole";
  for (let walked = 0; walked < maxExtensions; walked++) {
    if (!isExtension(next)) break;
    if (at + FRAGMENT_HEADER > bytes.length) return undefined;
    const size = next === extension.fragment ? FRAGMENT_HEADER : ((bytes[at + 1] ?? 0) + 1) * 8;
    if (next === extension.fragment) {
      const field = word(bytes, at + 2);
      fragment = fragmentOf(field >> 3, (field & 1) !== 0);
    }
    next = bytes[at] ?? 0;
    at += size;
    if (at > bytes.length) return undefined;
    if (!begins(fragment)) break;
  }
  return { next, at, fragment };
}

function fragmentOf(offset: number, more: boolean): Fragment {
  if (offset === 0) return more ? "first" : "whole";
  return offset < MIN_LATER_FRAGMENT ? "suspicious" : "later";
}

function withTransport(
  bytes: Uint8Array,
  version: 4 | 6,
  transport: number,
  at: number,
  fragment: Fragment,
): Packet | MalformedPacket {
  const plain = { bytes, version, protocol: transport, fragment, payloadAt: at };
  const isFirst = begins(fragment);
  if (isFirst && bytes.length - at < minimumHeader(transport)) return "short-transport";
  if (!isFirst || !hasPorts(transport)) return { ...plain, sourcePort: 0, destinationPort: 0, tcpFlags: 0 };
  return {
    ...plain,
    sourcePort: word(bytes, at),
    destinationPort: word(bytes, at + 2),
    tcpFlags: transport === protocol.tcp ? (bytes[at + 13] ?? 0) : 0,
  };
}

/** Whether the transport header is in this piece. */
function begins(fragment: Fragment): boolean {
  return fragment === "whole" || fragment === "first";
}

function hasPorts(transport: number): boolean {
  return transport === protocol.tcp || transport === protocol.udp || transport === protocol.sctp;
}

function minimumHeader(transport: number): number {
  switch (transport) {
    case protocol.tcp:
      return 20;
    case protocol.udp:
    case protocol.icmp:
    case protocol.icmpV6:
      return 8;
    case protocol.sctp:
      return 12;
    default:
      return 0;
  }
}

function nameOf(packet: Packet): string {
  if (packet.fragment === "later") return "Frag";
  if (packet.fragment === "suspicious") return "Unknown";
  return NAMES.get(packet.protocol) ?? `IPProto-${packet.protocol}`;
}

function ipAt(packet: Packet, offset: number): Ip {
  return Ip.fromBytes(packet.bytes.subarray(offset, offset + addressLength(packet)));
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}
