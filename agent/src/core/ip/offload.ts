/**
 * What the kernel leaves to whoever reads a TUN device with virtio headers: large packets that are still to be
 * cut, and checksums that are still to be finished.
 *
 *   virtio header, 10 bytes (linux/virtio_net.h), integers little-endian
 *    0  flags:8 (1 = the checksum is to be finished)
 *    1  kind:8 (0 one packet, 1 TCP over IPv4, 4 TCP over IPv6, 5 UDP; 128 = may carry ECN)
 *    2  header length:16
 *    4  payload of each packet:16
 *    6  where the checksum begins:16
 *    8  where it is stored, from there:16
 *
 * This is the plain way to do it. The data plane has a fast one; a test holds the two equal.
 */
import { viewOf } from "../../base/bytes.ts";
import { addWords, checksum, finishChecksum, pseudoHeaderSum } from "./checksum.ts";
import { hasTransportV6, parsePacket, protocol, tcpFlag } from "./packet.ts";

export interface VirtioHeader {
  readonly needsChecksum: boolean;
  readonly kind: "single" | "tcp4" | "tcp6" | "udp" | "unknown";
  readonly segmentSize: number;
  readonly checksumStart: number;
  readonly checksumOffset: number;
}

export type NotCuttable =
  "not-ip" | "bad-length" | "too-long" | "bad-checksum-offset" | "bad-kind" | "bad-headers" | "no-size";

const KINDS: ReadonlyMap<number, VirtioHeader["kind"]> = new Map([
  [0, "single"],
  [1, "tcp4"],
  [4, "tcp6"],
  [5, "udp"],
]);
const ECN = 0x80;
const V4_HEADER = 20;
const V6_HEADER = 40;
const PUSH = 8;
const CWR = 128;
/** As long as IPv6 with some extensions and TCP with all its options. */
const LONGEST_HEADERS = 192;

export function decodeVirtioHeader(bytes: Uint8Array): VirtioHeader {
  const view = viewOf(bytes);
  return {
    needsChecksum: (view.getUint8(0) & 1) !== 0,
    kind: KINDS.get(view.getUint8(1) & ~ECN) ?? "unknown",
    segmentSize: view.getUint16(4, true),
    checksumStart: view.getUint16(6, true),
    checksumOffset: view.getUint16(8, true),
  };
}

/** The packets that one read of the device stands for. `longest`: of one of them. */
export function cutPacket(
  bytes: Uint8Array,
  header: VirtioHeader,
  longest: number,
): readonly Uint8Array[] | NotCuttable {
  const version = (bytes[0] ?? 0) >> 4;
  if (bytes.length < V4_HEADER) return "not-ip";
  if (version !== 4 && (version !== 6 || bytes.length < V6_HEADER)) return "not-ip";
  if (header.kind === "single") return finishSingle(bytes, header, longest);
  const shape = shapeOf(bytes, header, version);
  if (typeof shape === "string") return shape;
  const { segmentSize } = header;
  const headers = shape.transportAt + shape.transportLength;
  if (headers >= bytes.length || headers > LONGEST_HEADERS) return "bad-headers";
  if (version === 6 && !hasTransportV6(bytes.subarray(0, headers))) return "bad-headers";
  if (segmentSize === 0) return "no-size";
  if (headers + Math.min(segmentSize, bytes.length - headers) > longest) return "too-long";
  const payloads: Uint8Array[] = [];
  for (let at = headers; at < bytes.length; at += segmentSize)
    payloads.push(bytes.subarray(at, Math.min(at + segmentSize, bytes.length)));
  return payloads.map((payload, i) => {
    const out = new Uint8Array(headers + payload.length);
    out.set(bytes.subarray(0, headers));
    out.set(payload, headers);
    writeIpHeader(out, version, i);
    writeTransport(out, version, shape, { index: i, isLast: i === payloads.length - 1, segmentSize });
    return out;
  });
}

interface Shape {
  readonly isTcp: boolean;
  readonly transportAt: number;
  readonly transportLength: number;
}

