/** A whole fleet at a glance: what each node says of itself, the worst first, and whether that is worth an alert. */
import { formatRfc3339 } from "../base/rfc3339.ts";
import type { WallTime } from "../base/time.ts";
import { HEALTHY } from "../../../constructs/health-tags.ts";
import { type Doubt, type NodeReport, readNodeTags } from "./node-tags.ts";

/** One instance as EC2 describes it. */
export interface FleetInstance {
  readonly region: string;
  readonly zone: string;
  readonly instanceId: string;
  /** Its tag `Name`, which anybody may have written. */
  readonly name: string;
  readonly tags: ReadonlyMap<string, string>;
}

export interface RegionFailure {
  readonly region: string;
  readonly code: string;
  /** One sentence: what was asked for, why not, and what to do. */
  readonly message: string;
}

export interface FleetReading {
  readonly at: WallTime;
  readonly regions: readonly string[];
  readonly instances: readonly FleetInstance[];
  readonly failures: readonly RegionFailure[];
}

/** From bad to good. `unhealthy`: it says what is wrong. `unknown`: nothing it says can be believed. */
export const VERDICTS = ["unhealthy", "unknown", "relayed", "mixed", "idle", "direct"] as const;
export type Verdict = (typeof VERDICTS)[number];

export interface FleetNode {
  readonly region: string;
  readonly zone: string;
  readonly instance: string;
  readonly name: string;
  readonly verdict: Verdict;
  readonly path: string;
  readonly health: string;
  readonly peers: NonNullable<NodeReport["peers"]> | null;
  readonly relay: string | null;
  readonly endpoint: string | null;
  readonly egress: string | null;
  readonly version: string | null;
  /** RFC 3339; null where it says none. */
  readonly updated: string | null;
  readonly ageSeconds: number | null;
  readonly doubt: Doubt | null;
}

/** What `fleet --json` prints and the page shows. */
export interface Fleet {
  readonly at: string;
  readonly regions: readonly string[];
  /** Worst first, then by region and name. */
  readonly nodes: readonly FleetNode[];
  readonly failures: readonly RegionFailure[];
  readonly summary: Readonly<Record<Verdict, number>>;
}

export function fleetOf(reading: FleetReading): Fleet {
  const nodes = reading.instances.map((instance) => nodeOf(instance, reading.at)).sort(byVerdict);
  const count = (verdict: Verdict): number => nodes.filter((node) => node.verdict === verdict).length;
  return {
    at: formatRfc3339(reading.at),
    regions: reading.regions,
    nodes,
    failures: reading.failures,
    summary: Object.fromEntries(VERDICTS.map((verdict) => [verdict, count(verdict)])) as Fleet["summary"],
  };
}

export const CONDITIONS = ["relayed", "unhealthy", "stale"] as const;
export type Condition = (typeof CONDITIONS)[number];

/** Those that hold of at least one node, as its verdict is. Where nobody reports at all, that is `stale`. */
export function conditionsOf({ nodes }: Fleet): ReadonlySet<Condition> {
  const holding = new Set<Condition>();
  if (nodes.length === 0) holding.add("stale");
  for (const { verdict, path } of nodes) {
    if (verdict === "unhealthy") holding.add("unhealthy");
    if (verdict === "unknown") holding.add("stale");
    // Who is ill may be relayed beside.
    if (path === "mixed" || path.startsWith("relay:")) holding.add("relayed");
  }
  return holding;
}

function nodeOf({ region, zone, instanceId, name, tags }: FleetInstance, now: WallTime): FleetNode {
  const report = readNodeTags(tags, now);
  return {
    ...{ region, zone, instance: instanceId, name: printable(name) },
    verdict: verdictOf(report),
    ...{ path: report.path, health: report.health, peers: report.peers ?? null },
    ...{ relay: report.relay ?? null, endpoint: report.endpoint ?? null, egress: report.egress ?? null },
    version: report.version ?? null,
    updated: report.updated === undefined ? null : formatRfc3339(report.updated),
    ageSeconds: report.age === undefined ? null : Math.round(report.age / 1000),
    doubt: report.doubt ?? null,
  };
}

function verdictOf({ path, health, doubt }: NodeReport): Verdict {
  if (doubt !== undefined) return "unknown";
  if (health !== HEALTHY || path === "blocked") return "unhealthy";
  if (path === "direct" || path === "mixed" || path === "idle") return path;
  return path === "unknown" ? "unknown" : "relayed";
}

function byVerdict(a: FleetNode, b: FleetNode): number {
  const rank = VERDICTS.indexOf(a.verdict) - VERDICTS.indexOf(b.verdict);
  if (rank !== 0) return rank;
  const [one, other] = [a, b].map(({ region, name, instance }) => `${region} ${name} ${instance}`);
  return (one ?? "") < (other ?? "") ? -1 : 1;
}

/** Nothing that moves a cursor or turns the direction of text: others write names. */
function printable(text: string): string {
  return text.replaceAll(/\p{C}|\p{Zl}|\p{Zp}/gu, "\u{fffd}").slice(0, 64);
}
