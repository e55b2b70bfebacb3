import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DescribeTagsCommand, EC2Client } from "@aws-sdk/client-ec2";
import { HEALTH_TAG_KEYS } from "../../constructs/health-tags.ts";
import { IpPort } from "../../agent/src/base/address.ts";
import type { LogFields } from "../../agent/src/base/log.ts";
import type { Random } from "../../agent/src/base/random.ts";
import { VERSION } from "../../agent/src/base/version.ts";
import { type NodeState, readNodeTags } from "../../agent/src/health/node-tags.ts";
import { Imds } from "../../agent/src/io/aws/imds.ts";
import { InstanceTags, looksLikeEc2 } from "../../agent/src/io/aws/instance-tags.ts";
import { systemCalendar } from "../../agent/src/io/calendar.ts";
import { startHealthTags } from "../../agent/src/roles/health-tags.ts";
import { startRelay } from "../../agent/src/roles/relay.ts";
import { withServerTags } from "../../agent/src/roles/server-tags.ts";
import { requires } from "../skip.ts";
import { Cloud } from "./cloud.ts";
import { MotoProxy } from "./moto-proxy.ts";
import { Account, CREDENTIALS, written } from "./nodes.ts";
import { PYTHON_NEEDS, pythonTools } from "./python.ts";

const bin = pythonTools();
const it = requires("moto", bin !== undefined, PYTHON_NEEDS);
const REGION = "eu-central-1";

let cloud: Cloud;
let proxy: MotoProxy;
let metadata: Server;
let folder: string;
let instance: string;
let logged: { readonly event: string; readonly fields: LogFields }[];
let state: NodeState;

beforeAll(async () => {
  if (bin === undefined) return;
  cloud = await Cloud.start(bin);
  proxy = await MotoProxy.start(cloud.endpoint);
  metadata = createServer((request, response) => {
    const entries: Readonly<Record<string, string>> = {
      "/latest/api/token": "TOKEN",
      "/latest/meta-data/instance-id": instance,
      "/latest/meta-data/placement/region": REGION,
    };
    const entry = entries[request.url ?? ""];
    if (entry === undefined) response.writeHead(404).end();
    else response.end(entry);
  });
  await new Promise<void>((resolve) => metadata.listen(0, "127.0.0.1", resolve));
}, 60_000);
afterAll(async () => {
  await proxy?.stop();
  cloud?.stop();
  metadata?.closeAllConnections();
  metadata?.close();
});

