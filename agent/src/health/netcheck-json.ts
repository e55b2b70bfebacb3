/** What a network check found out, as the local API and `sallyport netcheck --json` say it. */
import { formatRfc3339 } from "../base/rfc3339.ts";
import type { WallTime } from "../base/time.ts";
import type { Latencies, NetcheckReport, SeenAddress } from "../core/netcheck/report.ts";
import type { DerpMap } from "../core/path/derp-map.ts";

/** The fields and names of `tailscale netcheck --format=json`. null is unknown; durations are nanoseconds. */
export interface NetcheckReportJson {
  readonly Now: string;
  readonly UDP: boolean;
  readonly IPv4: boolean;
  readonly IPv6: boolean;
  readonly OSHasIPv6: boolean;
  readonly MappingVariesByDestIP: boolean | null;
  readonly UPnP: boolean | null;
  readonly PMP: boolean | null;
  readonly PCP: boolean | null;
  /** 0 is none. */
  readonly PreferredDERP: number;
  readonly RegionLatency: Readonly<Record<string, number>>;
  readonly RegionV4Latency?: Readonly<Record<string, number>>;
  readonly RegionV6Latency?: Readonly<Record<string, number>>;
  readonly GlobalV4: string;
  readonly GlobalV6: string;
  readonly GlobalV4Counters?: Readonly<Record<string, number>>;
  readonly GlobalV6Counters?: Readonly<Record<string, number>>;
  readonly CaptivePortal: boolean | null;
}

export interface NamedRegion {
  readonly id: number;
  readonly code: string;
  readonly name: string;
}

/** Bytes that the kernel keeps for each direction of the tunnel's socket, as it says them: twice what was asked for. */
export interface SocketBuffers {
  readonly receive: number;
  readonly send: number;
}

export interface NetcheckReply {
  readonly report: NetcheckReportJson;
  readonly regions: readonly NamedRegion[];
  readonly buffers: SocketBuffers | undefined;
}

const NANOS_PER_MS = 1e6;

export function netcheckReportJson(
  report: NetcheckReport,
  { at, osHasIpv6 }: { readonly at: WallTime; readonly osHasIpv6: boolean },
): NetcheckReportJson {
  return {
    Now: formatRfc3339(at),
    UDP: report.udp,
    IPv4: report.ipv4,
    IPv6: report.ipv6,
    OSHasIPv6: osHasIpv6,
    MappingVariesByDestIP: report.mappingVariesByDestIp ?? null,
    UPnP: null,
    PMP: null,
    PCP: null,
    PreferredDERP: report.preferredDerp ?? 0,
    RegionLatency: nanos(report.regionLatency),
    RegionV4Latency: nanos(report.regionV4Latency),
    RegionV6Latency: nanos(report.regionV6Latency),
    GlobalV4: report.globalV4?.text ?? "",
    GlobalV6: report.globalV6?.text ?? "",
    GlobalV4Counters: counts(report.globalV4Counters),
    GlobalV6Counters: counts(report.globalV6Counters),
    CaptivePortal: null,
  };
}

export function namedRegions({ regions }: DerpMap): readonly NamedRegion[] {
  return [...regions.values()].map(({ id, code, name }) => ({ id, code, name }));
}

function nanos(latencies: Latencies): Readonly<Record<string, number>> {
  return Object.fromEntries([...latencies].map(([id, ms]) => [String(id), Math.round(ms * NANOS_PER_MS)]));
}

function counts(seen: readonly SeenAddress[]): Readonly<Record<string, number>> {
  return Object.fromEntries(seen.map(({ address, count }) => [address.text, count]));
}
