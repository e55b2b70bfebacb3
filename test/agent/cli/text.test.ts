import { wallTime } from "../../../agent/src/base/time.ts";
import { durationText, parseDuration } from "../../../agent/src/cli/duration.ts";
import { netcheckLines } from "../../../agent/src/cli/netcheck-text.ts";
import type { NetcheckReportJson } from "../../../agent/src/health/netcheck-json.ts";
import { replyLine } from "../../../agent/src/cli/ping-text.ts";
import { notRunningLines, statusLines } from "../../../agent/src/cli/status-text.ts";
import type { PeerJson, StatusJson } from "../../../agent/src/health/status-json.ts";
import { vectors } from "../../vectors/load.ts";
import { emptyStatus, NOW } from "./run.ts";

const samples = vectors<{ status_json: StatusJson; netcheck_json: NetcheckReportJson }>("cli-samples.json");

const ago = (minutes: number): string => new Date(wallTime(NOW - minutes * 60_000)).toISOString();
const offline = { Online: false, LastSeen: ago(9), Active: false };
const DIRECT = "203.0.113.5:41641";

const cells: readonly (readonly [Partial<PeerJson>, string])[] = [
  [{ Active: false }, "-"],
  [{ Active: false, TxBytes: 1 }, "idle, tx 1 rx 0"],
  [{ Active: false, ExitNodeOption: true }, "idle; offers exit node"],
  [{ Active: false, ExitNodeOption: true, ExitNode: true }, "idle; exit node"],
  [offline, "offline, last seen 9m ago"],
  [{ ...offline, LastSeen: "0001-01-01T00:00:00Z" }, "offline"],
  [{ ...offline, LastSeen: ago(0.2) }, "offline, last seen 1m ago"],
  [{ ...offline, LastSeen: ago(119) }, "offline, last seen 1h ago"],
  [{ ...offline, LastSeen: ago(60 * 49) }, "offline, last seen 2d ago"],
  [{ ...offline, RxBytes: 2 }, "idle; offline, last seen 9m ago, tx 0 rx 2"],
  [{ ...offline, ExitNodeOption: true }, "idle; offers exit node; offline, last seen 9m ago"],
  [{ Active: true }, 'active; relay "lab"'],
  [{ Active: true, CurAddr: DIRECT }, `active; direct ${DIRECT}`],
  [{ Active: true, CurAddr: DIRECT, ExitNodeOption: true }, `active; offers exit node; direct ${DIRECT}`],
  [{ Active: true, CurAddr: DIRECT, ExitNode: true }, `active; exit node; direct ${DIRECT}`],
  [{ Active: true, PeerRelay: "203.0.113.9:40000:vni:7" }, "active; peer-relay 203.0.113.9:40000:vni:7"],
  [{ ...offline, Active: true }, 'active; relay "lab"; offline, last seen 9m ago'],
];

test.each(cells)("%j is shown as %s", (fields, cell) => {
  const [line = ""] = statusLines(statusWith(fields), ALL, NOW);
  expect(line).toBe(`100.64.9.3  m3  mini  linux  ${cell}  `);
});

const ALL = { self: true, peers: true, active: false, header: false };

const names: readonly (readonly [Partial<PeerJson>, string, string])[] = [
  [{ DNSName: "" }, '("m3")', "mini"],
  [{ DNSName: "", HostName: "Bob's Phone" }, '("Bob-s-Phone")', "mini"],
  [{ DNSName: "web.other.example." }, "web.other.example", "mini"],
  [{ UserID: 7 }, "m3", "7"],
];

test.each(names)("%j is named %s and owned by %s", (fields, name, owner) => {
  const [line = ""] = statusLines(statusWith(fields), ALL, NOW);
  expect(line.split(/ {2,}/).slice(1, 3)).toEqual([name, owner]);
});

test("an owner's address is cut after the @", () => {
  const status = {
    ...statusWith({}),
    User: { "1": { ID: 1, LoginName: "alice@example.com", DisplayName: "A" } },
  };
  expect(statusLines(status, ALL, NOW)[0]).toContain("  alice@  ");
});

test("health comes after the table, and a header before it", () => {
  const status = { ...statusWith({}), Health: ["UDP is blocked."] };
  expect(statusLines(status, { ...ALL, header: true }, NOW)).toEqual([
    "IP          Hostname  Owner  OS     Status               ",
    "--          --------  -----  --     ------               ",
    '100.64.9.3  m3        mini   linux  active; relay "lab"  ',
    "",
    "# Health check:",
    "#     - UDP is blocked.",
  ]);
});