beforeEach(async () => {
  if (bin === undefined) return;
  folder = mkdtempSync(join(tmpdir(), "sallyport-tags-"));
  const account = new Account(cloud.endpoint);
  [instance = ""] = await account.launch(REGION, 1, { Name: "exit" });
  account.close();
  [logged, proxy.asked.length, proxy.refuse] = [[], 0, () => undefined];
  const { "sallyport:updated": _, ...rest } = written();
  state = rest;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Draws the shortest of all delays, so that a change is written at once. */
const random: Random = { fill: (out) => void out.fill(0) };
const note = (event: string, fields: LogFields = {}): void => void logged.push({ event, fields });
const log = { debug: () => {}, info: note, warn: note, error: note };
const imdsAt = (port: number) => new Imds({ endpoint: `http://127.0.0.1:${port}`, env: {}, timeoutMs: 300 });

function start(
  options: { readonly imds?: Imds; readonly credentials?: typeof CREDENTIALS | undefined } = {},
) {
  const tags = instanceTags(options);
  return startHealthTags({ mode: "on", stateDir: folder, read: () => state, log, tags, random });
}

function instanceTags(options: Parameters<typeof start>[0] = {}): InstanceTags {
  return new InstanceTags({
    ...{ endpoint: proxy.endpoint, credentials: CREDENTIALS, env: {} },
    imds: imdsAt((metadata.address() as AddressInfo).port),
    ...options,
  });
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (performance.now() < deadline) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`never seen; logged: ${JSON.stringify(logged)}`);
}

async function tagsNow(): Promise<Readonly<Record<string, string>>> {
  const ec2 = new EC2Client({ region: REGION, endpoint: cloud.endpoint, credentials: CREDENTIALS });
  const filter = { Name: "resource-id", Values: [instance] };
  const { Tags: tags = [] } = await ec2.send(new DescribeTagsCommand({ Filters: [filter] }));
  ec2.destroy();
  return Object.fromEntries(tags.map(({ Key = "", Value = "" }) => [Key, Value]));
}

const loggedAs = (event: string) => logged.filter((one) => one.event === event).map(({ fields }) => fields);
const real = () =>
  proxy.asked.filter(({ action, body }) => action === "CreateTags" && body.get("DryRun") !== "true");

it("all tags are written with one call, to this instance alone, and a last word at the end", async () => {
  const running = await start();
  await until(async () => (await tagsNow())["sallyport:updated"] !== undefined);
  const tags = await tagsNow();
  expect(Object.keys(tags).sort()).toEqual(["Name", ...HEALTH_TAG_KEYS].sort());
  expect(tags).toMatchObject(state);
  expect(real()).toHaveLength(1);
  await running.close();
  expect(await tagsNow()).toMatchObject({ "sallyport:path": "unknown", "sallyport:health": "stopped" });
}, 30_000);

it("it asks by DryRun whether the role is as narrow as it should be, and says so where it is not", async () => {
  proxy.refuse = ({ body }) => {
    if (body.get("DryRun") !== "true") return undefined;
    const isOwn = body.get("ResourceId.1") === instance && body.get("Tag.1.Key") !== "sallyport:not-ours";
    return isOwn ? undefined : { status: 403, code: "UnauthorizedOperation" };
  };
  const narrow = await start();
  await until(() => real().length > 0);
  expect(loggedAs("health-tags-permission")).toEqual([
    { own: "allowed", otherKeys: "denied", otherInstances: "denied" },
  ]);
  await narrow.close();

  [logged, proxy.asked.length, proxy.refuse] = [[], 0, () => undefined];
  rmSync(join(folder, "health-tags-written"));
  rmSync(join(folder, "health-tags-checked"), { force: true });
  const wide = await start();
  await until(() => real().length > 0);
  expect(loggedAs("health-tags-permission").at(-1)?.["message"]).toMatch(/narrow its policy/);
  await wide.close();
}, 30_000);

it("a node that is restarted again and again asks once an hour, and costs one call each time: its last word", async () => {
  for (let i = 0; i < 5; i++) {
    const running = await start();
    if (i === 0) await until(() => real().length > 0);
    await running.close();
  }
  const dryRuns = proxy.asked.filter(({ body }) => body.get("DryRun") === "true");
  expect(dryRuns).toHaveLength(3);
  expect(real()).toHaveLength(1 + 5);
}, 30_000);

it.each([
  ["RequestLimitExceeded", 503, "aws-throttled", /throttles ec2:CreateTags/],
  [
    "UnauthorizedOperation",
    403,
    "aws-denied",
    /ec2:CreateTags on instance\/i-\w+ in eu-central-1 is not permitted/,
  ],
  ["TagLimitExceeded", 400, "aws-refused", /TagLimitExceeded/],
  ["InternalError", 500, "aws-unreachable", /can not be reached/],
])(
  "%s is told once, and keeps nothing from ending",
  async (code, status, fault, message) => {
    proxy.refuse = () => ({ status, code });
    const running = await start();
    await until(() => loggedAs("health-tags-failing").length > 0);
    expect(loggedAs("health-tags-failing")).toEqual([
      { code: fault, message: expect.stringMatching(message) },
    ]);
    expect(real()).toHaveLength(1);
    await running.close();
    expect(loggedAs("health-tags-failing")).toHaveLength(1);
  },
  30_000,
);

it("without credentials there is one warning", async () => {
  const before = { ...process.env };
  for (const name of Object.keys(process.env).filter((one) => one.startsWith("AWS_")))
    delete process.env[name];
  Object.assign(process.env, {
    AWS_EC2_METADATA_DISABLED: "true",
    AWS_SHARED_CREDENTIALS_FILE: "/nowhere",
    AWS_CONFIG_FILE: "/nowhere",
  });
  try {
    const running = await start({ credentials: undefined });
    await until(() => loggedAs("health-tags-failing").length > 0);
    expect(loggedAs("health-tags-failing")).toMatchObject([{ code: "aws-no-credentials" }]);
    await running.close();
    expect(real()).toHaveLength(0);
  } finally {
    process.env = before;
  }
}, 30_000);

it("without metadata there is one warning that says why", async () => {
  const running = await start({ imds: imdsAt(9) });
  await until(() => loggedAs("health-tags-failing").length > 0);
  expect(loggedAs("health-tags-failing")).toMatchObject([{ code: "imds-unreachable" }]);
  await running.close();
}, 30_000);

it("a relay without a tunnel writes them, too: its fleet shows it idle, with its region and address", async () => {
  const relay = await startRelay({
    ...{ listen: { host: "127.0.0.1", port: 0 }, stunPort: -1, hostname: "127.0.0.1", stateDir: folder },
    ...{ regionId: 900, regionCode: "fra", log },
  });
  const endpoint = IpPort.parse("198.51.100.7:443");
  const options = { stateDir: folder, endpoint, relay: "fra", log, random, tags: instanceTags() };
  const tagged = await withServerTags(relay, { healthTags: "on", ...options });
  await until(async () => (await tagsNow())["sallyport:updated"] !== undefined);
  const tags = await tagsNow();
  expect(Object.keys(tags).sort()).toEqual(["Name", ...HEALTH_TAG_KEYS].sort());
  expect(readNodeTags(new Map(Object.entries(tags)), systemCalendar.now())).toMatchObject({
    ...{ path: "idle", health: "ok", relay: "fra", endpoint: endpoint.text, egress: "none" },
    ...{ version: VERSION, doubt: undefined },
  });
  await tagged.close();
  expect(await tagsNow()).toMatchObject({ "sallyport:path": "unknown", "sallyport:health": "stopped" });
}, 30_000);

test("off an instance nothing is asked unless it was told to", async () => {
  expect(await looksLikeEc2({ AWS_EC2_METADATA_SERVICE_ENDPOINT: "http://127.0.0.1:9" })).toBe(true);
  const none = await startHealthTags({ mode: "off", stateDir: "/nowhere", read: () => state, log });
  await none.close();
});
