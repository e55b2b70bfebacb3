/** What a netcheck found out, and how the coordination server is told of it. */
import type { IpPort } from "../../base/address.ts";
import type { Millis } from "../../base/time.ts";
import type { RegionId } from "../path/path.ts";

export type Latencies = ReadonlyMap<RegionId, Millis>;

export interface SeenAddress {
  readonly address: IpPort;
  /** How many STUN servers reported it. */
  readonly count: number;
}

export interface NetcheckReport {
  /** A STUN answer came. */
  readonly udp: boolean;
  readonly ipv4: boolean;
  readonly ipv6: boolean;
  /** Whether the NAT gives each destination another port. `undefined` until two servers have said what they see. */
  readonly mappingVariesByDestIp: boolean | undefined;
  /** The home region. */
  readonly preferredDerp: RegionId | undefined;
  /** The best of both families; by HTTPS where no UDP passes. */
  readonly regionLatency: Latencies;
  readonly regionV4Latency: Latencies;
  readonly regionV6Latency: Latencies;
  /** The address that was reported first. */
  readonly globalV4: IpPort | undefined;
  readonly globalV6: IpPort | undefined;
  /** All addresses reported, in that order. */
  readonly globalV4Counters: readonly SeenAddress[];
  readonly globalV6Counters: readonly SeenAddress[];
}

/** What other rooms know and NetInfo tells too. `undefined` is unknown. */
export interface NetInfoExtras {
  readonly osHasIpv6: boolean | undefined;
  readonly upnp?: boolean | undefined;
  readonly pmp?: boolean | undefined;
  readonly pcp?: boolean | undefined;
  readonly firewallMode?: string | undefined;
}

/** `NetInfo` of tailcfg. What is unknown is left out. */
export interface NetInfoJson {
  readonly MappingVariesByDestIP?: boolean;
  readonly WorkingIPv6: boolean;
  readonly OSHasIPv6?: boolean;
  readonly WorkingUDP: boolean;
  readonly UPnP?: boolean;
  readonly PMP?: boolean;
  readonly PCP?: boolean;
  readonly PreferredDERP?: number;
  /** Seconds, by "900-v4". */
  readonly DERPLatency?: Readonly<Record<string, number>>;
  readonly FirewallMode?: string;
}

export function netInfoOf(report: NetcheckReport, extras: NetInfoExtras): NetInfoJson {
  const latency = {
    ...latencyEntries(report.regionV4Latency, "v4"),
    ...latencyEntries(report.regionV6Latency, "v6"),
  };
  return {
    ...known("MappingVariesByDestIP", report.mappingVariesByDestIp),
    WorkingIPv6: report.ipv6,
    ...known("OSHasIPv6", extras.osHasIpv6),
    WorkingUDP: report.udp,
    ...known("UPnP", extras.upnp),
    ...known("PMP", extras.pmp),
    ...known("PCP", extras.pcp),
    ...known("PreferredDERP", report.preferredDerp),
    ...known("DERPLatency", Object.keys(latency).length > 0 ? latency : undefined),
    ...known("FirewallMode", extras.firewallMode),
  };
}

/** Whether the server need not be told again: all but the latencies is equal. */
export function sameNetInfo(a: NetInfoJson, b: NetInfoJson): boolean {
  const { DERPLatency: _a, ...restOfA } = a;
  const { DERPLatency: _b, ...restOfB } = b;
  return JSON.stringify(restOfA) === JSON.stringify(restOfB);
}

function latencyEntries(latencies: Latencies, family: string): Readonly<Record<string, number>> {
  return Object.fromEntries(
    [...latencies].map(([region, latency]) => [`${region}-${family}`, latency / 1000]),
  );
}

function known<Key extends string, T>(key: Key, value: T | undefined): Partial<Record<Key, T>> {
  return value === undefined ? {} : ({ [key]: value } as Record<Key, T>);
}
