/**
 * The packet filter: which packets from peers this node lets in.
 *
 * The receiver decides, and what no rule allows is dropped. Outgoing packets are never refused;
 * those of UDP and SCTP are remembered so that the answers come back in. That the source address
 * belongs to the peer who sealed the packet was checked before (allowed IPs).
 */
import type { Ip, Prefix } from "../../base/address.ts";
import type { MalformedPacket, Packet } from "../ip/packet.ts";
import {
  addressLength,
  destinationOffset,
  parsePacket,
  protocol,
  sourceOffset,
  tcpFlag,
} from "../ip/packet.ts";
import { PrefixTable } from "../ip/prefix-table.ts";
import type { CapabilityMap, CompiledRule } from "./rule.ts";
import { compileRule } from "./rule.ts";
import { type FlowStore, FlowTable } from "./flow-table.ts";

/** A rule as the coordination server sends it. */
export interface FilterRuleJson {
  readonly SrcIPs?: readonly string[] | null;
  readonly DstPorts?: readonly DestinationJson[] | null;
  /** Absent or empty: TCP, UDP, ICMP and ICMPv6. */
  readonly IPProto?: readonly number[] | null;
  /** Grants capabilities to applications; opens no port. */
  readonly CapGrant?: readonly CapGrantJson[] | null;
}

export interface DestinationJson {
  readonly IP: string;
  readonly Ports: { readonly First: number; readonly Last: number };
}

export interface CapGrantJson {
  readonly Dsts?: readonly string[] | null;
  readonly CapMap?: Readonly<Record<string, readonly unknown[] | null>> | null;
}

export interface FilterOptions {
  /** Own addresses and advertised routes; an exit node adds 0.0.0.0/0 and ::/0. */
  readonly localAddresses: readonly Prefix[];
  /** Left out of `localAddresses` unless a longer prefix there names it: an exit node's own networks. */
  readonly excluded?: readonly Prefix[];
  /** Who holds which node capability, for sources such as "cap:<name>". */
  readonly capabilityHolders?: ReadonlyMap<string, readonly Prefix[]>;
  /** The filter that this one replaces: answers to what was sent under it still come in. */
  readonly previous?: PacketFilter | undefined;
  /** Where flows are remembered for several filters. @default that of the previous one, or an own */
  readonly flows?: FlowStore | undefined;
}

export interface Decision {
  readonly verdict: "accept" | "drop";
  readonly why: Reason;
}

export type Reason =
  | "keepalive"
  | "rule"
  | "reply"
  | "icmp-error"
  | "tsmp"
  | "fragment"
  | MalformedPacket
  | "suspicious-fragment"
  | "multicast"
  | "link-local"
  | "mapped-address"
  | "not-local"
  | "no-rule";

/** A malformed rule is left out (which can only close) and counted. */
export function compileFilter(rules: readonly FilterRuleJson[], options: FilterOptions): PacketFilter {
  return new PacketFilter(rules, options);
}

export class PacketFilter {
  /** Rules that this node could not read and therefore left out. */
  readonly malformedRules: number;
  readonly #rules: readonly CompiledRule[];
  readonly #local = new PrefixTable<boolean>();
  readonly #flows: FlowStore;

  constructor(rules: readonly FilterRuleJson[], options: FilterOptions) {
    const { flows, previous } = options;
    this.#flows = flows ?? (previous === undefined ? new FlowTable(FLOWS) : previous.#flows);
    const holders = options.capabilityHolders ?? new Map<string, readonly Prefix[]>();
    const compiled = rules.map((rule) => compileRule(rule, holders));
    this.#rules = compiled.filter((rule) => rule !== "malformed");
    this.malformedRules = rules.length - this.#rules.length;
    for (const prefix of options.excluded ?? []) this.#local.set(prefix, false);
    for (const prefix of options.localAddresses) this.#local.set(prefix, true);
  }

  /** Judges a packet that a peer sent, read already or not. */
  accepts(input: Packet | Uint8Array): Decision {
    const packet = input instanceof Uint8Array ? parsePacket(input) : input;
    if (typeof packet === "string") return packet === "empty" ? accept("keepalive") : drop(packet);
    return this.#refusedDestination(packet) ?? this.#judge(packet);
  }

  /** Remembers a packet sent to a peer, so that its answer is let in. */
  noteOutbound(input: Packet | Uint8Array): void {
    const packet = input instanceof Uint8Array ? parsePacket(input) : input;
    if (typeof packet !== "string" && hasFlow(packet)) this.#flows.note(packet);
  }

  /** The application capabilities that `source` has towards `destination`, merged over all rules. */
  capabilities(source: Ip, destination: Ip): CapabilityMap {
    const merged = new Map<string, readonly unknown[]>();
    for (const rule of this.#rules) {
      if (rule.sources.lookup(source) !== true) continue;
      for (const grant of rule.grants) {
        if (grant.destinations.lookup(destination) !== true) continue;
        for (const [name, values] of grant.capabilities) {
          merged.set(name, [...(merged.get(name) ?? []), ...values]);
        }
      }
    }
    return merged;
  }

