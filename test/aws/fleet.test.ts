import { fleetOf } from "../../agent/src/health/fleet.ts";
import { FleetReader, type FleetOptions } from "../../agent/src/io/aws/fleet.ts";
import { run } from "../agent/cli/run.ts";
import { requires } from "../skip.ts";
import { Cloud } from "./cloud.ts";
import { MotoProxy } from "./moto-proxy.ts";
import { Account, CREDENTIALS, NOW, written } from "./nodes.ts";
import { PYTHON_NEEDS, pythonTools } from "./python.ts";

const bin = pythonTools();
const it = requires("moto", bin !== undefined, PYTHON_NEEDS);

const PARIS = "eu-west-3";
const FRANKFURT = "eu-central-1";
const VIRGINIA = "us-east-1";
const MUMBAI = "ap-south-1";
const ALL = [PARIS, FRANKFURT, VIRGINIA, MUMBAI];

let cloud: Cloud;
let proxy: MotoProxy;
let account: Account;
/** Ids by region. */
const many = new Map<string, readonly string[]>();
const before = { ...process.env };

/** 300 nodes in four regions, all well but five in Paris; and machines that are none of ours. */
beforeAll(async () => {
  if (bin === undefined) return;
  cloud = await Cloud.start(bin);
  proxy = await MotoProxy.start(cloud.endpoint);
  account = new Account(cloud.endpoint);
  for (const region of [VIRGINIA, FRANKFURT])
    many.set(region, await account.launch(region, 140, { ...written(), Name: "exit" }));
  await account.launch(MUMBAI, 12, { ...written(), Name: "exit" });
  const ids = await account.launch(PARIS, 8, { ...written(), Name: "exit" });
  await account.launch(PARIS, 3, { Name: "somebody's database" });
  const [a = "", b = "", c = "", d = "", e = ""] = ids;
  await account.tag(PARIS, a, {
    ...written({ "sallyport:path": "relay:nyc", "sallyport:peers": "0/4 direct" }),
    Name: "far",
  });
  await account.tag(PARIS, b, { ...written({ "sallyport:health": "udp-blocked" }), Name: "shut" });
  await account.tag(PARIS, c, { ...written({}, 3_600_000), Name: "dead" });
  await account.tag(PARIS, d, {
    "sallyport:path": "<script>alert(1)</script>",
    Name: "\u001b[2Jevil\u202e",
  });
  await account.tag(PARIS, e, { ...written({}, -3_600_000), Name: "ahead" });
}, 120_000);
afterAll(async () => {
  account?.close();
  await proxy?.stop();
  cloud?.stop();
});

beforeEach(() => {
  if (bin === undefined) return;
  proxy.asked.length = 0;
  proxy.refuse = () => undefined;
  for (const name of Object.keys(process.env).filter((one) => one.startsWith("AWS_")))
    delete process.env[name];
  Object.assign(process.env, {
    ...{
      AWS_ENDPOINT_URL: proxy.endpoint,
      AWS_ACCESS_KEY_ID: "AKIDEXAMPLE",
      AWS_SECRET_ACCESS_KEY: "secret",
    },
    ...{ AWS_CONFIG_FILE: "/nowhere", AWS_SHARED_CREDENTIALS_FILE: "/nowhere" },
  });
});
afterEach(() => {
  process.env = { ...before };
});

async function read(options: Partial<FleetOptions> = {}) {
  const reader = new FleetReader({
    ...{ regions: [PARIS, MUMBAI], endpoint: proxy.endpoint, credentials: CREDENTIALS },
    ...{ calendar: { now: () => NOW }, ...options },
  });
  try {
    return fleetOf(await reader.read());
  } finally {
    reader.close();
  }
}

it("300 nodes in four regions are read page by page, each once, and nobody else's machines", async () => {
  const fleet = await read({ regions: ALL, pageSize: 5 });
  expect(fleet.nodes).toHaveLength(300);
  expect(new Set(fleet.nodes.map(({ instance }) => instance)).size).toBe(300);
  expect(fleet.summary).toEqual({ unhealthy: 1, unknown: 3, relayed: 1, mixed: 0, idle: 0, direct: 295 });
  expect(proxy.count("DescribeInstances")).toBe(3 + 3 + 1 + 1);
}, 60_000);

it("the worst come first, and what can not be believed is unknown", async () => {
  const fleet = await read();
  expect(fleet.nodes.slice(0, 6).map(({ name, path, health, doubt }) => [name, path, health, doubt])).toEqual(
    [
      ["shut", "direct", "udp-blocked", null],
      ["ahead", "unknown", "unknown", "clock"],
      ["dead", "unknown", "unknown", "stale"],
      ["\u{fffd}[2Jevil\u{fffd}", "unknown", "unknown", "malformed"],
      ["far", "relay:nyc", "ok", null],
      ["exit", "direct", "ok", null],
    ],
  );
}, 60_000);

it("throttling is waited out", async () => {
  proxy.refuse = () =>
    proxy.asked.length % 3 === 1 ? { status: 503, code: "RequestLimitExceeded" } : undefined;
  const fleet = await read({ regions: [PARIS, MUMBAI, VIRGINIA], pageSize: 5 });
  expect(fleet.failures).toEqual([]);
  expect(fleet.nodes).toHaveLength(160);
  expect(proxy.count("DescribeInstances")).toBeGreaterThan(1 + 1 + 3);
}, 60_000);

