import fc from "fast-check";
import { HEALTH_TAG_KEYS } from "../../../constructs/health-tags.ts";
import { IpPort } from "../../../agent/src/base/address.ts";
import { type WallTime, wallTime } from "../../../agent/src/base/time.ts";
import {
  lastState,
  nodeState,
  type NodeTags,
  readNodeTags,
  serverState,
  tagsOf,
} from "../../../agent/src/health/node-tags.ts";
import { HEALTH_REASONS, type HealthProblem, worstFirst } from "../../../agent/src/health/reasons.ts";
import type { PeerJson, StatusJson } from "../../../agent/src/health/status-json.ts";
import { vectors } from "../../vectors/load.ts";

const sample = vectors<{ status_json: StatusJson }>("cli-samples.json").status_json;
const [somePeer] = Object.values(sample.Peer ?? {});
const NOW = wallTime(Date.UTC(2026, 10, 22, 9, 3, 46));

type Ways = readonly Partial<PeerJson>[];
const relayed = (region: string): Partial<PeerJson> => ({ Active: true, CurAddr: "", Relay: region });
// The home relay is named even while the path is direct.
const directly: Partial<PeerJson> = { Active: true, CurAddr: "198.51.100.9:41641", Relay: "nyc" };

function statusOf(ways: Ways, changes: Partial<StatusJson> = {}): StatusJson {
  const peers = ways.map((way, i) => [`nodekey:${i}`, { ...somePeer, PeerRelay: "", ...way } as PeerJson]);
  return {
    ...sample,
    Version: "0.1.0",
    Peer: Object.fromEntries(peers) as Record<string, PeerJson>,
    ...changes,
  };
}
const stateOf = (ways: Ways, problems: readonly HealthProblem[] = [], changes: Partial<StatusJson> = {}) =>
  nodeState(statusOf(ways, changes), problems, undefined);
const problem = (reason: HealthProblem["reason"]): HealthProblem => ({ reason, text: "x" });

test.each<[string, Ways, string, string]>([
  ["nobody has traffic", [{ ...directly, Active: false }], "idle", "0/0 direct"],
  ["all are direct", [directly, directly], "direct", "2/2 direct"],
  ["all are relayed", [relayed("nyc"), relayed("nyc")], "relay:nyc", "0/2 direct"],
  ["two relays: the busier", [relayed("fra"), relayed("nyc"), relayed("nyc")], "relay:nyc", "0/3 direct"],
  ["both kinds", [directly, relayed("nyc")], "mixed", "1/2 direct"],
  ["no way at all", [relayed("")], "blocked", "0/1 direct"],
  [
    "another peer relays",
    [{ ...relayed("nyc"), PeerRelay: "203.0.113.9:40000:vni:7" }],
    "relay:peer",
    "0/1 direct",
  ],
  ["who is idle doesn't count", [directly, { ...relayed("nyc"), Active: false }], "direct", "1/1 direct"],
  ["a hostile region", [relayed('<b>"\u{1f600}')], "relay:-b----", "0/1 direct"],
])("%s", (_, ways, path, peers) => {
  const state = stateOf(ways);
  expect(state["sallyport:path"]).toBe(path);
  expect(state["sallyport:peers"]).toBe(peers);
});

test("the worst reason is told; without UDP and relay the node is blocked; down it is unknown", () => {
  const problems = worstFirst([problem("relay-lost"), problem("udp-blocked")]);
  expect(stateOf([], problems)).toMatchObject({
    "sallyport:health": "udp-blocked",
    "sallyport:path": "blocked",
  });
  expect(stateOf([directly], [problem("error")])["sallyport:health"]).toBe("error");
  expect(stateOf([directly])["sallyport:health"]).toBe("ok");
  const down = stateOf([directly], [problem("error")], { BackendState: "Stopped" });
  expect(down).toMatchObject({ "sallyport:path": "unknown", "sallyport:health": "stopped" });
  expect(stateOf([], [], { BackendState: "NeedsLogin" })["sallyport:health"]).toBe("needs-login");
  expect(stateOf([], [], { BackendState: "Starting" })["sallyport:health"]).toBe("starting");
});

test("a server without a tunnel is idle, with the address and region of its own", () => {
  const facts = { version: "0.1.0", endpoint: IpPort.parse("198.51.100.7:443"), relay: "fra", problems: [] };
  expect(read(tagsOf(serverState(facts), NOW), NOW)).toMatchObject({
    ...{ path: "idle", health: "ok", endpoint: "198.51.100.7:443", relay: "fra", egress: "none" },
    doubt: undefined,
  });
  const named = serverState({
    ...facts,
    endpoint: undefined,
    relay: undefined,
    problems: [problem("certificate-ended")],
  });
  expect(read(tagsOf(named, NOW), NOW)).toMatchObject({
    ...{ path: "idle", health: "certificate-ended", endpoint: "unknown", relay: "none", doubt: undefined },
  });
});