test("what is not wanted is left out", () => {
  const rows = (view: Partial<typeof ALL>): readonly string[] =>
    statusLines(samples.status_json, { ...ALL, ...view }, NOW).map((line) => line.split("  ")[1] ?? "");
  expect(rows({})).toEqual(["m3", "m1", "m2"]);
  expect(rows({ self: false })).toEqual(["m1", "m2"]);
  expect(rows({ peers: false })).toEqual(["m3"]);
  const idle = { ...samples.status_json, Peer: { a: { ...peerOf({}), Active: false } } };
  expect(statusLines(idle, { ...ALL, self: false, active: true }, NOW)).toEqual([]);
});

test.each([
  ["Stopped", "", ["Sallyport is stopped."]],
  ["NeedsLogin", "https://x/a", ["Logged out.", "Log in at: https://x/a"]],
  ["NeedsMachineAuth", "", ["Machine is not yet approved by tailnet admin."]],
  ["Starting", "", ["Sallyport is starting."]],
  ["Running", "", undefined],
] as const)("%s is told", (state, url, lines) => {
  expect(notRunningLines(state, url)).toEqual(lines);
});

test("a pong by a peer's relay names its network", () => {
  const via = { kind: "peer-relay", endpoint: "203.0.113.9:40000", vni: 7 } as const;
  const reply = { kind: "pong", name: "m2", ip: "100.64.9.2", via, latencyMs: 9.4 } as const;
  expect(replyLine(reply)).toBe("pong from m2 (100.64.9.2) via peer-relay(203.0.113.9:40000:vni:7) in 9ms");
});

test.each([
  [0, "0s"],
  [0.1, "100µs"],
  [42, "42ms"],
  [1.2, "1.2ms"],
  [1000, "1s"],
  [1234, "1.234s"],
  [90_000, "1m30s"],
  [3_661_000, "1h1m1s"],
])("%d ms is %s, both ways", (ms, text) => {
  expect(durationText(ms)).toBe(text);
  expect(parseDuration(text)).toBeCloseTo(ms);
});

test.each(["", "5", "s", "-1s", "5 s", "5d", "1s5"])("%j is no duration", (text) => {
  expect(parseDuration(text)).toBeUndefined();
});

const LAB = { id: 900, code: "lab", name: "Lab Region" };
const FAR = { id: 901, code: "f", name: "Far" };

const reports: readonly (readonly [Partial<NetcheckReportJson>, string])[] = [
  [{ IPv4: false }, "IPv4: (no addr found)"],
  [{ IPv6: true, GlobalV6: "[2001:db8::1]:7" }, "IPv6: yes, [2001:db8::1]:7"],
  [{ IPv6: true, GlobalV6: "" }, "IPv6: (no addr found)"],
  [{ OSHasIPv6: false }, "IPv6: no, unavailable in OS"],
  [{ MappingVariesByDestIP: true }, "MappingVariesByDestIP: true"],
  [{ UPnP: true, PCP: true }, "PortMapping: UPnP, PCP"],
  [{ UPnP: null, PMP: null, PCP: null }, "PortMapping: not checked"],
  [{ CaptivePortal: false }, "CaptivePortal: false"],
  [{ RegionLatency: {} }, "Nearest DERP: unknown (no response to latency probes)"],
  [{ PreferredDERP: 0 }, "Nearest DERP: [none]"],
  [{ PreferredDERP: 7 }, "Nearest DERP: 7 (region not found in map)"],
];

test.each(reports)("%j is reported as %s", (fields, line) => {
  expect(netcheckLines({ ...samples.netcheck_json, ...fields }, [LAB])).toContain(`\t* ${line}`);
});

test("latencies are sorted, unmeasured ones last", () => {
  const report = { ...samples.netcheck_json, RegionLatency: { "901": 1_230_000 } };
  expect(netcheckLines(report, [LAB, FAR]).slice(-2)).toEqual([
    "\t\t-   f: 1.2ms   (Far)",
    "\t\t- lab:         (Lab Region)",
  ]);
});

function statusWith(fields: Partial<PeerJson>): StatusJson {
  return {
    ...emptyStatus,
    MagicDNSSuffix: "mini.example",
    User: samples.status_json.User,
    Self: peerOf(fields),
  };
}

function peerOf(fields: Partial<PeerJson>): PeerJson {
  const self = samples.status_json.Self;
  return { ...self, Active: true, ...fields };
}
