/**
 * The header in front of packets that travel through a peer relay (RFC 8926, without options).
 *
 *      0         1         2                   4                             7         8
 *     +---------+---------+-------------------+-----------------------------+---------+
 *     | 00......| C.000000| protocol (u16)    | VNI (u24)                   | 0       |
 *     +---------+---------+-------------------+-----------------------------+---------+
 *
 * C marks what is meant for the relay itself: the handshake that binds a client to a VNI.
 */
import { viewOf } from "../../base/bytes.ts";

export const GENEVE_HEADER_LENGTH = 8;

const Protocol = { disco: 0x7a11, wireguard: 0x7a12 } as const;
const CONTROL_BIT = 0x80;
const VERSION_MASK = 0xc0;
const RESERVED_FLAGS_MASK = 0x3f;
const MAX_VNI = 0xff_ffff;

export interface GeneveHeader {
  readonly protocol: "disco" | "wireguard";
  readonly control: boolean;
  /** Names a relayed connection on its relay: 0 – 0xffffff. */
  readonly vni: number;
}

export function encodeGeneve(header: GeneveHeader): Uint8Array {
  const out = new Uint8Array(GENEVE_HEADER_LENGTH);
  if (header.control) out[1] = CONTROL_BIT;
  const view = viewOf(out);
  view.setUint16(2, Protocol[header.protocol]);
  view.setUint32(4, (header.vni & MAX_VNI) << 8);
  return out;
}

/** Reads the header at the start of `packet`; `undefined` where there is none of ours. */
export function decodeGeneve(packet: Uint8Array): GeneveHeader | undefined {
  if (packet.length < GENEVE_HEADER_LENGTH) return undefined;
  const [first = 0, flags = 0] = packet;
  if ((first & VERSION_MASK) !== 0 || (flags & RESERVED_FLAGS_MASK) !== 0 || packet[7] !== 0)
    return undefined;
  const view = viewOf(packet);
  const protocol = protocolOf(view.getUint16(2));
  if (protocol === undefined) return undefined;
  return { protocol, control: (flags & CONTROL_BIT) !== 0, vni: view.getUint32(4) >>> 8 };
}

function protocolOf(value: number): GeneveHeader["protocol"] | undefined {
  if (value === Protocol.disco) return "disco";
  return value === Protocol.wireguard ? "wireguard" : undefined;
}
