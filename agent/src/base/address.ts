/**
 * IP addresses, addresses with a port, and prefixes.
 *
 * Two equal ones are two objects: compare and index by `text`, which is canonical
 * (RFC 5952 for IPv6; an IPv4-mapped IPv6 address becomes the IPv4 address).
 */
import { viewOf } from "./bytes.ts";
import { ParseError } from "./errors.ts";

const V4_LENGTH = 4;
const V6_LENGTH = 16;
const MAPPED_PREFIX = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff];

export class Ip {
  readonly bytes: Uint8Array;
  readonly text: string;

  private constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.text = bytes.length === V4_LENGTH ? bytes.join(".") : formatV6(bytes);
  }

  /** Takes 4 or 16 bytes and copies them. @throws ParseError on any other length */
  static fromBytes(bytes: Uint8Array): Ip {
    if (bytes.length === V6_LENGTH && MAPPED_PREFIX.every((byte, i) => bytes[i] === byte)) {
      return new Ip(bytes.slice(12));
    }
    if (bytes.length !== V4_LENGTH && bytes.length !== V6_LENGTH) {
      throw new ParseError("ip", `an IP address is 4 or 16 bytes, not ${bytes.length}`);
    }
    return new Ip(bytes.slice());
  }

  /** Reads "203.0.113.7" or "2001:db8::1"; a zone ("%eth0") is refused. @throws ParseError */
  static parse(text: string): Ip {
    const ip = Ip.tryParse(text);
    if (ip === undefined) throw new ParseError("ip", `not an IP address: ${text}`);
    return ip;
  }

  static tryParse(text: string): Ip | undefined {
    const bytes = text.includes(":") ? parseV6(text) : parseV4(text);
    return bytes === undefined ? undefined : Ip.fromBytes(bytes);
  }

  get isV4(): boolean {
    return this.bytes.length === V4_LENGTH;
  }

  /** The 16 bytes used inside disco and DERP messages: IPv4 is written as ::ffff:a.b.c.d. */
  get mapped(): Uint8Array {
    if (!this.isV4) return this.bytes;
    const out = new Uint8Array(V6_LENGTH);
    out.set(MAPPED_PREFIX);
    out.set(this.bytes, 12);
    return out;
  }

  get isLoopback(): boolean {
    return this.isV4 ? this.bytes[0] === 127 : this.text === "::1";
  }

  /** fe80::/10 or 169.254.0.0/16. */
  get isLinkLocal(): boolean {
    const [a = 0, b = 0] = this.bytes;
    return this.isV4 ? a === 169 && b === 254 : a === 0xfe && (b & 0xc0) === 0x80;
  }

  /** RFC 1918, or a unique local address of RFC 4193. */
  get isPrivate(): boolean {
    const [a = 0, b = 0] = this.bytes;
    if (!this.isV4) return (a & 0xfe) === 0xfc;
    return a === 10 || (a === 172 && (b & 0xf0) === 16) || (a === 192 && b === 168);
  }

  get isMulticast(): boolean {
    const [a = 0] = this.bytes;
    return this.isV4 ? (a & 0xf0) === 0xe0 : a === 0xff;
  }

  get isUnspecified(): boolean {
    return this.bytes.every((byte) => byte === 0);
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}

/** An IP address and a UDP or TCP port (0–65535). `text` is "203.0.113.7:41641" or "[2001:db8::1]:41641". */
export class IpPort {
  readonly ip: Ip;
  readonly port: number;
  readonly text: string;

  constructor(ip: Ip, port: number) {
    this.ip = ip;
    this.port = port;
    this.text = ip.isV4 ? `${ip.text}:${port}` : `[${ip.text}]:${port}`;
  }

  /** @throws ParseError */
  static parse(text: string): IpPort {
    const parsed = IpPort.tryParse(text);
    if (parsed === undefined) throw new ParseError("ip-port", `not an IP address with a port: ${text}`);
    return parsed;
  }

  static tryParse(text: string): IpPort | undefined {
    const [, v6, v4, digits = ""] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
    const ip = Ip.tryParse(v6 ?? v4 ?? "");
    const port = Number(digits);
    if (ip === undefined || port > 0xffff || (v6 !== undefined && !v6.includes(":"))) return undefined;
    return new IpPort(ip, port);
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}

/** A range of addresses: the first `bits` bits of `ip` are fixed, the others are zero. */
export class Prefix {
  readonly ip: Ip;
  readonly bits: number;
  readonly text: string;