test("an agent that ends leaves no path behind", () => {
  const last = lastState(stateOf([directly]));
  expect(last).toMatchObject({ "sallyport:path": "unknown", "sallyport:health": "stopped" });
  expect(read(tagsOf(last, NOW), NOW)).toMatchObject({ health: "stopped", doubt: undefined });
});

test("the endpoint is one that peers outside can use", () => {
  const self = (addrs: readonly string[]) => ({ Self: { ...sample.Self, Addrs: addrs } as PeerJson });
  const endpoint = (addrs: readonly string[]) => stateOf([], [], self(addrs))["sallyport:endpoint"];
  expect(endpoint(["10.0.0.5:41641", "203.0.113.5:41641"])).toBe("203.0.113.5:41641");
  expect(endpoint(["[2001:db8::1]:41641"])).toBe("[2001:db8::1]:41641");
  expect(endpoint(["10.0.0.5:41641", "127.0.0.1:1"])).toBe("unknown");
});

test("what is written is read as it was meant, and fits into a tag", () => {
  const written = tagsOf(nodeState(statusOf([directly, relayed("nyc")]), [], "198.51.100.7"), NOW);
  expect(Object.keys(written).sort()).toEqual([...HEALTH_TAG_KEYS].sort());
  for (const value of Object.values(written)) expect(value.length).toBeLessThanOrEqual(256);
  expect(read(written, wallTime(NOW + 60_000))).toEqual({
    ...{ path: "mixed", health: "ok", peers: { direct: 1, active: 2 }, egress: "198.51.100.7" },
    ...{ endpoint: written["sallyport:endpoint"], relay: written["sallyport:relay"], version: "0.1.0" },
    ...{ updated: NOW, age: 60_000, doubt: undefined },
  });
});

test("every reason is in the grammar", () => {
  for (const reason of HEALTH_REASONS) {
    const tags = tagsOf(stateOf([], [problem(reason)]), NOW);
    expect(read(tags, NOW).health).toBe(reason);
  }
});

const fresh = tagsOf(stateOf([directly]), NOW);

test.each([
  ["three heartbeats ago", 900_001, "stale"],
  ["just in time", 900_000, undefined],
  ["by a clock that is ahead of ours a little", -300_000, undefined],
  ["by a clock that is far ahead", -300_001, "clock"],
] as const)("written %s", (_, age, doubt) => {
  const report = read(fresh, wallTime(NOW + age));
  expect(report.doubt).toBe(doubt);
  expect(report.path).toBe(doubt === undefined ? "direct" : "unknown");
  expect(report.health).toBe(doubt === undefined ? "ok" : "unknown");
  expect(report.age).toBeGreaterThanOrEqual(0);
});

test.each([
  { "sallyport:path": "<img src=x onerror=alert(1)>" },
  { "sallyport:path": "relay:" },
  { "sallyport:path": "DIRECT" },
  { "sallyport:health": "" },
  { "sallyport:health": "not ok" },
  { "sallyport:updated": "yesterday" },
  { "sallyport:updated": "2026-02-30T00:00:00Z" },
])("%j is malformed, so nothing is believed", (change) => {
  expect(read({ ...fresh, ...change }, NOW)).toMatchObject({
    path: "unknown",
    health: "unknown",
    doubt: "malformed",
  });
});

test("a malformed detail is left out, the rest is believed", () => {
  const report = read({ ...fresh, "sallyport:peers": "many", "sallyport:endpoint": "\u001b[31m" }, NOW);
  expect(report).toMatchObject({ path: "direct", peers: undefined, endpoint: undefined, doubt: undefined });
});

test("any tags give a report of printable words", () => {
  const value = fc.oneof(
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.constantFrom(...Object.values(fresh)),
  );
  const some = fc.dictionary(fc.constantFrom(...HEALTH_TAG_KEYS, "Name"), value);
  fc.assert(
    fc.property(some, fc.integer({ min: 0, max: 4e12 }), (tags, now) => {
      const { path, health, relay, endpoint, egress, version } = readNodeTags(
        new Map(Object.entries(tags)),
        wallTime(now),
      );
      for (const text of [path, health, relay, endpoint, egress, version])
        expect(text ?? "-").toMatch(/^[\w.:[\]%+-]{1,64}$/);
    }),
  );
});

function read(tags: NodeTags, now: WallTime) {
  return readNodeTags(new Map(Object.entries(tags)), now);
}
