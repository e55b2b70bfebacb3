/** Rules from the coordination server, read once into tables that a packet is held against. */
import type { Prefix } from "../../base/address.ts";
import { protocol } from "../ip/packet.ts";
import { PrefixTable } from "../ip/prefix-table.ts";
import { parseAddresses, parseSource } from "./source.ts";

export interface CompiledRule {
  readonly sources: PrefixTable<true>;
  readonly protocols: ReadonlySet<number>;
  readonly destinations: readonly Destination[];
  readonly grants: readonly Grant[];
}

export interface Destination {
  readonly addresses: PrefixTable<true>;
  readonly firstPort: number;
  readonly lastPort: number;
}

export interface Grant {
  readonly destinations: PrefixTable<true>;
  readonly capabilities: CapabilityMap;
}

/** Capability name → its values, which only the application understands. */
export type CapabilityMap = ReadonlyMap<string, readonly unknown[]>;

/** Takes whatever the server sent: the types of the wire are a promise, not a fact. */
export function compileRule(
  rule: unknown,
  capabilityHolders: ReadonlyMap<string, readonly Prefix[]>,
): CompiledRule | "malformed" {
  if (!isRecord(rule)) return "malformed";
  const sources = compileSources(list(rule["SrcIPs"]), capabilityHolders);
  const protocols = compileProtocols(list(rule["IPProto"]));
  const destinations = compileAll(list(rule["DstPorts"]), compileDestination);
  const grants = compileAll(list(rule["CapGrant"]), compileGrant);
  if (
    sources === "malformed" ||
    protocols === "malformed" ||
    destinations === "malformed" ||
    grants === "malformed"
  ) {
    return "malformed";
  }
  return { sources, protocols, destinations, grants };
}

/** What a rule without IPProto means. */
const DEFAULT_PROTOCOLS: ReadonlySet<number> = new Set([
  protocol.tcp,
  protocol.udp,
  protocol.icmp,
  protocol.icmpV6,
]);

function compileSources(
  sources: readonly unknown[] | "malformed",
  capabilityHolders: ReadonlyMap<string, readonly Prefix[]>,
): PrefixTable<true> | "malformed" {
  if (sources === "malformed") return "malformed";
  const prefixes: Prefix[] = [];
  for (const text of sources) {
    const source = typeof text === "string" ? parseSource(text) : "not-an-address";
    if (typeof source === "string") return "malformed";
    prefixes.push(...source.prefixes);
    if (source.capability !== undefined) prefixes.push(...(capabilityHolders.get(source.capability) ?? []));
  }
  return tableOf(prefixes);
}

function compileProtocols(numbers: readonly unknown[] | "malformed"): ReadonlySet<number> | "malformed" {
  if (numbers === "malformed") return "malformed";
  const known = numbers.filter((number) => isWhole(number, 255));
  if (known.length < numbers.length) return "malformed";
  return known.length === 0 ? DEFAULT_PROTOCOLS : new Set(known);
}

function compileDestination(destination: unknown): Destination | "malformed" {
  if (!isRecord(destination) || typeof destination["IP"] !== "string") return "malformed";
  const ports = destination["Ports"];
  if (!isRecord(ports)) return "malformed";
  const { First: firstPort, Last: lastPort } = ports;
  if (!isWhole(firstPort, 0xffff) || !isWhole(lastPort, 0xffff) || firstPort > lastPort) return "malformed";
  const prefixes = parseAddresses(destination["IP"]);
  return typeof prefixes === "string" ? "malformed" : { addresses: tableOf(prefixes), firstPort, lastPort };
}

function compileGrant(grant: unknown): Grant | "malformed" {
  if (!isRecord(grant)) return "malformed";
  const prefixes = compileAll(list(grant["Dsts"]), (text) =>
    typeof text === "string" ? asMalformed(parseAddresses(text)) : "malformed",
  );
  const capabilities = compileCapabilities(grant["CapMap"] ?? {});
  if (prefixes === "malformed" || capabilities === "malformed") return "malformed";
  return { destinations: tableOf(prefixes.flat()), capabilities };
}

function compileCapabilities(map: unknown): CapabilityMap | "malformed" {
  if (!isRecord(map)) return "malformed";
  const capabilities = new Map<string, readonly unknown[]>();
  for (const [name, values] of Object.entries(map)) {
    const read = list(values);
    if (read === "malformed") return "malformed";
    capabilities.set(name, read);
  }
  return capabilities;
}

function compileAll<T>(
  items: readonly unknown[] | "malformed",
  compile: (item: unknown) => T | "malformed",
): readonly T[] | "malformed" {
  if (items === "malformed") return "malformed";
  const compiled: T[] = [];
  for (const item of items) {
    const one = compile(item);
    if (one === "malformed") return "malformed";
    compiled.push(one);
  }
  return compiled;
}

function tableOf(prefixes: readonly Prefix[]): PrefixTable<true> {
  const table = new PrefixTable<true>();
  for (const prefix of prefixes) table.set(prefix, true);
  return table;
}

function asMalformed<T>(value: T | string): T | "malformed" {
  return typeof value === "string" ? "malformed" : value;
}

/** An absent list and a null one are empty, as Go writes them. */
function list(value: unknown): readonly unknown[] | "malformed" {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : "malformed";
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isWhole(value: unknown, max: number): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;
}
