import { type WallTime, wallTime } from "../../../agent/src/base/time.ts";
import {
  type Fleet,
  type FleetInstance,
  fleetOf,
  type RegionFailure,
} from "../../../agent/src/health/fleet.ts";
import { FleetHistory } from "../../../agent/src/health/fleet-history.ts";
import { type NodeState, tagsOf } from "../../../agent/src/health/node-tags.ts";

const BEGAN = Date.UTC(2026, 10, 22, 9, 0, 0);
const at = (minutes: number): WallTime => wallTime(BEGAN + minutes * 60_000);
const GOOD: NodeState = {
  "sallyport:path": "direct",
  "sallyport:health": "ok",
  "sallyport:peers": "1/1 direct",
  "sallyport:endpoint": "203.0.113.5:41641",
  "sallyport:relay": "nyc",
  "sallyport:egress": "none",
  "sallyport:version": "0.1.0",
};

/** A fleet at a minute: names and their paths. */
function fleetAt(
  minute: number,
  paths: Readonly<Record<string, string>>,
  failures: RegionFailure[] = [],
): Fleet {
  const instances = Object.entries(paths).map(([name, path]): FleetInstance => {
    const tags = tagsOf({ ...GOOD, "sallyport:path": path }, at(minute));
    return {
      region: "eu-west-1",
      zone: "a",
      instanceId: `i-${name}`,
      name,
      tags: new Map(Object.entries(tags)),
    };
  });
  return fleetOf({ at: at(minute), regions: ["eu-west-1"], instances, failures });
}

test("a node is as it is since its last change, or since before we looked", () => {
  const history = new FleetHistory();
  history.handle(fleetAt(0, { a: "direct", b: "direct" }));
  history.handle(fleetAt(5, { a: "relay:nyc", b: "direct" }));
  history.handle(fleetAt(6, { a: "relay:nyc", b: "direct" }));
  expect(history.view?.since).toEqual({
    "i-a": { at: "2026-11-22T09:05:00.000Z", orLonger: false },
    "i-b": { at: "2026-11-22T09:00:00.000Z", orLonger: true },
  });
  expect(history.view?.changes).toMatchObject([{ name: "a", what: "path", from: "direct", to: "relay:nyc" }]);
});

test("nodes come and go, and the newest change is first", () => {
  const history = new FleetHistory();
  history.handle(fleetAt(0, { a: "direct" }));
  history.handle(fleetAt(1, { a: "direct", b: "idle" }));
  history.handle(fleetAt(2, { b: "idle" }));
  expect(history.view?.changes.map(({ name, what }) => `${name} ${what}`)).toEqual(["a gone", "b came"]);
});

test("a region that can not be read takes no node away", () => {
  const history = new FleetHistory();
  history.handle(fleetAt(0, { a: "direct" }));
  history.handle(fleetAt(1, {}, [{ region: "eu-west-1", code: "aws-throttled", message: "x" }]));
  history.handle(fleetAt(2, { a: "direct" }));
  expect(history.view?.changes).toEqual([]);
});

test("what is kept has an end, and each change its number", () => {
  const history = new FleetHistory();
  for (let i = 0; i < 2_000; i++) history.handle(fleetAt(i, { a: i % 2 === 0 ? "direct" : "mixed" }));
  expect(history.view?.changes).toHaveLength(500);
  const numbers = history.view?.changes.map(({ number }) => number);
  expect(numbers).toEqual(Array.from({ length: 500 }, (_, i) => 1_999 - i));
});
