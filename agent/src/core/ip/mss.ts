/**
 * Lowers the maximum segment size that a TCP connection begins with to what the tunnel carries, so that neither end
 * depends on "too big" messages that firewalls like to drop.
 *
 *   TCP options of a SYN, from byte 20 of its header (RFC 9293, section 3.1)
 *    0            end of the options
 *    1            nothing
 *    2  4  MSS:16 maximum segment size: payload without options
 *    k  n  …      any other, n bytes in all
 *
 * This is the plain way to do it. The data plane has a fast one; a test holds the two equal.
 */
import { protocol, tcpFlag } from "./packet.ts";

const V4_HEADER = 20;
const V6_HEADER = 40;
const TCP_HEADER = 20;
const [END, NOTHING, MSS] = [0, 1, 2];
const MSS_LENGTH = 4;

/**
 * Changes the packet in place where it is a whole SYN that offers more than fits into `mtu`. Its checksum must be
 * finished. Returns whether it changed.
 */
export function clampMss(packet: Uint8Array, mtu: number): boolean {
  const version = (packet[0] ?? 0) >> 4;
  const at = version === 4 ? tcpInV4(packet) : version === 6 ? tcpInV6(packet) : undefined;
  if (at === undefined) return false;
  const length = version === 4 ? word(packet, 2) : V6_HEADER + word(packet, 4);
  if (length > packet.length || at + TCP_HEADER > length) return false;
  const end = at + ((packet[at + 12] ?? 0) >> 4) * 4;
  if (end > length || ((packet[at + 13] ?? 0) & tcpFlag.syn) === 0) return false;
  const option = findMss(packet, at + TCP_HEADER, end);
  const most = mtu - (version === 4 ? V4_HEADER : V6_HEADER) - TCP_HEADER;
  if (option === undefined || word(packet, option) <= most) return false;
  replaceWord(packet, option, most, at);
  return true;
}

function tcpInV4(packet: Uint8Array): number | undefined {
  const header = ((packet[0] ?? 0) & 15) * 4;
  const isWhole = (word(packet, 6) & 0x3fff) === 0;
  return packet[9] === protocol.tcp && isWhole && header >= V4_HEADER ? header : undefined;
}

function tcpInV6(packet: Uint8Array): number | undefined {
  return packet[6] === protocol.tcp ? V6_HEADER : undefined;
}

function findMss(packet: Uint8Array, from: number, end: number): number | undefined {
  for (let at = from; at < end;) {
    const kind = packet[at];
    if (kind === END) return undefined;
    if (kind === NOTHING) {
      at++;
      continue;
    }
    const size = at + 1 < end ? (packet[at + 1] ?? 0) : 0;
    if (size < 2 || at + size > end) return undefined;
    if (kind === MSS && size === MSS_LENGTH) return at + 2;
    at += size;
  }
  return undefined;
}

/** Changes the checksum along with it (RFC 1624, equation 3). A word that lies across two counts with its bytes swapped. */
function replaceWord(packet: Uint8Array, at: number, value: number, tcp: number): void {
  const isSwapped = ((at - tcp) & 1) !== 0;
  const [before, after] = isSwapped ? [swap(word(packet, at)), swap(value)] : [word(packet, at), value];
  let sum = (~word(packet, tcp + 16) & 0xffff) + (~before & 0xffff) + after;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  putWord(packet, tcp + 16, ~sum & 0xffff);
  putWord(packet, at, value);
}

function word(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
}

function putWord(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}

function swap(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8);
}
