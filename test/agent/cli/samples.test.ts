/** What Tailscale prints, line by line, is what we print, but for the program's name. */
import { parseRfc3339 } from "../../../agent/src/base/rfc3339.ts";
import { wallTime } from "../../../agent/src/base/time.ts";
import { exitNodeLines } from "../../../agent/src/cli/exit-node-text.ts";
import type { NetcheckReportJson } from "../../../agent/src/health/netcheck-json.ts";
import { netcheckLines } from "../../../agent/src/cli/netcheck-text.ts";
import { replyLine } from "../../../agent/src/cli/ping-text.ts";
import { notRunningLines, statusLines, type StatusView } from "../../../agent/src/cli/status-text.ts";
import { mentionAllLines } from "../../../agent/src/cli/up-text.ts";
import type { PingReply, PongVia } from "../../../agent/src/health/local-backend.ts";
import { NEVER, type PeerJson, type StatusJson } from "../../../agent/src/health/status-json.ts";
import { vectors } from "../../vectors/load.ts";
import { emptyStatus, NOW, run, withDaemon } from "./run.ts";

interface Session {
  readonly cmd: string;
  readonly lines: readonly string[];
  readonly exit: number;
}

interface Samples {
  readonly sessions: readonly Session[];
  readonly status_direct: readonly string[];
  readonly ping_direct: readonly string[];
  readonly ping_tsmp: readonly string[];
  readonly ping_icmp: readonly string[];
  readonly ping_verbose: readonly string[];
  readonly ping_unknown_ip: { readonly stderr: string; readonly exit: number };
  readonly status_offline_and_exit_node: readonly string[];
  readonly exit_node_list: readonly string[];
  readonly netcheck_json: NetcheckReportJson;
  readonly status_json: StatusJson;
}

const samples = vectors<Samples>("cli-samples.json");

const ALL: StatusView = { self: true, peers: true, active: false, header: false };
const LAB = { id: 900, code: "lab", name: "Lab Region" };

const ours = (lines: readonly string[]): readonly string[] =>
  lines.map((line) => line.replaceAll("Tailscale", "Sallyport").replaceAll("tailscale", "sallyport"));

const session = (cmd: string): Session => {
  const found = samples.sessions.find((one) => one.cmd === cmd);
  if (found === undefined) throw new Error(`no session ${cmd}`);
  return found;
};

const isPing = ({ cmd }: Session): boolean => /\bping\b/.test(cmd);

test.each(samples.sessions.filter(isPing))("ping: $cmd", async ({ cmd, lines, exit }) => {
  const replies = lines.flatMap((line) => replyFrom(line) ?? []);
  const flags = cmd.includes("--until-direct=false") ? ["--until-direct=false"] : [];
  const outcome = await pingWith(replies, [...flags, "-c", String(replies.length), "m2"]);
  expect(outcome.code).toBe(exit);
  expect((outcome.stdout + outcome.stderr).split("\n").slice(0, -1)).toEqual(ours(lines));
});

test("ping: ten times without -c", async () => {
  const { lines } = session("tailscale ping m2");
  const replies = lines.flatMap((line) => replyFrom(line) ?? []);
  const outcome = await pingWith([...replies, ...replies], ["m2"]);
  expect(outcome.stdout.match(/^pong/gm)).toHaveLength(10);
  expect(outcome.stderr).toBe("direct connection not established\n");
});

test("ping: a direct answer ends it", async () => {
  const [line = ""] = samples.ping_direct;
  const reply = replyFrom(line);
  const outcome = await pingWith(reply === undefined ? [] : [reply, reply], ["m2"]);
  expect(outcome).toEqual({ code: 0, stdout: `${line}\n`, stderr: "" });
});

test.each([samples.ping_tsmp, samples.ping_icmp])("ping: %s", (line) => {
  const reply = replyFrom(line);
  expect(reply === undefined ? undefined : replyLine(reply)).toBe(line);
});

test("ping --verbose says what the name stands for", async () => {
  const [lookup = "", pong = ""] = samples.ping_verbose;
  const reply = replyFrom(pong);
  const outcome = await pingWith(reply === undefined ? [] : [reply], ["--verbose", "m2"]);
  expect(outcome.stderr).toBe(`${lookup.replace("<log date and time>", "2026/11/22 09:03:46")}\n`);
  expect(outcome.stdout).toBe(`${pong}\n`);
});

test("ping: an address that is no peer's", async () => {
  const { stderr, exit } = samples.ping_unknown_ip;
  const outcome = await pingWith([{ kind: "no-match" }], ["100.64.9.9"]);
  expect(outcome).toEqual({ code: exit, stdout: "", stderr: `${stderr}\n` });
});

test("status: the JSON of a node is the table of that node", async () => {
  const { lines, exit } = session("tailscale status");
  const status = (): StatusJson => samples.status_json;
  const outcome = await withDaemon({ status }, (socket) => run(["status", "--socket", socket]));
  expect(outcome).toEqual({ code: exit, stdout: `${ours(lines).join("\n")}\n`, stderr: "" });
});

test("status --json: the JSON as it is, indented by two", async () => {
  const status = (): StatusJson => samples.status_json;
  const outcome = await withDaemon({ status }, (socket) => run(["status", "--json", "--socket", socket]));
  expect(outcome.stdout).toBe(`${JSON.stringify(samples.status_json, undefined, 2)}\n`);
});

