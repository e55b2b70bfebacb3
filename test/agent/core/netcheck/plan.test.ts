import { IpPort } from "../../../../agent/src/base/address.ts";
import { millis, type Millis } from "../../../../agent/src/base/time.ts";
import { Findings } from "../../../../agent/src/core/netcheck/findings.ts";
import { fullPlan, incrementalPlan, type ProbeSet } from "../../../../agent/src/core/netcheck/plan.ts";
import type { NetcheckReport } from "../../../../agent/src/core/netcheck/report.ts";
import type { DerpMap } from "../../../../agent/src/core/path/derp-map.ts";
import { type RegionId, regionId } from "../../../../agent/src/core/path/path.ts";

const regions = [1, 2, 3, 4, 5].map(regionId);
const derpMap: DerpMap = {
  regions: new Map(
    regions.map((id) => [id, { id, code: "", name: "", avoid: false, noMeasureNoHome: false, nodes: [] }]),
  ),
  regionScore: new Map(),
};
const servers = new Map(
  regions.map((id) => [id, [IpPort.parse(`203.0.113.${id}:3478`), IpPort.parse(`[2001:db8::${id}]:3478`)]]),
);

test("the first plan asks every region three times in both families", () => {
  expect(shown(fullPlan(derpMap, servers))).toEqual(
    regions.flatMap((id) => [`${id} v4 0 100 200`, `${id} v6 0 100 200`]),
  );
});

test("the next one asks the three fastest and the home; beyond two, the families of a dual stack by turns", () => {
  const last = reportOf({ 5: 10, 4: 20, 3: 30, 2: 40, 1: 50 }, { home: 1, ipv6: true });
  expect(shown(incrementalPlan(derpMap, servers, last))).toEqual([
    "5 v4 0 12",
    "5 v6 0 12",
    "4 v4 0 24",
    "4 v6 0 24",
    "3 v4 0",
    "1 v4 0 60 220 330",
  ]);
  const homeIsFourth = reportOf({ 5: 10, 4: 20, 3: 30, 2: 40, 1: 50 }, { home: 2, ipv6: true });
  expect(shown(incrementalPlan(derpMap, servers, homeIsFourth)).slice(4)).toEqual([
    "3 v4 0",
    "2 v6 0 48 196 294",
  ]);
});

test("IPv6 that did not work is tried once, at the two fastest regions", () => {
  const last = reportOf({ 1: 10, 2: 20, 3: 30 }, { home: 1, ipv6: false });
  expect(shown(incrementalPlan(derpMap, servers, last))).toEqual([
    "1 v4 0 12 124 186",
    "1 v6 0",
    "2 v4 0 24",
    "2 v6 0",
    "3 v4 0",
  ]);
});

test("a region without a last latency comes last, and is retried after 200 ms", () => {
  const last = reportOf({ 2: 20 }, { home: 5, ipv6: false });
  expect(shown(incrementalPlan(derpMap, servers, last))).toEqual([
    "2 v4 0 24",
    "2 v6 0",
    "1 v4 0 200",
    "1 v6 0",
    "3 v4 0",
    "5 v4 0 200 500 750",
  ]);
});

function shown(plan: readonly ProbeSet[]): readonly string[] {
  return plan.map(({ region, family, probes }) => {
    for (const { to } of probes)
      expect(to.text).toContain(family === "v4" ? `113.${region}:` : `::${region}]`);
    return [region, family, ...probes.map(({ delay }) => Math.round(delay))].join(" ");
  });
}

function reportOf(
  latency: Readonly<Record<string, number>>,
  { home, ipv6 }: { readonly home: number; readonly ipv6: boolean },
): NetcheckReport {
  const regionLatency = new Map(
    Object.entries(latency).map(([id, time]): [RegionId, Millis] => [regionId(Number(id)), millis(time)]),
  );
  return { ...new Findings().toReport(regionId(home)), udp: true, ipv4: true, ipv6, regionLatency };
}
