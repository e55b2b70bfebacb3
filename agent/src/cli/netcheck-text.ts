/** The report of a network check, as people read it. */
import type { NamedRegion, NetcheckReportJson, SocketBuffers } from "../health/netcheck-json.ts";
import type { DataPlaneJson, ForwardingJson } from "../health/status-json.ts";
import { durationText } from "./duration.ts";

export function netcheckLines(
  report: NetcheckReportJson,
  regions: readonly NamedRegion[],
  { verbose = false } = {},
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
  const latencies = measured ? ["\t* DERP latency:", ...latencyLines(report, regions, verbose)] : [];
  return ["", "Report:", ...lines.map((line) => `\t* ${line}`), ...latencies];
}

/** How packets are moved here. */
export function verboseLines(machine: {
  readonly dataPlane: DataPlaneJson | undefined;
  readonly buffers: SocketBuffers | undefined;
  readonly tuning: Readonly<Record<string, string>>;
  readonly forwarding: Pick<ForwardingJson, "Tuning"> | undefined;
}): readonly string[] {
  const { dataPlane, buffers, tuning, forwarding } = machine;
  const buffersText = buffers && `receive ${buffers.receive} bytes, send ${buffers.send} bytes`;
  const settings = Object.entries(tuning).map(([name, value]) => `\t\t- ${name} = ${value}`);
  return [
    ...dataPlaneLines(dataPlane),
    `\t* Socket buffers: ${buffersText ?? "unknown"}`,
    ...(settings.length === 0 ? [] : ["\t* Tuning:", ...settings]),
    ...forwardingLines(forwarding?.Tuning ?? []),
  ];
}

/** What was set, and what could not be. */
function forwardingLines(tuned: ForwardingJson["Tuning"]): readonly string[] {
  const lines = tuned.map(({ What, Was, Is, Why }) =>
    Was === Is ? `\t\t- ${What} = ${Is}, as before (${Why})` : `\t\t- ${What} = ${Is}, was ${Was} (${Why})`,
  );
  return lines.length === 0 ? [] : ["\t* Set for what is carried for others:", ...lines];
}

function dataPlaneLines(dataPlane: DataPlaneJson | undefined): readonly string[] {
  if (dataPlane === undefined) return ["\t* Data plane: no tunnel is up"];
  const { Workers, Why, Aead, TunOffload, UdpSegmentation, UdpReceiveOffload, Fallbacks } = dataPlane;
  const why = Why === undefined ? "" : ` (${Why})`;
  return [
    `\t* Data plane: ${Workers} ${Workers === 1 ? "worker" : "workers"}${why}`,
    `\t\t- sealing (AEAD): ${Aead}`,
    `\t\t- TUN offloads: ${TunOffload}`,
    `\t\t- UDP segmentation (GSO): ${UdpSegmentation ? "yes" : "no"}`,
    `\t\t- UDP receive offload (GRO): ${UdpReceiveOffload ? "yes" : "no"}`,
    ...Fallbacks.map((sentence) => `\t\t- ${sentence}`),
  ];
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
function latencyLines(
  report: NetcheckReportJson,
  regions: readonly NamedRegion[],
  verbose: boolean,
): readonly string[] {
  const latencyOf = (region: NamedRegion): number => report.RegionLatency[String(region.id)] ?? Infinity;
  const sorted = regions.toSorted((a, b) => {
    const [first, second] = [latencyOf(a), latencyOf(b)];
    return first === second ? a.id - b.id : first - second;
  });
  return sorted.map((region) => {
    const latency = latencyOf(region);
    const text = latency === Infinity ? "" : durationText(Math.round((latency / NANOS_PER_MS) * 10) / 10);
    return `\t\t- ${region.code.padStart(CODE_WIDTH)}: ${text.padEnd(LATENCY_WIDTH)} (${verbose ? `derp${region.id}, ` : ""}${region.name})`;
  });
}
