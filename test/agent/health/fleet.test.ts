import * as fc from "fast-check";
import { wallTime } from "../../../agent/src/base/time.ts";
import { type Condition, conditionsOf, fleetOf, type Verdict } from "../../../agent/src/health/fleet.ts";
import { tagsOf } from "../../../agent/src/health/node-tags.ts";

const NOW = wallTime(Date.UTC(2026, 10, 22, 9, 0, 0));

function fleetOfOne(path: string, health: string, ageMinutes = 0) {
  const state = {
    ...{ "sallyport:path": path, "sallyport:health": health, "sallyport:peers": "0/1 direct" },
    ...{ "sallyport:endpoint": "unknown", "sallyport:relay": "nyc", "sallyport:egress": "none" },
    "sallyport:version": "0.1.0",
  };
  const tags = new Map(Object.entries(tagsOf(state, wallTime(NOW - ageMinutes * 60_000))));
  const instance = { region: "eu-west-1", zone: "a", instanceId: "i-1", name: "a", tags };
  return fleetOf({ at: NOW, regions: ["eu-west-1"], instances: [instance], failures: [] });
}

test.each<[string, string, number, Verdict, readonly Condition[]]>([
  ["direct", "ok", 0, "direct", []],
  ["idle", "ok", 0, "idle", []],
  ["relay:nyc", "ok", 0, "relayed", ["relayed"]],
  ["mixed", "ok", 0, "mixed", ["relayed"]],
  ["relay:nyc", "udp-blocked", 0, "unhealthy", ["unhealthy", "relayed"]],
  ["blocked", "ok", 0, "unhealthy", ["unhealthy"]],
  ["unknown", "ok", 0, "unknown", ["stale"]],
  ["unknown", "stopped", 0, "unhealthy", ["unhealthy"]],
  ["direct", "ok", 30, "unknown", ["stale"]],
  ["sideways", "ok", 0, "unknown", ["stale"]],
])("path %s, health %s, %d minutes old: %s, %j", (path, health, age, verdict, conditions) => {
  const fleet = fleetOfOne(path, health, age);
  expect(fleet.nodes[0]?.verdict).toBe(verdict);
  expect([...conditionsOf(fleet)].toSorted()).toEqual([...conditions].toSorted());
});

test("what the table calls bad raises an alert, and nothing else does", () => {
  const path = fc.constantFrom("direct", "idle", "mixed", "blocked", "unknown", "relay:nyc", "relay:", "");
  const health = fc.constantFrom("ok", "stopped", "udp-blocked", "unknown", "OK", "");
  fc.assert(
    fc.property(path, health, fc.integer({ min: -60, max: 60 }), (path, health, age) => {
      const fleet = fleetOfOne(path, health, age);
      const conditions = conditionsOf(fleet);
      const verdict = fleet.nodes[0]?.verdict;
      expect(conditions.has("unhealthy")).toBe(verdict === "unhealthy");
      expect(conditions.has("stale")).toBe(verdict === "unknown");
      expect(conditions.size === 0).toBe(verdict === "idle" || verdict === "direct");
    }),
  );
});

test("where nobody reports, that is stale", () => {
  const fleet = fleetOf({ at: NOW, regions: ["eu-west-1"], instances: [], failures: [] });
  expect([...conditionsOf(fleet)]).toEqual(["stale"]);
});
