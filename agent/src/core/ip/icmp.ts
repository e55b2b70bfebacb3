/**
 * ICMP echo, for pings through the tunnel (RFC 792, RFC 4443).
 *
 *    0  type:8   8 request, 0 reply; in ICMPv6 128 and 129
 *    1  code:8   0
 *    2  checksum:16   ICMPv6: over the pseudo-header too
 *    4  identifier:16
 *    6  sequence:16
 *    8  data
 */
import type { Ip } from "../../base/address.ts";
import { viewOf } from "../../base/bytes.ts";
import { buildPacket, transportChecksum } from "./build.ts";
import { checksum } from "./checksum.ts";
import type { Packet } from "./packet.ts";
import { destinationIp, payloadOf, protocol, sourceIp } from "./packet.ts";

export interface Echo {
  readonly kind: "request" | "reply";
  readonly identifier: number;
  readonly sequence: number;
  readonly data: Uint8Array;
}

/** A whole IP packet with an echo, of the family of its addresses. */
export function buildEcho(source: Ip, destination: Ip, echo: Echo): Uint8Array {
  const message = new Uint8Array(HEADER + echo.data.length);
  const view = viewOf(message);
  message[0] = source.isV4 ? v4Type[echo.kind] : v6Type[echo.kind];
  view.setUint16(4, echo.identifier);
  view.setUint16(6, echo.sequence);
  message.set(echo.data, HEADER);
  const transport = source.isV4 ? protocol.icmp : protocol.icmpV6;
  const sum = source.isV4 ? checksum(message) : transportChecksum(source, destination, transport, message);
  view.setUint16(2, sum);
  return buildPacket(source, destination, transport, message);
}

export type MalformedEcho = "not-an-echo" | "bad-checksum";

export function parseEcho(packet: Packet): Echo | MalformedEcho {
  const expected = packet.version === 4 ? protocol.icmp : protocol.icmpV6;
  if (packet.protocol !== expected || packet.fragment !== "whole") return "not-an-echo";
  const message = payloadOf(packet);
  const types = packet.version === 4 ? v4Type : v6Type;
  const type = message[0];
  if ((type !== types.request && type !== types.reply) || message[1] !== 0) return "not-an-echo";
  const sum =
    packet.version === 4
      ? checksum(message)
      : transportChecksum(sourceIp(packet), destinationIp(packet), expected, message);
  if (sum !== 0) return "bad-checksum";
  const view = viewOf(message);
  return {
    kind: type === types.request ? "request" : "reply",
    identifier: view.getUint16(4),
    sequence: view.getUint16(6),
    data: message.slice(HEADER),
  };
}

const HEADER = 8;
const v4Type = { request: 8, reply: 0 } as const;
const v6Type = { request: 128, reply: 129 } as const;