test.each([
  ["m1: status", session("m1: status").lines],
  ["direct", samples.status_direct],
  ["offline and exit node", samples.status_offline_and_exit_node],
])("status: the cells of a table give that table (%s)", (_, lines) => {
  expect(statusLines(statusFrom(lines), ALL, NOW)).toEqual(ours(lines));
});

test("status: a tunnel that is down says so instead", () => {
  const stopped = notRunningLines("Stopped", "") ?? [];
  expect([...stopped, ...stopped]).toEqual(ours(session("m1 down").lines));
});

test("status: a device that is logged out says so and fails", async () => {
  const { lines, exit } = session("logout");
  const status = (): StatusJson => ({ ...emptyStatus, BackendState: "NeedsLogin" });
  const outcome = await withDaemon({ status }, (socket) => run(["status", "--socket", socket]));
  expect(outcome).toEqual({ code: exit, stdout: `${lines.join("\n")}\n`, stderr: "" });
});

test("up: settings that are not repeated", () => {
  const { lines } = session("up with changed flag not mentioning all");
  const flags = ["--shields-up", "--hostname=m1", "--login-server=http://198.18.7.1:8090"];
  expect(mentionAllLines(flags)).toEqual(ours(lines));
});

test("netcheck: a report as text", () => {
  const report = {
    ...samples.netcheck_json,
    Now: "2026-11-22T09:03:46.206942904Z",
    GlobalV4: "198.18.7.1:46781",
    RegionLatency: { "900": 103_517 },
  };
  expect(netcheckLines(report, [LAB])).toEqual(session("netcheck").lines);
});

test("netcheck: latencies are rounded to a tenth of a millisecond", () => {
  expect(netcheckLines(samples.netcheck_json, [LAB]).at(-1)).toBe("\t\t- lab: 200µs   (Lab Region)");
});

test("exit-node list", () => {
  const exit1 = { ...peer("100.64.0.6", "exit1"), DNSName: "exit1.lab.example.", ExitNodeOption: true };
  const status = {
    ...emptyStatus,
    Peer: { a: { ...exit1, ExitNode: true }, b: peer("100.64.0.7", "user1") },
  };
  expect(exitNodeLines(status)).toEqual(ours(samples.exit_node_list));
});

function pingWith(replies: readonly PingReply[], args: readonly string[]): ReturnType<typeof run> {
  const left = [...replies];
  const ping = (): Promise<PingReply> => Promise.resolve(left.shift() ?? { kind: "no-match" });
  return withDaemon({ ping }, (socket) => run(["ping", "--socket", socket, ...args]));
}

/** The answer of a daemon that a line was printed for. */
function replyFrom(line: string): PingReply | undefined {
  const timeout = /^ping "(.*)" timed out$/.exec(line);
  if (timeout !== null) return { kind: "timeout", ip: timeout[1] ?? "" };
  const local = /^(.*) is local/.exec(line);
  if (local !== null) return { kind: "local", ip: local[1] ?? "" };
  const [, name, ip, port, via, ms] =
    /^pong from (\S+) \(([\d.]+)(?:, (\d+))?\) via (\S+) in (\d+)m?s$/.exec(line) ?? [];
  if (name === undefined || ip === undefined) return undefined;
  return { kind: "pong", name, ip, via: viaFrom(via ?? "", Number(port)), latencyMs: Number(ms) + 0.3 };
}

function viaFrom(text: string, peerApiPort: number): PongVia {
  if (text === "TSMP") return { kind: "tsmp", peerApiPort };
  if (text === "ICMP") return { kind: "icmp" };
  const code = /^DERP\((.*)\)$/.exec(text)?.[1];
  return code === undefined ? { kind: "direct", endpoint: text } : { kind: "derp", code };
}

/** A status whose table has these lines: the first is the node itself. */
function statusFrom(lines: readonly string[]): StatusJson {
  const rows = lines.map((line) => line.trim().split(/ {2,}/));
  const owners = [...new Set(rows.map((row) => row[2] ?? ""))];
  const [self, ...peers] = rows.map((row) => peerFrom(row, owners));
  return {
    ...emptyStatus,
    Self: self ?? emptyStatus.Self,
    Peer: Object.fromEntries(peers.map((one) => [one.ID, one])),
    User: Object.fromEntries(
      owners.map((owner, i) => [String(i), { ID: i, LoginName: owner, DisplayName: owner }]),
    ),
  };
}

function peerFrom(
  [ip = "", name = "", owner = "", , state = ""]: readonly string[],
  owners: readonly string[],
): PeerJson {
  const [, tx = "0", rx = "0"] = /, tx (\d+) rx (\d+)$/.exec(state) ?? [];
  const [, minutes] = /last seen (\d+)m ago/.exec(state) ?? [];
  return {
    ...peer(ip, name),
    UserID: owners.indexOf(owner),
    Active: state.startsWith("active"),
    Online: !state.includes("offline"),
    LastSeen: minutes === undefined ? NEVER : new Date(NOW - Number(minutes) * 60_000).toISOString(),
    ExitNode: state.includes("; exit node"),
    CurAddr: /direct ([^,]+)/.exec(state)?.[1] ?? "",
    Relay: /relay "(.*)"/.exec(state)?.[1] ?? "lab",
    TxBytes: Number(tx),
    RxBytes: Number(rx),
  };
}

function peer(ip: string, name: string): PeerJson {
  const self = samples.status_json.Self;
  return { ...self, ID: ip, TailscaleIPs: [ip], DNSName: `${name}.`, HostName: name };
}

test("the samples' times can be read", () => {
  expect(parseRfc3339(samples.netcheck_json.Now)).toBeGreaterThan(wallTime(0));
});
