import { instant, millis, type Millis, seconds } from "../../../../agent/src/base/time.ts";
import { HomeRegion } from "../../../../agent/src/core/netcheck/home-region.ts";
import { type RegionId, regionId } from "../../../../agent/src/core/path/path.ts";
import { vectors } from "../../../vectors/load.ts";

type ByRegion<T> = Readonly<Record<string, T>>;

interface Sequence {
  readonly name: string;
  readonly region_score: ByRegion<number> | null;
  readonly steps: readonly {
    readonly at_s: number;
    readonly latency_ms: ByRegion<number>;
    readonly preferred: number;
  }[];
}
const { sequences } = vectors<{ readonly sequences: readonly Sequence[] }>("home-region.json");
const [one, two] = [regionId(1), regionId(2)];

test.each(sequences)("$name", ({ steps, region_score }) => {
  const home = new HomeRegion();
  for (const { at_s, latency_ms, preferred } of steps) {
    const now = instant(seconds(at_s));
    const measured = { latency: byRegion(latency_ms), scores: byRegion(region_score ?? {}) };
    expect(home.choose({ ...measured, heard: new Map() }, now) ?? 0).toBe(preferred);
  }
});

test.each([
  { name: "a moment ago", ago: 0.5, kept: true },
  { name: "8 s ago", ago: 8, kept: true },
  { name: "9 s ago", ago: 9, kept: false },
])("a home that was not measured but whose relay was heard $name: kept is $kept", ({ ago, kept }) => {
  const home = homeOne();
  const now = instant(seconds(100));
  const heard = new Map([[one, instant(seconds(100 - ago))]]);
  expect(home.choose({ latency: byRegion({ 2: 5 }), scores: new Map(), heard }, now)).toBe(kept ? one : two);
});

test.each([
  { ago: 120, kept: true },
  { ago: 121, kept: false },
])("where nothing is measured, a home heard $ago s ago is kept: $kept", ({ ago, kept }) => {
  const home = homeOne();
  const now = instant(seconds(200));
  const heard = new Map([[one, instant(seconds(200 - ago))]]);
  const nothing = { latency: new Map<RegionId, Millis>(), scores: new Map<RegionId, number>() };
  expect(home.choose({ ...nothing, heard }, now)).toBe(kept ? one : undefined);
  expect(home.current).toBe(kept ? one : undefined);
});

function homeOne(): HomeRegion {
  const home = new HomeRegion();
  const start = instant(0);
  home.choose({ latency: byRegion({ 1: 50 }), scores: new Map(), heard: new Map() }, start);
  return home;
}

function byRegion(values: ByRegion<number>): ReadonlyMap<RegionId, Millis> {
  return new Map(Object.entries(values).map(([region, value]) => [regionId(Number(region)), millis(value)]));
}