it("a region that fails is named, and the others are shown", async () => {
  proxy.refuse = ({ region }) => {
    if (region === MUMBAI) return { status: 401, code: "AuthFailure" };
    return region === VIRGINIA ? { status: 403, code: "UnauthorizedOperation" } : undefined;
  };
  const fleet = await read({ regions: [PARIS, MUMBAI, VIRGINIA] });
  expect(fleet.nodes).toHaveLength(8);
  expect(fleet.failures).toMatchObject([
    { region: MUMBAI, code: "aws-region-off", message: expect.stringContaining("not enabled") },
    {
      region: VIRGINIA,
      code: "aws-denied",
      message: expect.stringContaining("ec2:DescribeInstances on * in us-east-1"),
    },
  ]);
}, 60_000);

/** After this the two big regions are empty. */
it("all regions are those that the account has enabled, and what was terminated is a node no more", async () => {
  for (const [region, ids] of many) await account.terminate(region, ids);
  const outcome = await run(["fleet", "--all-regions", "--json"]);
  const fleet = JSON.parse(outcome.stdout) as { regions: string[]; nodes: unknown[] };
  expect(outcome).toMatchObject({ code: 0, stderr: "" });
  expect(fleet.regions.length).toBeGreaterThan(15);
  expect(fleet.nodes).toHaveLength(20);
}, 60_000);

it("who may not list the regions is told what is missing", async () => {
  proxy.refuse = ({ action }) =>
    action === "DescribeRegions" ? { status: 403, code: "UnauthorizedOperation" } : undefined;
  const { code, stderr } = await run(["fleet", "--all-regions"]);
  expect(code).toBe(1);
  expect(stderr).toContain("ec2:DescribeRegions on * is not permitted");
});

it("the table is aligned, shows no control characters, and has colours on a terminal only", async () => {
  const { code, stdout } = await run(["fleet", "--region", PARIS]);
  expect(code).toBe(0);
  const [header = "", first = "", ...lines] = stdout.split("\n");
  expect(header).toMatch(
    /^REGION +INSTANCE +NAME +PATH +HEALTH +PEERS +RELAY +ENDPOINT +EGRESS +VERSION +UPDATED$/,
  );
  for (const column of ["INSTANCE", "NAME", "PATH"]) expect(first[header.indexOf(column) - 1]).toBe(" ");
  expect(first).toMatch(
    /shut +direct +udp-blocked +3\/3 direct +nyc +203\.0\.113\.5:41641 +198\.51\.100\.7 +0\.1\.0 +1m ago/,
  );
  expect(lines.at(-2)).toBe("8 nodes in eu-west-3: 1 unhealthy, 3 unknown, 1 relayed, 3 direct");
  // oxlint-disable-next-line no-control-regex
  expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u202e]/);
});

it.each([
  [["--fail-on", "relayed"], PARIS, 3],
  [["--fail-on", "unhealthy,stale"], PARIS, 3],
  [["--fail-on", "relayed", "--fail-on", "unhealthy"], MUMBAI, 0],
  [["--fail-on", "stale"], MUMBAI, 0],
  [["--fail-on", "stale"], "sa-east-1", 3],
  [[], "sa-east-1", 0],
])("%j in %s ends with %i", async (flags, region, code) => {
  expect((await run(["fleet", "--region", region, ...flags])).code).toBe(code);
});

it("a failed region ends with 1, unless an alert is certain", async () => {
  proxy.refuse = ({ region }) => (region === MUMBAI ? { status: 401, code: "AuthFailure" } : undefined);
  const regions = ["--region", PARIS, "--region", MUMBAI];
  const plain = await run(["fleet", ...regions]);
  expect(plain.code).toBe(1);
  expect(plain.stderr).toMatch(/^ap-south-1: .*AuthFailure/);
  expect((await run(["fleet", ...regions, "--fail-on", "relayed"])).code).toBe(3);
  expect((await run(["fleet", "--region", MUMBAI, "--fail-on", "stale"])).code).toBe(1);
}, 60_000);

it("--watch looks again until it is interrupted, one line of JSON each time", async () => {
  const interrupt = new AbortController();
  let sleeps = 0;
  const onSleep = (ms: number) => {
    expect(ms).toBe(10_000);
    if (++sleeps === 3) interrupt.abort();
  };
  const args = ["fleet", "--region", MUMBAI, "--watch", "--interval", "10s", "--json"];
  const { stdout } = await run(args, { onSleep, interrupt: interrupt.signal });
  expect(
    stdout
      .trimEnd()
      .split("\n")
      .map((line) => (JSON.parse(line) as { nodes: unknown[] }).nodes.length),
  ).toEqual([12, 12, 12]);
}, 60_000);

it("the region is the environment's, where none is given", async () => {
  process.env["AWS_REGION"] = MUMBAI;
  const { stdout } = await run(["fleet", "--json"]);
  expect(JSON.parse(stdout)).toMatchObject({ regions: [MUMBAI] });
});

it("without any region it says what to give", async () => {
  process.env["AWS_EC2_METADATA_DISABLED"] = "true";
  const { code, stderr } = await run(["fleet"]);
  expect(code).toBe(2);
  expect(stderr).toContain("give --region or --all-regions");
});

it("without credentials it says what to set", async () => {
  delete process.env["AWS_ACCESS_KEY_ID"];
  process.env["AWS_EC2_METADATA_DISABLED"] = "true";
  const { code, stderr } = await run(["fleet", "--region", MUMBAI]);
  expect(code).toBe(1);
  expect(stderr).toMatch(/no AWS credentials for ec2:DescribeInstances/);
});
