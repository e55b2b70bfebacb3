/** The report of a network check, as people read it. No command shows it yet: it is here for the published samples. */
import { durationText } from "./duration.ts";

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
  readonly GlobalV4: string;
  readonly GlobalV6: string;
  readonly CaptivePortal: boolean | null;
}

export interface NamedRegion {
  readonly id: number;
  readonly code: string;
  readonly name: string;
}

export function netcheckLines(
  report: NetcheckReportJson,
  regions: readonly NamedRegion[],
): readonly string[] {
  const lines = [
    `Time: ${report.Now.replace("T", " ")}`,
    `UDP: ${report.UDP}`,
    `IPv4: ${report.IPv4 ? `yes, ${report.GlobalV4}` : "(no addr found)"}`,
    `IPv6: ${v6Text(report)}`,
    `MappingVariesByDestIP: ${report.MappingVariesByDestIP ?? ""}`,
    `PortMapping: ${portMappingText(report)}`,
    ...(report.CaptivePortal === null ? [] : [`CaptivePortal: ${report.CaptivePortal}`]),
    `Nearest DERP: ${nearestText(report, regions)}`,
  ];
  const measured = Object.keys(report.RegionLatency).length > 0;
  const latencies = measured ? ["\t* DERP latency:", ...latencyLines(report, regions)] : [];
  return ["", "Report:", ...lines.map((line) => `\t* ${line}`), ...latencies];
}

const NANOS_PER_MS = 1_000_000;
/** Widths of the code and of the latency. */
const [CODE_WIDTH, LATENCY_WIDTH] = [3, 7];

function v6Text(report: NetcheckReportJson): string {
  if (report.IPv6) return report.GlobalV6 === "" ? "(no addr found)" : `yes, ${report.GlobalV6}`;
  return report.OSHasIPv6 ? "no, but OS has support" : "no, unavailable in OS";
}

function portMappingText({ UPnP, PMP, PCP }: NetcheckReportJson): string {
  if (UPnP === null && PMP === null && PCP === null) return "not checked";
  return [UPnP === true ? "UPnP" : "", PMP === true ? "NAT-PMP" : "", PCP === true ? "PCP" : ""]
    .filter((name) => name !== "")
    .join(", ");
}

function nearestText(report: NetcheckReportJson, regions: readonly NamedRegion[]): string {
  if (Object.keys(report.RegionLatency).length === 0) return "unknown (no response to latency probes)";
  if (report.PreferredDERP === 0) return "[none]";
  const name = regions.find(({ id }) => id === report.PreferredDERP)?.name;
  return name ?? `${report.PreferredDERP} (region not found in map)`;
}

/** Fastest first; those that did not answer last, by number. */
function latencyLines(report: NetcheckReportJson, regions: readonly NamedRegion[]): readonly string[] {
  const latencyOf = (region: NamedRegion): number => report.RegionLatency[String(region.id)] ?? Infinity;
  const sorted = regions.toSorted((a, b) => {
    const [first, second] = [latencyOf(a), latencyOf(b)];
    return first === second ? a.id - b.id : first - second;
  });
  return sorted.map((region) => {
    const latency = latencyOf(region);
    const text = latency === Infinity ? "" : durationText(Math.round((latency / NANOS_PER_MS) * 10) / 10);
    return `\t\t- ${region.code.padStart(CODE_WIDTH)}: ${text.padEnd(LATENCY_WIDTH)} (${region.name})`;
  });
}