  private constructor(ip: Ip, bits: number) {
    this.ip = ip;
    this.bits = bits;
    this.text = `${ip.text}/${bits}`;
  }

  /** The prefix that holds `ip` alone (/32 or /128). */
  static host(ip: Ip): Prefix {
    return new Prefix(ip, ip.bytes.length * 8);
  }

  /** Keeps the first `bits` bits of `ip` and clears the rest. @throws ParseError if `bits` does not fit the family */
  static of(ip: Ip, bits: number): Prefix {
    if (!Number.isInteger(bits) || bits < 0 || bits > ip.bytes.length * 8) {
      throw new ParseError("prefix", `a prefix of ${ip.text} has no length of ${bits} bits`);
    }
    const bytes = ip.bytes.map((byte, i) => byte & maskByte(bits, i));
    return new Prefix(Ip.fromBytes(bytes), bits);
  }

  /** Reads "10.0.0.0/8"; a bare address is its host prefix; set host bits are cleared. @throws ParseError */
  static parse(text: string): Prefix {
    const [address = "", length, ...rest] = text.split("/");
    const ip = Ip.tryParse(address);
    if (ip === undefined || rest.length > 0 || (length !== undefined && !/^\d{1,3}$/.test(length))) {
      throw new ParseError("prefix", `not an address prefix such as 10.0.0.0/8: ${text}`);
    }
    return length === undefined ? Prefix.host(ip) : Prefix.of(ip, Number(length));
  }

  contains(ip: Ip): boolean {
    if (ip.bytes.length !== this.ip.bytes.length) return false;
    return ip.bytes.every((byte, i) => (byte & maskByte(this.bits, i)) === this.ip.bytes[i]);
  }

  get isHost(): boolean {
    return this.bits === this.ip.bytes.length * 8;
  }

  /** 0.0.0.0/0 or ::/0. */
  get isDefault(): boolean {
    return this.bits === 0;
  }

  toString(): string {
    return this.text;
  }

  toJSON(): string {
    return this.text;
  }
}

function maskByte(bits: number, index: number): number {
  const kept = Math.min(8, Math.max(0, bits - 8 * index));
  return (0xff00 >> kept) & 0xff;
}

function parseV4(text: string): Uint8Array | undefined {
  const parts = text.split(".");
  if (parts.length !== V4_LENGTH) return undefined;
  const bytes = new Uint8Array(V4_LENGTH);
  for (const [i, part] of parts.entries()) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined;
    bytes[i] = Number(part);
  }
  return bytes;
}

function parseV6(text: string): Uint8Array | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const head = parseGroups(halves[0] ?? "", halves.length === 1);
  const tail = halves.length === 2 ? parseGroups(halves[1] ?? "", true) : [];
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 2 ? missing < 1 : missing !== 0) return undefined;
  const bytes = new Uint8Array(V6_LENGTH);
  const view = viewOf(bytes);
  for (const [i, group] of head.entries()) view.setUint16(2 * i, group);
  for (const [i, group] of tail.entries()) view.setUint16(2 * (8 - tail.length + i), group);
  return bytes;
}

/** Reads groups of hex; the last may be an embedded IPv4 address where `last` says so. */
function parseGroups(text: string, last: boolean): number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (last && i === parts.length - 1 && part.includes(".")) {
      const v4 = parseV4(part);
      if (v4 === undefined) return undefined;
      groups.push(viewOf(v4).getUint16(0), viewOf(v4).getUint16(2));
    } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) {
      groups.push(Number.parseInt(part, 16));
    } else {
      return undefined;
    }
  }
  return groups;
}

/** RFC 5952 section 4: lower case, no leading zeroes, the longest run of two or more zero groups shortened. */
function formatV6(bytes: Uint8Array): string {
  const view = viewOf(bytes);
  const groups = Array.from({ length: 8 }, (_, i) => view.getUint16(2 * i));
  let [runAt, runLength] = [0, 0];
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && groups[at + length] === 0) length++;
    if (length > runLength) [runAt, runLength] = [at, length];
  }
  const hex = (part: readonly number[]): string => part.map((group) => group.toString(16)).join(":");
  if (runLength < 2) return hex(groups);
  return `${hex(groups.slice(0, runAt))}::${hex(groups.slice(runAt + runLength))}`;
}
