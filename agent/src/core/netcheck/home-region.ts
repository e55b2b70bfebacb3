/**
 * Which region is home: the relay at which peers first look for this node.
 *
 * Every move costs the peers a detour until they have heard of it, so a new home must be clearly better than the
 * old one, over more than one measurement.
 */
import { type Instant, type Millis, millis, minutes, seconds, since } from "../../base/time.ts";
import type { RegionId } from "../path/path.ts";

/** A region counts with the best of this long (net/netcheck). */
const HISTORY: Millis = millis(minutes(5) + seconds(5));
/** An old home that is slower by less than this is kept. */
const MIN_GAIN: Millis = millis(10);
/** An old home is kept unless the new one takes less than this part of its time. */
const CLEARLY_FASTER = 2 / 3;
/** An old home that was not measured but sent something this recently is kept: longer ago than a report takes. */
const HEARD_LATELY: Millis = seconds(8);
/** Where nothing was measured, an old home that sent something within two of its keep-alives is kept. */
const HEARD_AT_ALL: Millis = seconds(120);

export interface Measured {
  /** Of this report alone. */
  readonly latency: ReadonlyMap<RegionId, Millis>;
  /** Factors from the relay map, by which latencies are multiplied. */
  readonly scores: ReadonlyMap<RegionId, number>;
  /** When each region's relay last sent us anything. */
  readonly heard: ReadonlyMap<RegionId, Instant>;
}

export class HomeRegion {
  #current: RegionId | undefined;
  #history: { readonly at: Instant; readonly latency: ReadonlyMap<RegionId, Millis> }[] = [];

  get current(): RegionId | undefined {
    return this.#current;
  }

  /** Adds a report to the history and returns the home, the old or a new one; `undefined` is none. */
  choose(measured: Measured, now: Instant): RegionId | undefined {
    this.#history.push({ at: now, latency: measured.latency });
    this.#history = this.#history.filter(({ at }) => since(at, now) <= HISTORY);
    this.#current = this.#choose(measured, now);
    return this.#current;
  }

  #choose(measured: Measured, now: Instant): RegionId | undefined {
    const old = this.#current;
    const best = this.#fastest(measured);
    if (best === undefined)
      return old !== undefined && heardWithin(HEARD_AT_ALL, old, measured, now) ? old : undefined;
    if (old === undefined || best.region === old) return best.region;
    const oldLatency = measured.latency.get(old);
    if (oldLatency === undefined) return heardWithin(HEARD_LATELY, old, measured, now) ? old : best.region;
    const scaled = scale(old, oldLatency, measured);
    const keep = scaled - best.latency < MIN_GAIN || best.latency > scaled * CLEARLY_FASTER;
    return keep ? old : best.region;
  }

  /** Of the regions in this report the one with the best latency in the history. */
  #fastest(measured: Measured): { readonly region: RegionId; readonly latency: number } | undefined {
    let found: { readonly region: RegionId; readonly latency: number } | undefined;
    for (const region of [...measured.latency.keys()].toSorted((a, b) => a - b)) {
      const seen = this.#history.flatMap((report) => report.latency.get(region) ?? []);
      const latency = scale(region, Math.min(...seen), measured);
      if (found === undefined || latency < found.latency) found = { region, latency };
    }
    return found;
  }
}

function scale(region: RegionId, latency: number, { scores }: Measured): number {
  const score = scores.get(region) ?? 0;
  return score > 0 ? latency * score : latency;
}

function heardWithin(wait: Millis, region: RegionId, { heard }: Measured, now: Instant): boolean {
  const at = heard.get(region);
  return at !== undefined && since(at, now) <= wait;
}
