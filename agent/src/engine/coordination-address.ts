/** Which addresses and names a coordination server gives to its nodes. */
import { Ip, Prefix } from "../base/address.ts";
import { concat, viewOf } from "../base/bytes.ts";

/** 100.64.0.0/10 (RFC 6598), the range of the mesh. */
const FIRST = 0x64400000;
const LAST = 0x647fffff;
/** Never given out: ChromeOS's own network, the service address, and the first and last of the range. */
const RESERVED = ["100.115.92.0/23", "100.100.100.100", "100.64.0.0", "100.127.255.255"].map(Prefix.parse);
/** fd7a:115c:a1e0:ab12:4843:cd96:62xx:xxxx: the prefix under which an IPv6 address is made from an IPv4 one. */
const V6_PREFIX = Uint8Array.of(0xfd, 0x7a, 0x11, 0x5c, 0xa1, 0xe0, 0xab, 0x12, 0x48, 0x43, 0xcd, 0x96, 0x62);
/** RFC 1035: the length of a label. */
const MAX_LABEL = 63;

/** The first free address after `previous`, going round; `undefined` when all are taken. */
export function nextAddress(previous: Ip | undefined, isTaken: (ip: Ip) => boolean): Ip | undefined {
  let at = previous === undefined ? FIRST : viewOf(previous.bytes).getUint32(0);
  for (let tried = FIRST; tried <= LAST; tried++) {
    at = at >= LAST ? FIRST : at + 1;
    const ip = ipFrom(at);
    if (!RESERVED.some((reserved) => reserved.contains(ip)) && !isTaken(ip)) return ip;
  }
  return undefined;
}

/** The IPv6 address that belongs to an IPv4 address: its low 24 bits under the mesh's prefix. */
export function v6For(v4: Ip): Ip {
  return Ip.fromBytes(concat(V6_PREFIX, v4.bytes.subarray(1)));
}

/** A DNS label made from a host's name ("Ann's Laptop.local" → "anns-laptop"); never empty. */
export function labelFrom(hostname: string): string {
  const label = (hostname.split(".")[0] ?? "")
    .toLowerCase()
    .replace(/['\u2019]/g, "")
    .replace(/[^a-z0-9-]+/g, "-")
    .slice(0, MAX_LABEL)
    .replace(/^-+|-+$/g, "");
  return label === "" ? "node" : label;
}

/** The label itself, or with the first number that makes it unique: "web", "web-1", "web-2". */
export function uniqueLabel(label: string, isTaken: (label: string) => boolean): string {
  let candidate = label;
  for (let n = 1; isTaken(candidate); n++) candidate = `${label.slice(0, MAX_LABEL - 7)}-${n}`;
  return candidate;
}

function ipFrom(n: number): Ip {
  const bytes = new Uint8Array(4);
  viewOf(bytes).setUint32(0, n);
  return Ip.fromBytes(bytes);
}
