/**
 * What becomes of a packet that is longer than the way to its peer carries: cut into fragments where IPv4 allows
 * that, else answered with how long it may be (RFC 1191, RFC 8201).
 *
 *    0  type:8   3 destination unreachable; in ICMPv6 2 packet too big
 *    1  code:8   4 fragmentation needed; in ICMPv6 0
 *    2  checksum:16
 *    4  IPv4: zero:16 MTU:16     IPv6: MTU:32
 *    8  as much of the packet as fits
 */
import { Ip } from "../../base/address.ts";
import { viewOf } from "../../base/bytes.ts";
import { buildPacket, transportChecksum } from "./build.ts";
import { addWords, checksum, finishChecksum } from "./checksum.ts";
import { destinationIp, type Packet, payloadOf, protocol, sourceIp } from "./packet.ts";

const ICMP_HEADER = 8;
/** The whole answer is no longer than every host must take: RFC 1812 section 4.3.2.3, RFC 4443 section 2.4(c). */
const V4_ANSWER = 576 - 20 - ICMP_HEADER;
const V6_ANSWER = 1280 - 40 - ICMP_HEADER;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;
const COPIED_OPTION = 0x80;
const [END, NOTHING] = [0, 1];

/**
 * The answer to the sender, as from the packet's destination. `undefined` where none may be sent: to errors, to
 * fragments but the first, and to or for groups (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
 */
export function answerTooBig(packet: Packet, mtu: number): Uint8Array | undefined {
  const [from, to] = [destinationIp(packet), sourceIp(packet)];
  if (packet.fragment === "later" || packet.fragment === "suspicious" || isIcmpError(packet))
    return undefined;
  if (from.isMulticast || to.isMulticast || to.isUnspecified || isBroadcast(from)) return undefined;
  const isV4 = packet.version === 4;
  const quoted = packet.bytes.subarray(0, isV4 ? V4_ANSWER : V6_ANSWER);
  const message = new Uint8Array(ICMP_HEADER + quoted.length);
  const view = viewOf(message);
  message[0] = isV4 ? 3 : 2;
  message[1] = isV4 ? 4 : 0;
  if (isV4) view.setUint16(6, mtu);
  else view.setUint32(4, mtu);
  message.set(quoted, ICMP_HEADER);
  const transport = isV4 ? protocol.icmp : protocol.icmpV6;
  view.setUint16(2, isV4 ? checksum(message) : transportChecksum(from, to, transport, message));
  return buildPacket(from, to, transport, message);
}

/** Fragments of at most `mtu` bytes each; `undefined` where the packet may not be cut. */
export function fragmentPacket(packet: Packet, mtu: number): readonly Uint8Array[] | undefined {
  const { bytes, version } = packet;
  const field = viewOf(bytes).getUint16(6);
  if (version !== 4 || (field & DONT_FRAGMENT) !== 0) return undefined;
  const header = bytes.subarray(0, ((bytes[0] ?? 0) & 15) * 4);
  const data = bytes.subarray(header.length);
  const step = (mtu - header.length) & ~7;
  if (step <= 0) return undefined;
  const out: Uint8Array[] = [];
  for (let at = 0; at < data.length; at += step) {
    const isLast = at + step >= data.length;
    const more = isLast ? field & MORE_FRAGMENTS : MORE_FRAGMENTS;
    const piece = new Uint8Array(header.length + Math.min(step, data.length - at));
    piece.set(at === 0 ? header : withCopiedOptions(header));
    piece.set(data.subarray(at, at + step), header.length);
    const view = viewOf(piece);
    view.setUint16(2, piece.length);
    view.setUint16(6, ((field & 0x1fff) + at / 8) | more);
    view.setUint16(10, 0);
    view.setUint16(10, finishChecksum(addWords(piece, 0, header.length)));
    out.push(piece);
  }
  return out;
}

/** Options that belong into the first fragment only become ones that say nothing (RFC 791, section 3.1). */
function withCopiedOptions(header: Uint8Array): Uint8Array {
  const out = header.slice();
  for (let at = 20; at < out.length && out[at] !== END;) {
    const kind = out[at] ?? 0;
    const size = kind === NOTHING ? 1 : Math.max(out[at + 1] ?? 2, 2);
    if ((kind & COPIED_OPTION) === 0) out.fill(NOTHING, at, at + size);
    at += size;
  }
  return out;
}

function isIcmpError(packet: Packet): boolean {
  const type = payloadOf(packet)[0] ?? 0;
  if (packet.protocol === protocol.icmp && packet.version === 4) return type !== 0 && type !== 8;
  return packet.protocol === protocol.icmpV6 && type < 128;
}

const BROADCAST = Ip.parse("255.255.255.255").text;

function isBroadcast(ip: Ip): boolean {
  return ip.text === BROADCAST;
}
