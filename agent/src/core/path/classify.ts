/**
 * Telling apart what arrives on the one UDP port: WireGuard, disco and STUN, bare or behind a Geneve header.
 *
 * WireGuard has no mark of its own, so whatever is not one of the others is given to it, and it drops what it
 * can not open.
 */
import { viewOf } from "../../base/bytes.ts";
import { KEY_LENGTH } from "../../base/keys.ts";
import { decodeGeneve, GENEVE_HEADER_LENGTH, type GeneveHeader } from "./geneve.ts";

/** "TS" and a speech balloon in UTF-8: the start of every disco packet. */
export const DISCO_MAGIC: Uint8Array = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac);
/** RFC 8489 section 5. */
export const STUN_COOKIE = 0x2112_a442;
export const STUN_HEADER_LENGTH = 20;

const DISCO_HEADER_LENGTH = DISCO_MAGIC.length + KEY_LENGTH;
/** The low byte of Binding, and of its success response (RFC 8489 section 5). */
const STUN_BINDING = 0x01;

/** `packet` is what follows the header, as a view of the datagram. */
export interface GenevePacket {
  readonly kind: "geneve";
  readonly header: GeneveHeader;
  readonly packet: Uint8Array;
}

/** For a datagram from the UDP port. */
export function classify(packet: Uint8Array): "stun" | "disco" | "wireguard" | GenevePacket {
  if (looksLikeStun(packet) && packet[1] === STUN_BINDING) return "stun";
  const header = decodeGeneve(packet);
  if (header !== undefined) {
    const inner = packet.subarray(GENEVE_HEADER_LENGTH);
    if (header.protocol === "wireguard" || looksLikeDisco(inner))
      return { kind: "geneve", header, packet: inner };
    return "wireguard";
  }
  return classifyRelayed(packet);
}

/** For a packet from a relay, where neither STUN nor Geneve occurs. */
export function classifyRelayed(packet: Uint8Array): "disco" | "wireguard" {
  return looksLikeDisco(packet) ? "disco" : "wireguard";
}

export function looksLikeDisco(packet: Uint8Array): boolean {
  return packet.length >= DISCO_HEADER_LENGTH && DISCO_MAGIC.every((byte, i) => packet[i] === byte);
}

/** Any STUN message: two zero bits and the cookie. */
export function looksLikeStun(packet: Uint8Array): boolean {
  const [first = 0] = packet;
  return (
    packet.length >= STUN_HEADER_LENGTH && (first & 0xc0) === 0 && viewOf(packet).getUint32(4) === STUN_COOKIE
  );
}
