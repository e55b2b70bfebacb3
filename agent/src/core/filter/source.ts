/**
 * How the rules of the packet filter name addresses:
 * "*", "100.64.0.1", "100.64.0.0/10", "100.64.2.5-100.64.2.9", and for sources "cap:<name>".
 */
import { Ip, Prefix } from "../../base/address.ts";

export interface FilterSource {
  readonly prefixes: readonly Prefix[];
  /** The node capability whose holders are meant, from "cap:<name>". */
  readonly capability: string | undefined;
}

export type MalformedSource = "not-an-address" | "host-bits-set" | "reversed-range";

export function parseSource(text: string): FilterSource | MalformedSource {
  if (text.startsWith("cap:")) return { prefixes: [], capability: text.slice("cap:".length) };
  const prefixes = parseAddresses(text);
  return typeof prefixes === "string" ? prefixes : { prefixes, capability: undefined };
}

/** The forms that a destination may have too. */
export function parseAddresses(text: string): readonly Prefix[] | MalformedSource {
  if (text === "*") return EVERYWHERE;
  const [first = "", last, ...rest] = text.split("-");
  if (last !== undefined) {
    const [low, high] = [Ip.tryParse(first), Ip.tryParse(last)];
    if (low === undefined || high === undefined || rest.length > 0) return "not-an-address";
    return prefixesOfRange(low, high);
  }
  return parsePrefix(text);
}

/** The fewest prefixes that cover `low` to `high`, both included, in order. */
function prefixesOfRange(low: Ip, high: Ip): readonly Prefix[] | MalformedSource {
  if (low.isV4 !== high.isV4) return "not-an-address";
  const width = low.isV4 ? 32 : 128;
  const end = toInteger(high);
  let at = toInteger(low);
  if (at > end) return "reversed-range";
  const prefixes: Prefix[] = [];
  while (at <= end) {
    let free = 0;
    while (free < width && (at >> BigInt(free)) % 2n === 0n && at + (1n << BigInt(free + 1)) - 1n <= end)
      free++;
    prefixes.push(Prefix.of(toIp(at, width), width - free));
    at += 1n << BigInt(free);
  }
  return prefixes;
}

const EVERYWHERE: readonly Prefix[] = [Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")];

function parsePrefix(text: string): readonly Prefix[] | MalformedSource {
  const [address = "", length, ...rest] = text.split("/");
  const ip = Ip.tryParse(address);
  if (ip === undefined || rest.length > 0) return "not-an-address";
  if (length === undefined) return [Prefix.host(ip)];
  if (!/^\d{1,3}$/.test(length) || Number(length) > ip.bytes.length * 8) return "not-an-address";
  const prefix = Prefix.of(ip, Number(length));
  return prefix.ip.text === ip.text ? [prefix] : "host-bits-set";
}

function toInteger(ip: Ip): bigint {
  return ip.bytes.reduce((value, byte) => value * 256n + BigInt(byte), 0n);
}

function toIp(value: bigint, width: number): Ip {
  const bytes = new Uint8Array(width / 8);
  let rest = value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest % 256n);
    rest /= 256n;
  }
  return Ip.fromBytes(bytes);
}
