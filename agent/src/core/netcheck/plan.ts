/** Which STUN servers are asked when. The numbers are those of net/netcheck. */
import type { IpPort } from "../../base/address.ts";
import { type Millis, millis } from "../../base/time.ts";
import type { DerpMap } from "../path/derp-map.ts";
import type { RegionId } from "../path/path.ts";
import type { NetcheckReport } from "./report.ts";

export type Family = "v4" | "v6";

/** The probes of one region in one family. It ends with its first answer. */
export interface ProbeSet {
  readonly region: RegionId;
  readonly family: Family;
  readonly probes: readonly { readonly delay: Millis; readonly to: IpPort }[];
}

/** Each region's STUN servers, in the order of its nodes. */
export type StunServers = ReadonlyMap<RegionId, readonly IpPort[]>;

const FULL_TRIES = 3;
const FULL_RETRY: Millis = millis(100);
/** An incremental plan asks the fastest ones and the home. */
const INCREMENTAL_REGIONS = 3;
const FASTEST_TWO = 2;
const HOME_TRIES = 4;
const FASTEST_TRIES = 2;
/** The retry where the last latency is unknown; else it is 1.2 times that. */
const UNKNOWN_RETRY: Millis = millis(200);
const RETRY_FACTOR = 1.2;
const LATE_RETRY_EXTRA: Millis = millis(50);

/** Every region, thrice, in both families. */
export function fullPlan(derpMap: DerpMap, servers: StunServers): readonly ProbeSet[] {
  return measurable(derpMap).flatMap((region) =>
    probeSets(
      region,
      servers,
      ["v4", "v6"],
      () => FULL_TRIES,
      (attempt) => attempt * FULL_RETRY,
    ),
  );
}

/** The regions that were the fastest, more often the faster they were. */
export function incrementalPlan(
  derpMap: DerpMap,
  servers: StunServers,
  last: NetcheckReport,
): readonly ProbeSet[] {
  const latencyOf = (region: RegionId): number => last.regionLatency.get(region) ?? Infinity;
  const sorted = measurable(derpMap).toSorted((a, b) => compare(latencyOf(a), latencyOf(b)));
  const dualStack = last.ipv4 && last.ipv6;
  return sorted.flatMap((region, rank) => {
    const isHome = region === last.preferredDerp;
    const isFast = rank < FASTEST_TWO;
    if (rank >= INCREMENTAL_REGIONS && !isHome) return [];
    const baseTries = isFast ? FASTEST_TRIES : 1;
    const tries = isHome ? HOME_TRIES : baseTries;
    // IPv6 that did not work the last time is tried once, at the fastest two.
    const triesOf = (family: Family): number => (family === "v4" || last.ipv6 ? tries : Number(isFast));
    const retry = latencyOf(region) === Infinity ? UNKNOWN_RETRY : latencyOf(region) * RETRY_FACTOR;
    const delayOf = (attempt: number): number => attempt * (retry + (attempt > 1 ? LATE_RETRY_EXTRA : 0));
    return probeSets(region, servers, familiesOf(rank, isFast, dualStack), triesOf, delayOf);
  });
}

/** Beyond the fastest two, two families are asked by turns. */
function familiesOf(rank: number, isFast: boolean, dualStack: boolean): readonly Family[] {
  if (isFast || !dualStack) return ["v4", "v6"];
  return rank % 2 === 0 ? ["v4"] : ["v6"];
}

function compare(a: number, b: number): number {
  if (a === b) return 0; // which Infinity − Infinity is not
  return a < b ? -1 : 1;
}

function measurable(derpMap: DerpMap): readonly RegionId[] {
  const regions = [...derpMap.regions.values()].filter((region) => !region.noMeasureNoHome);
  return regions.map(({ id }) => id).toSorted((a, b) => a - b);
}

function probeSets(
  region: RegionId,
  servers: StunServers,
  families: readonly Family[],
  triesOf: (family: Family) => number,
  delayOf: (attempt: number) => number,
): readonly ProbeSet[] {
  return families.flatMap((family) => {
    const addresses = (servers.get(region) ?? []).filter(({ ip }) => ip.isV4 === (family === "v4"));
    const tries = addresses.length === 0 ? 0 : triesOf(family);
    const probes = Array.from({ length: tries }, (_, attempt) => attempt).flatMap((attempt) => {
      const to = addresses[attempt % addresses.length];
      return to === undefined ? [] : [{ delay: millis(delayOf(attempt)), to }];
    });
    return probes.length === 0 ? [] : [{ region, family, probes }];
  });
}