function finishSingle(
  bytes: Uint8Array,
  { needsChecksum, checksumStart, checksumOffset }: VirtioHeader,
  longest: number,
): readonly Uint8Array[] | NotCuttable {
  const length = ownLength(bytes);
  if (length === undefined) return "bad-length";
  if (length > longest) return "too-long";
  if (typeof parsePacket(bytes) === "string") return "bad-headers";
  const out = bytes.slice();
  if (!needsChecksum) return [out.subarray(0, length)];
  const at = checksumStart + checksumOffset;
  if (checksumStart < headerLength(bytes) || at + 2 > length) return "bad-checksum-offset";
  const value = checksum(out.subarray(checksumStart, length));
  // In UDP zero would mean that there is none.
  viewOf(out).setUint16(at, value === 0 && checksumOffset === 6 ? 0xffff : value);
  return [out.subarray(0, length)];
}

function headerLength(bytes: Uint8Array): number {
  const first = bytes[0] ?? 0;
  return first >> 4 === 4 ? (first & 15) * 4 : V6_HEADER;
}

/** What the packet itself says, where that can be. */
function ownLength(bytes: Uint8Array): number | undefined {
  const view = viewOf(bytes);
  const isV4 = (bytes[0] ?? 0) >> 4 === 4;
  const header = headerLength(bytes);
  const length = isV4 ? view.getUint16(2) : V6_HEADER + view.getUint16(4);
  return header < V4_HEADER || length < header || length > bytes.length ? undefined : length;
}

function shapeOf(bytes: Uint8Array, header: VirtioHeader, version: number): Shape | NotCuttable {
  const { kind, needsChecksum, checksumStart: at } = header;
  const isTcp = kind !== "udp";
  const fits = kind === "udp" || kind === (version === 4 ? "tcp4" : "tcp6");
  const ip = version === 4 ? ((bytes[0] ?? 0) & 15) * 4 : V6_HEADER;
  const named = version === 4 ? bytes[9] : bytes[6];
  if (!fits || !needsChecksum || ip < V4_HEADER || at < ip || (version === 4 && at !== ip)) return "bad-kind";
  if (at === ip && named !== (isTcp ? protocol.tcp : protocol.udp)) return "bad-kind";
  if (at + (isTcp ? 20 : 8) > bytes.length) return "bad-headers";
  const transportLength = isTcp ? ((bytes[at + 12] ?? 0) >> 4) * 4 : 8;
  if (isTcp && transportLength < 20) return "bad-headers";
  return { isTcp, transportAt: at, transportLength };
}

function writeIpHeader(out: Uint8Array, version: number, index: number): void {
  const view = viewOf(out);
  if (version === 6) {
    view.setUint16(4, out.length - V6_HEADER);
    return;
  }
  view.setUint16(2, out.length);
  view.setUint16(4, (view.getUint16(4) + index) & 0xffff);
  view.setUint16(10, 0);
  view.setUint16(10, checksum(out.subarray(0, ((out[0] ?? 0) & 15) * 4)));
}

function writeTransport(
  out: Uint8Array,
  version: number,
  { isTcp, transportAt }: Shape,
  place: { readonly index: number; readonly isLast: boolean; readonly segmentSize: number },
): void {
  const view = viewOf(out);
  const length = out.length - transportAt;
  const checksumAt = transportAt + (isTcp ? 16 : 6);
  if (isTcp) {
    view.setUint32(transportAt + 4, view.getUint32(transportAt + 4) + place.index * place.segmentSize);
    let flags = view.getUint8(transportAt + 13);
    if (place.index > 0) flags &= ~CWR;
    if (!place.isLast) flags &= ~(tcpFlag.fin | PUSH);
    view.setUint8(transportAt + 13, flags);
  } else {
    view.setUint16(transportAt + 4, length);
  }
  view.setUint16(checksumAt, 0);
  const addresses = version === 4 ? out.subarray(12, 20) : out.subarray(8, 40);
  const pseudo = pseudoHeaderSum(addresses, isTcp ? protocol.tcp : protocol.udp, length);
  const value = finishChecksum(addWords(out, transportAt, out.length, pseudo));
  view.setUint16(checksumAt, value === 0 && !isTcp ? 0xffff : value);
}
