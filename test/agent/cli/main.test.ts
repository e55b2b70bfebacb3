/** The command line as a whole: what is said and returned for every kind of use and misuse. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InternalError, OperationError } from "../../../agent/src/base/errors.ts";
import { VERSION } from "../../../agent/src/base/version.ts";
import type { PingReply, UpEvent, UpRequest } from "../../../agent/src/health/local-backend.ts";
import type { DaemonSettings, RunningRole } from "../../../agent/src/cli/context.ts";
import { emptyStatus, folder, run, withDaemon } from "./run.ts";

const relayed: PingReply = {
  kind: "pong",
  name: "m2",
  ip: "100.64.9.2",
  via: { kind: "derp", code: "nyc" },
  latencyMs: 130,
};
const direct: PingReply = {
  ...relayed,
  via: { kind: "direct", endpoint: "140.82.13.138:41641" },
  latencyMs: 35,
};
const timeout: PingReply = { kind: "timeout", ip: "100.64.9.2" };
const [RELAYED, DIRECT] = [
  "pong from m2 (100.64.9.2) via DERP(nyc) in 130ms\n",
  "pong from m2 (100.64.9.2) via 140.82.13.138:41641 in 35ms\n",
];

test("the version is the package's", async () => {
  const { version } = JSON.parse(readFileSync(join(__dirname, "../../../package.json"), "utf8")) as {
    version: string;
  };
  expect(VERSION).toBe(version);
  expect(await run(["version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
  expect(await run(["--version"])).toEqual({ code: 0, stdout: `${version}\n`, stderr: "" });
});

test.each([
  ["ping", [], "missing required argument 'host': see `sallyport ping --help`"],
  ["an unknown flag", ["ping", "--timeot", "1s", "x"], "unknown option '--timeot' (Did you mean --timeout?)"],
  ["a far-off flag", ["ping", "--xyzzy", "x"], "unknown option '--xyzzy': see `sallyport ping --help`"],
  ["an unknown command", ["stauts"], "unknown command 'stauts' (Did you mean status?)"],
  ["two hosts", ["ping", "a", "b"], "too many arguments for 'ping'. Expected 1 argument but got 2: see"],
  [
    "a missing value",
    ["daemon", "--port"],
    "option '--port <port>' argument missing: see `sallyport daemon --help`",
  ],
  ["a port of 0", ["daemon", "--port", "0"], '--port is "0": give a port from 1 to 65535'],
  ["a port too high", ["relay", "--stun-port=65536"], '--stun-port is "65536": give a port from 1 to 65535'],
  ["a port that is none", ["daemon", "--port", "http"], '--port is "http": give a port from 1 to 65535'],
  ["a count", ["ping", "-c", "many", "x"], '-c is "many": give a whole number, 0 for without end'],
  [
    "a duration",
    ["ping", "--timeout", "5", "x"],
    '--timeout is "5": give a duration such as 5s, 500ms or 1m30s',
  ],
  ["too long a wait", ["ping", "--timeout", "2h", "x"], '--timeout is "2h": give at most 1h'],
  ["too long a wait for the network", ["up", "--timeout", "1000000h"], "--timeout is"],
  [
    "too long a look, which a timer would take for none",
    ["fleet", "--watch", "--interval", "1000000h"],
    '--interval is "1000000h": give at most 24h',
  ],
  [
    "too late an end",
    ["control", "auth-key", "create", "--expiry", "99999999h"],
    '--expiry is "99999999h": give at most 87600h',
  ],
  ["an address", ["relay", "--listen", "443"], '--listen is "443": give ADDRESS:PORT or :PORT'],
  ["a tag", ["control", "auth-key", "create", "--tag", "exit"], '--tag is "exit": give tag: and letters'],
  ["a pin", ["up", "--cert-pin", "abc"], '--cert-pin is "abc": give sha256-raw: and the 64 hex digits'],
])("misuse is one line with the remedy, and 2: %s", async (name, args, line) => {
  const { code, stdout, stderr } = await run(args.length === 0 ? [name] : args);
  expect([code, stdout]).toEqual([2, ""]);
  expect(stderr.startsWith(line)).toBe(true);
  expect(stderr.indexOf("\n")).toBe(stderr.length - 1);
});

test("without a command the help is printed, as misuse; asked for, it is not", async () => {
  const bare = await run([]);
  expect([bare.code, bare.stdout]).toEqual([2, ""]);
  expect(bare.stderr).toContain("Usage: sallyport");
  const asked = await run(["ping", "--help"]);
  expect([asked.code, asked.stderr]).toEqual([0, ""]);
  expect(asked.stdout).toContain("--no-until-direct");
});

test.each([
  [["up", "--auth-key", "spkey-hush"]],
  [["up", "--auth-key=spkey-hush"]],
  [["daemon", "--auth-key", "spkey-hush"]],
  [["up", "--authkey=spkey-hush"]],
  [["up", "spkey-hush"]],
])("a key on the command line is refused and not repeated: %j", async (args) => {
  const { code, stdout, stderr } = await run(args);
  expect(code).toBe(2);
  expect(stdout + stderr).not.toContain("hush");
});

test("mistakes in flags, variables and the file are told together", async () => {
  const file = join(folder, "bad.json");
  writeFileSync(file, '{"port": "x", "prot": 1}');
  const args = ["daemon", "--config", file, "--hostname", "-"];
  const { code, stderr } = await run(args, { env: { SALLYPORT_LOG_LEVEL: "loud" } });
  expect(code).toBe(2);
  expect(stderr.trim().split("\n")).toHaveLength(4);
});

test("no daemon: one line that says how to start one, and 1", async () => {
  for (const args of [["status"], ["ping", "x"], ["up"], ["down"], ["logout"]]) {
    const outcome = await run([...args, "--socket", join(folder, "none")]);
    expect([outcome.code, outcome.stdout]).toEqual([1, ""]);
    expect(outcome.stderr).toMatch(/^no daemon is running on .*: start it with `sallyport daemon`.*\n$/);
  }
});

test("what is not expected is one line with a code, and a stack only when asked for", async () => {
  const daemon = (): Promise<never> => Promise.reject(new InternalError("odd", "an invariant is broken"));
  const quiet = await run(["daemon"], { roles: { daemon } });
  expect(quiet.code).toBe(1);
  expect(quiet.stderr).toMatch(/^internal error \(odd\): an invariant is broken: please report it .*\n$/);
  const loud = await run(["daemon"], { roles: { daemon }, env: { SALLYPORT_DEBUG: "1" } });
  expect(loud.stderr).toContain("    at ");
});

test("ping asks until a direct answer, a second apart", async () => {
  const sleeps: number[] = [];
  const outcome = await ping([relayed, timeout, relayed, direct, relayed], [], (ms) => sleeps.push(ms));
  expect(outcome).toEqual({
    code: 0,
    stdout: `${RELAYED}ping "100.64.9.2" timed out\n${RELAYED}${DIRECT}`,
    stderr: "",
  });
  expect(sleeps).toEqual([1000, 1000]);
});

test.each([
  [["--no-until-direct", "-c", "2"], [direct, direct], { code: 0, stdout: DIRECT + DIRECT, stderr: "" }],
  [["--until-direct=false", "-c", "2"], [direct, direct], { code: 0, stdout: DIRECT + DIRECT, stderr: "" }],
  [["--until-direct=true", "-c", "2"], [direct, direct], { code: 0, stdout: DIRECT, stderr: "" }],
  [["--until-direct", "-c", "2"], [direct, direct], { code: 0, stdout: DIRECT, stderr: "" }],
  [["-c", "1"], [relayed], { code: 1, stdout: RELAYED, stderr: "direct connection not established\n" }],
  [
    ["-c", "2", "--no-until-direct"],
    [relayed, timeout],
    { code: 0, stdout: `${RELAYED}ping "100.64.9.2" timed out\n`, stderr: "" },
  ],
  [[], [{ kind: "not-running", text: "Logged out." }], { code: 1, stdout: "Logged out.\n", stderr: "" }],
] as const)("ping %j", async (flags, replies, outcome) => {
  expect(await ping(replies, flags)).toEqual(outcome);
});

test("ping over a peer's relay is not direct", async () => {
  const via = { kind: "peer-relay", endpoint: "203.0.113.9:40000", vni: 7 } as const;
  const { code, stderr } = await ping([{ ...relayed, via }], ["-c", "1"]);
  expect([code, stderr]).toEqual([1, "direct connection not established\n"]);
});

test("ping --json prints one object a line", async () => {
  const { stdout } = await ping([relayed, direct], ["--json"]);
  expect(
    stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line)),
  ).toEqual([relayed, direct]);
});

test("ping passes its timeout on", async () => {
  const asked: unknown[] = [];
  const backend = { ping: (request: unknown) => Promise.resolve((asked.push(request), direct)) };
  await withDaemon(backend, (socket) => run(["ping", "--timeout", "1500ms", "m2", "--socket", socket]));
  expect(asked).toEqual([{ target: "m2", timeoutMs: 1500 }]);
});

test("Ctrl-C ends ping with a last line and 130, whether it waits for an answer or between two", async () => {
  const pausing = new AbortController();
  const between = await ping([relayed, relayed], ["-c", "0"], () => pausing.abort(), pausing.signal);
  expect([between.code, between.stderr]).toEqual([130, "interrupted: 1 of 1 pings answered\n"]);
  const waiting = new AbortController();
  const never = (): Promise<PingReply> => {
    setImmediate(() => waiting.abort());
    return new Promise(() => {});
  };
  const during = await withDaemon({ ping: never }, (socket) =>
    run(["ping", "m2", "--socket", socket], { interrupt: waiting.signal }),
  );
  expect([during.code, during.stderr]).toEqual([130, "interrupted: 0 of 0 pings answered\n"]);
});

test("Ctrl-C ends a command that waits for a silent daemon, with 130", async () => {
  const stop = new AbortController();
  const down = (): Promise<void> => {
    setImmediate(() => stop.abort());
    return new Promise(() => {});
  };
  const outcome = await withDaemon({ down }, (socket) =>
    run(["down", "--socket", socket], { interrupt: stop.signal }),
  );
  expect(outcome).toEqual({ code: 130, stdout: "", stderr: "" });
});

test("up gives the daemon what was said, and no more", async () => {
  const asked: UpRequest[] = [];
  const up = upWith([{ kind: "running", name: "m1", ips: [] }], asked);
  const keyFile = join(folder, "key");
  writeFileSync(keyFile, "spkey-1\n");
  const pin = `sha256-raw:${"0a".repeat(32)}`;
  await withDaemon({ up }, async (socket) => {
    const at = ["--socket", socket];
    const outcome = await run([
      "up",
      "--auth-key",
      `file:${keyFile}`,
      "--hostname",
      "exit1",
      "--cert-pin",
      pin,
      ...at,
    ]);
    expect(outcome).toEqual({ code: 0, stdout: "", stderr: "" });
    await run(["up", "--auth-key", "-", "--advertise-exit-node=false", ...at], { stdin: " spkey-2 \n" });
    await run(["up", "--timeout", "1m", ...at], { env: { SALLYPORT_AUTH_KEY: "spkey-3" } });
  });
  expect(asked.map(({ authKey }) => authKey)).toEqual(["spkey-1", "spkey-2", "spkey-3"]);
  expect(asked.map(({ advertiseExitNode }) => advertiseExitNode)).toEqual([undefined, false, undefined]);
  expect(asked[0]).toMatchObject({
    hostname: "exit1",
    certPin: pin,
    loginServer: undefined,
    timeoutMs: 30_000,
  });
  expect(asked[2]).toMatchObject({ timeoutMs: 60_000 });
});

test("up shows where to log in, what is amiss, and that it worked", async () => {
  const up = upWith([
    { kind: "auth-url", url: "https://control.example/a" },
    { kind: "warning", text: "the server does not answer" },
    { kind: "warning", text: "the server does not answer" },
    { kind: "warning", text: "IP forwarding is disabled." },
    { kind: "running", name: "m1", ips: [] },
  ]);
  expect(await withDaemon({ up }, (socket) => run(["up", "--socket", socket]))).toEqual({
    code: 0,
    stdout: "Warning: the server does not answer\nWarning: IP forwarding is disabled.\n",
    stderr: "\nTo authenticate, visit:\n\n\thttps://control.example/a\n\nSuccess.\n",
  });
});

test("up that fails says why, and 1", async () => {
  const up = upWith([{ kind: "failed", code: "timeout", message: "not in time: see the log" }]);
  const outcome = await withDaemon({ up }, (socket) => run(["up", "--socket", socket]));
  expect(outcome).toEqual({ code: 1, stdout: "", stderr: "not in time: see the log\n" });
});

test.each([
  ["file:none", "", /^none is not there: give --auth-key file:PATH/],
  ["-", "", /^standard input holds no auth key/],
  ["-", "two words", /^standard input holds no auth key/],
])("up --auth-key %s without a key", async (source, stdin, line) => {
  const { code, stderr } = await run(["up", "--auth-key", source], { stdin });
  expect(code).toBe(2);
  expect(stderr).toMatch(line);
});

test("a daemon waits for the file with its key, as long as it is told to", async () => {
  const file = join(folder, "late-key");
  const waits: number[] = [];
  const onSleep = (ms: number): void => {
    waits.push(ms);
    if (waits.length === 3) writeFileSync(file, "spkey-late\n");
  };
  const args = ["daemon", "--tun", "memory", "--auth-key", `file:${file}`, "--auth-key-wait"];
  const begun: (string | undefined)[] = [];
  const role = (settings: DaemonSettings): Promise<RunningRole> => {
    begun.push(settings.authKey);
    throw new OperationError("enough", "enough");
  };
  const { stderr } = await run([...args, "1"], { onSleep, roles: { daemon: role } });
  expect([begun, stderr, waits]).toEqual([["spkey-late"], "enough\n", [50, 50, 50]]);

  waits.length = 0;
  const none = await run([...args.with(4, "file:none"), "1"], { onSleep: (ms) => void waits.push(ms) });
  expect(none.code).toBe(2);
  expect(none.stderr).toMatch(/^none is not there/);
  expect(waits.reduce((sum, ms) => sum + ms, 0)).toBe(1_000);
  expect((await run([...args, "soon"])).stderr).toMatch(/^--auth-key-wait is "soon": give how many seconds/);
});

test("down and logout ask the daemon", async () => {
  const asked: string[] = [];
  const backend = {
    down: () => Promise.resolve(void asked.push("down")),
    logout: () => Promise.resolve(void asked.push("logout")),
  };
  await withDaemon(backend, async (socket) => {
    expect(await run(["down", "--socket", socket])).toEqual({ code: 0, stdout: "", stderr: "" });
    expect((await run(["logout"], { env: { SALLYPORT_SOCKET: socket } })).code).toBe(0);
  });
  expect(asked).toEqual(["down", "logout"]);
});

test("the socket may stand in the configuration file", async () => {
  await withDaemon({ status: () => emptyStatus }, async (socket) => {
    const file = join(folder, "socket.json");
    writeFileSync(file, JSON.stringify({ socket }));
    expect((await run(["status", "--config", file])).code).toBe(0);
  });
});

test("a daemon gets its settings and its defaults", async () => {
  const { settings } = await runDaemon(["--tun", "memory", "--hostname", "exit1"], {
    SALLYPORT_AUTH_KEY: "spkey-1",
  });
  expect(settings).toEqual({
    stateDir: "/var/lib/sallyport",
    socket: "/run/sallyport/agent.sock",
    healthTags: "auto",
    metrics: { host: "127.0.0.1", port: 9641 },
    embeddedMetrics: "off",
    logLevel: "info",
    port: 41641,
    tun: "memory",
    loginServer: undefined,
    authKey: "spkey-1",
    certPin: undefined,
    hostname: "exit1",
    advertiseExitNode: undefined,
  });
});

test.each([
  ["a node that is only to be reached", [], "memory"],
  ["one that was told a device", ["--tun", "tun7"], "tun7"],
  ["one that offers to be an exit node", ["--advertise-exit-node"], "sallyport0"],
  ["one that uses an exit node", ["--exit-node", "exit1"], "sallyport0"],
])("without C functions the device of %s", async (_, args, device) => {
  process.env["SALLYPORT_NO_FFI"] = "1";
  try {
    expect((await runDaemon(args)).settings).toMatchObject({ tun: device });
  } finally {
    delete process.env["SALLYPORT_NO_FFI"];
  }
});

test("Ctrl-C ends a role in order, and 0", async () => {
  const { code, events } = await runDaemon([]);
  expect([code, events]).toEqual([0, ["started", "closed"]]);
});

test("a role that can not end is left after two seconds, and 0", async () => {
  const stop = new AbortController();
  const sleeps: number[] = [];
  const daemon = (): Promise<RunningRole> => {
    setImmediate(() => stop.abort());
    return Promise.resolve({ close: () => new Promise<void>(() => {}) });
  };
  const { code } = await run(["daemon"], {
    roles: { daemon },
    interrupt: stop.signal,
    onSleep: (ms) => sleeps.push(ms),
  });
  expect([code, sleeps]).toEqual([0, [2000]]);
});

test("a role that does not start says why, and 1", async () => {
  const relay = (): Promise<never> =>
    Promise.reject(
      new OperationError("tcp-port-in-use", "TCP port 443 is in use: choose another with --listen"),
    );
  const outcome = await run(["relay"], { roles: { relay } });
  expect(outcome).toEqual({
    code: 1,
    stdout: "",
    stderr: "TCP port 443 is in use: choose another with --listen\n",
  });
});

test("relay and control get their settings from their part of the file", async () => {
  const file = join(folder, "roles.json");
  writeFileSync(
    file,
    JSON.stringify({
      relay: { listen: "127.0.0.1:8443", regionCode: "nyc", address: "203.0.113.9" },
      control: { listen: ":8444", domain: "mesh.example", socket: "/x.sock", healthTags: "auto" },
    }),
  );
  const started: unknown[] = [];
  const start = (settings: unknown): Promise<RunningRole> => {
    started.push(settings);
    return Promise.resolve({ close: () => Promise.resolve() });
  };
  const options = { roles: { relay: start, control: start }, interrupt: AbortSignal.abort() };
  await run(["relay", "--config", file, "--region-id", "901"], options);
  await run(["control", "--config", file, "--derp-map", "map.json"], options);
  expect(started).toEqual([
    expect.objectContaining({
      listen: { host: "127.0.0.1", port: 8443 },
      ...{ regionCode: "nyc", regionId: 901, address: "203.0.113.9", stunPort: 3478 },
      healthTags: "off",
    }),
    expect.objectContaining({
      listen: { host: undefined, port: 8444 },
      ...{ domain: "mesh.example", socket: "/x.sock", derpMap: "map.json", healthTags: "auto" },
    }),
  ]);
});

function ping(
  replies: readonly PingReply[],
  flags: readonly string[],
  onSleep?: (ms: number) => void,
  interrupt?: AbortSignal,
): ReturnType<typeof run> {
  const left = [...replies];
  const answer = (): Promise<PingReply> => Promise.resolve(left.shift() ?? { kind: "no-match" });
  const options = { ...(onSleep && { onSleep }), ...(interrupt && { interrupt }) };
  return withDaemon({ ping: answer }, (socket) => run(["ping", ...flags, "m2", "--socket", socket], options));
}

function upWith(
  events: readonly UpEvent[],
  asked: UpRequest[] = [],
): (request: UpRequest) => AsyncIterable<UpEvent> {
  return async function* (request) {
    asked.push(request);
    yield* await Promise.resolve(events);
  };
}

async function runDaemon(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number; settings: DaemonSettings | undefined; events: readonly string[] }> {
  const stop = new AbortController();
  const events: string[] = [];
  let settings: DaemonSettings | undefined;
  const daemon = (given: DaemonSettings): Promise<RunningRole> => {
    settings = given;
    events.push("started");
    setImmediate(() => stop.abort());
    return Promise.resolve({ close: () => Promise.resolve(void events.push("closed")) });
  };
  const { code } = await run(["daemon", ...args], { roles: { daemon }, env, interrupt: stop.signal });
  return { code, settings, events };
}
