/** Making IP packets: for the pingers, for answers to TSMP, and for tests. */
import type { Ip, IpPort } from "../../base/address.ts";
import { concat, viewOf } from "../../base/bytes.ts";
import { InternalError } from "../../base/errors.ts";
import { addWords, finishChecksum, pseudoHeaderSum } from "./checksum.ts";
import { protocol } from "./packet.ts";

/** The usual first time to live or hop limit (RFC 1700). */
const HOPS = 64;
const V4_HEADER = 20;
const V6_HEADER = 40;
const UDP_HEADER = 8;

/** An unfragmented packet around a transport message whose checksum is already there. */
export function buildPacket(source: Ip, destination: Ip, transport: number, message: Uint8Array): Uint8Array {
  if (source.isV4 !== destination.isV4) {
    throw new InternalError("ip-family", `no packet goes from ${source.text} to ${destination.text}`);
  }
  return source.isV4
    ? buildV4(source, destination, transport, message)
    : buildV6(source, destination, transport, message);
}

export function buildUdp(source: IpPort, destination: IpPort, payload: Uint8Array): Uint8Array {
  const message = new Uint8Array(UDP_HEADER + payload.length);
  const view = viewOf(message);
  view.setUint16(0, source.port);
  view.setUint16(2, destination.port);
  view.setUint16(4, message.length);
  message.set(payload, UDP_HEADER);
  const sum = transportChecksum(source.ip, destination.ip, protocol.udp, message);
  // RFC 768: a computed zero is sent as all ones, since zero says that there is no checksum.
  view.setUint16(6, sum === 0 ? 0xffff : sum);
  return buildPacket(source.ip, destination.ip, protocol.udp, message);
}

/** The checksum over pseudo-header and message, whose own field must be zero (or is checked: then 0 is right). */
export function transportChecksum(
  source: Ip,
  destination: Ip,
  transport: number,
  message: Uint8Array,
): number {
  const addresses = concat(source.bytes, destination.bytes);
  const pseudo = pseudoHeaderSum(addresses, transport, message.length);
  return finishChecksum(addWords(message, 0, message.length, pseudo));
}

function buildV4(source: Ip, destination: Ip, transport: number, message: Uint8Array): Uint8Array {
  const out = new Uint8Array(V4_HEADER + message.length);
  const view = viewOf(out);
  out[0] = 0x45;
  view.setUint16(2, out.length);
  out[8] = HOPS;
  out[9] = transport;
  out.set(source.bytes, 12);
  out.set(destination.bytes, 16);
  view.setUint16(10, finishChecksum(addWords(out, 0, V4_HEADER)));
  out.set(message, V4_HEADER);
  return out;
}

function buildV6(source: Ip, destination: Ip, transport: number, message: Uint8Array): Uint8Array {
  const out = new Uint8Array(V6_HEADER + message.length);
  out[0] = 0x60;
  viewOf(out).setUint16(4, message.length);
  out[6] = transport;
  out[7] = HOPS;
  out.set(source.bytes, 8);
  out.set(destination.bytes, 24);
  out.set(message, V6_HEADER);
  return out;
}