  #refusedDestination(packet: Packet): Decision | undefined {
    const { bytes } = packet;
    const at = destinationOffset(packet);
    const first = bytes[at] ?? 0;
    const second = bytes[at + 1] ?? 0;
    if (packet.version === 4 ? (first & 0xf0) === 0xe0 : first === 0xff) return drop("multicast");
    if (packet.version === 4) {
      const metadata = first === 169 && second === 254 && bytes[at + 2] === 169 && bytes[at + 3] === 254;
      if (first === 169 && second === 254 && !metadata) return drop("link-local");
    } else {
      if (first === 0xfe && (second & 0xc0) === 0x80) return drop("link-local");
      if (isMapped(bytes, at) || isMapped(bytes, sourceOffset(packet))) return drop("mapped-address");
    }
    return this.#local.lookupBytes(bytes, at, addressLength(packet)) === true ? undefined : drop("not-local");
  }

  #judge(packet: Packet): Decision {
    if (packet.fragment === "suspicious") return drop("suspicious-fragment");
    if (packet.fragment === "later") return accept("fragment");
    switch (packet.protocol) {
      case protocol.icmp:
      case protocol.icmpV6:
        return this.#judgeIcmp(packet);
      case protocol.tcp:
        if ((packet.tcpFlags & (tcpFlag.syn | tcpFlag.ack)) !== tcpFlag.syn) return accept("reply");
        return this.#byRule(packet);
      case protocol.udp:
      case protocol.sctp:
        return this.#flows.isAnswer(packet) ? accept("reply") : this.#byRule(packet);
      case protocol.tsmp:
        return accept("tsmp");
      default:
        return this.#byRuleForAllPorts(packet);
    }
  }

  #judgeIcmp(packet: Packet): Decision {
    if ((packet.version === 4) !== (packet.protocol === protocol.icmp)) return drop("no-rule");
    const type = packet.bytes[packet.payloadAt] ?? 0;
    const known = packet.version === 4 ? icmpV4 : icmpV6;
    if (type === known.echoReply) return accept("reply");
    if (known.errors.includes(type)) return accept("icmp-error");
    return this.#anyRule(packet, (rule) => rule.destinations.some((to) => reaches(packet, to.addresses)));
  }

  #byRule(packet: Packet): Decision {
    const port = packet.destinationPort;
    return this.#anyRule(
      packet,
      (rule) =>
        rule.protocols.has(packet.protocol) &&
        rule.destinations.some(
          (to) => port >= to.firstPort && port <= to.lastPort && reaches(packet, to.addresses),
        ),
    );
  }

  #byRuleForAllPorts(packet: Packet): Decision {
    return this.#anyRule(
      packet,
      (rule) =>
        rule.protocols.has(packet.protocol) &&
        rule.destinations.some(
          (to) => to.firstPort === 0 && to.lastPort === MAX_PORT && reaches(packet, to.addresses),
        ),
    );
  }

  #anyRule(packet: Packet, allows: (rule: CompiledRule) => boolean): Decision {
    const from = sourceOffset(packet);
    const length = addressLength(packet);
    const found = this.#rules.some(
      (rule) => rule.sources.lookupBytes(packet.bytes, from, length) === true && allows(rule),
    );
    return found ? accept("rule") : drop("no-rule");
  }
}

/** UDP and SCTP flows remembered, least recently used forgotten first (Tailscale's number). */
const FLOWS = 512;
const MAX_PORT = 65535;

/** Message types (IANA): unreachable, time exceeded, parameter problem; in ICMPv6 also packet too big. */
const icmpV4: IcmpTypes = { echoReply: 0, errors: [3, 11, 12] };
const icmpV6: IcmpTypes = { echoReply: 129, errors: [1, 2, 3, 4] };

interface IcmpTypes {
  readonly echoReply: number;
  readonly errors: readonly number[];
}

/** Decisions are constants: nothing is allocated for a packet that is let in or dropped. */
const decisions = new Map<string, Decision>();

function decide(verdict: "accept" | "drop", why: Reason): Decision {
  const known = decisions.get(why);
  if (known !== undefined) return known;
  const decision: Decision = Object.freeze({ verdict, why });
  decisions.set(why, decision);
  return decision;
}

const accept = (why: Reason): Decision => decide("accept", why);
const drop = (why: Reason): Decision => decide("drop", why);

function hasFlow(packet: Packet): boolean {
  const begins = packet.fragment === "whole" || packet.fragment === "first";
  return begins && (packet.protocol === protocol.udp || packet.protocol === protocol.sctp);
}

function reaches(packet: Packet, addresses: PrefixTable<true>): boolean {
  return addresses.lookupBytes(packet.bytes, destinationOffset(packet), addressLength(packet)) === true;
}

/** ::ffff:0:0/96 never belongs on a wire (RFC 4038 section 4.2); it would dress up as an IPv4 address. */
function isMapped(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < 10; i++) if (bytes[at + i] !== 0) return false;
  return bytes[at + 10] === 0xff && bytes[at + 11] === 0xff;
}
