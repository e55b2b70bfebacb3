/**
 * What the health channel costs and how fast it is: calls of one node by a simulated clock; with the endpoint of a moto_server,
 * which is filled, also the real writer, reader and page for some minutes, and how long `fleet` takes for 1,000 nodes in 17
 * regions.
 *
 *   node --import tsx bench/health.ts [ENDPOINT] [--minutes 10]
 */
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { CreateTagsCommand, EC2Client, RunInstancesCommand } from "@aws-sdk/client-ec2";
import { after, instant, type Instant, millis, seconds } from "../agent/src/base/time.ts";
import { fleetOf } from "../agent/src/health/fleet.ts";
import { type NodeState, tagsOf } from "../agent/src/health/node-tags.ts";
import { TagWriter } from "../agent/src/health/tag-writer.ts";
import { FleetReader } from "../agent/src/io/aws/fleet.ts";
import { prepareSdk } from "../agent/src/io/aws-client.ts";
import { systemCalendar } from "../agent/src/io/calendar.ts";
import { systemRandom } from "../agent/src/io/random.ts";
import { measureLive, PAGE_INTERVAL } from "./health-live.ts";

const HOUR = 3_600_000;
const HOURS = 200;
/** As roles/health-tags.ts looks at the node. */
const SAMPLE = seconds(2);
const NODES = 1_000;
const REGIONS = 17;
const CREDENTIALS = { accessKeyId: "bench", secretAccessKey: "bench" };

const stateOf = (path: string): NodeState => ({
  "sallyport:path": path,
  "sallyport:health": "ok",
  "sallyport:peers": "1/1 direct",
  "sallyport:endpoint": "203.0.113.5:41641",
  "sallyport:relay": "nyc",
  "sallyport:egress": "none",
  "sallyport:version": "0.1.0",
});

/** Calls an hour, and how long each change that lasted waited for its call. */
function simulate(pathAt: (elapsed: number) => string): {
  perHour: number;
  busiest: number;
  waits: number[];
} {
  const writer = new TagWriter<string>(systemRandom);
  const writes: Instant[] = [];
  const waits: number[] = [];
  let [path, written, changedAt] = ["", "", 0];
  for (let now = instant(0); now < HOURS * HOUR; now = after(now, SAMPLE)) {
    if (pathAt(now) !== path) [path, changedAt] = [pathAt(now), now];
    writer.handleState(stateOf(path), now);
    const state = writer.pollTransmit();
    if (state === undefined) continue;
    writes.push(now);
    if (state["sallyport:path"] !== written) waits.push(now - changedAt);
    written = state["sallyport:path"];
    writer.handleResult({ ok: true }, after(now, millis(80)));
  }
  const busiest = Math.max(
    ...writes.map((from, i) => writes.slice(i, i + 100).filter((at) => at - from < HOUR).length),
  );
  return { perHour: writes.length / HOURS, busiest, waits };
}

function flapping(period: number): (elapsed: number) => string {
  return (elapsed) => (elapsed % (2 * period) < period ? "direct" : "relay:nyc");
}

/** Changes by themselves, about every ten minutes. */
function wandering(): (elapsed: number) => string {
  let [path, until] = ["direct", 0];
  return (elapsed) => {
    if (elapsed < until) return path;
    path = path === "direct" ? "relay:nyc" : "direct";
    until = elapsed - Math.log(1 - Math.random()) * 600_000;
    return path;
  };
}

function percentile(values: readonly number[], share: number): string {
  const sorted = values.toSorted((a, b) => a - b);
  return ((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0) / 1000).toFixed(0);
}

function tell(what: string, { perHour, busiest, waits }: ReturnType<typeof simulate>): void {
  const told = `${percentile(waits, 0.5)} s (p50), ${percentile(waits, 0.95)} s (p95), ${percentile(waits, 1)} s (worst)`;
  process.stdout.write(
    `${what}: ${perHour.toFixed(1)} calls an hour, at most ${busiest}; change to call ${told}\n`,
  );
}

async function fill(endpoint: string): Promise<readonly string[]> {
  const first = new FleetReader({ regions: "all", endpoint, credentials: CREDENTIALS });
  const regions = (await first.read()).regions.slice(0, REGIONS);
  first.close();
  for (const [i, region] of regions.entries()) {
    const ec2 = new EC2Client({ region, endpoint, credentials: CREDENTIALS });
    const count = Math.floor(NODES / REGIONS) + (i < NODES % REGIONS ? 1 : 0);
    const request = { ImageId: "ami-12c6146b", MinCount: count, MaxCount: count };
    const { Instances: instances = [] } = await ec2.send(new RunInstancesCommand(request));
    const tags = Object.entries(tagsOf(stateOf("direct"), systemCalendar.now()));
    const Resources = instances.map(({ InstanceId: id = "" }) => id);
    await ec2.send(new CreateTagsCommand({ Resources, Tags: tags.map(([Key, Value]) => ({ Key, Value })) }));
    ec2.destroy();
  }
  return regions;
}

async function measureFleet(endpoint: string): Promise<void> {
  const regions = await fill(endpoint);
  const reader = new FleetReader({ regions, endpoint, credentials: CREDENTIALS });
  for (const round of ["first", "second"]) {
    const began = performance.now();
    const { nodes } = fleetOf(await reader.read());
    const took = ((performance.now() - began) / 1000).toFixed(1);
    process.stdout.write(
      `fleet, ${round} look: ${nodes.length} nodes in ${regions.length} regions in ${took} s\n`,
    );
  }
  reader.close();
}

async function tellLive(endpoint: string): Promise<void> {
  const live = await measureLive(endpoint, minutes, stateOf);
  const range = (times: readonly number[]): string =>
    `${percentile(times, 0.5)} s (p50), ${percentile(times, 1)} s (worst)`;
  process.stdout.write(
    `for real, ${live.minutes.toFixed(1)} min, ${live.toPage.length} changes: ${live.calls} calls; change to tag ${range(live.toCall)}; ` +
      `tag to page, which looks every ${PAGE_INTERVAL / 1000} s, ${range(live.callToPage)}; change to page ${range(live.toPage)}\n`,
  );
}

prepareSdk();
tell(
  "idle",
  simulate(() => "idle"),
);
tell("flapping every 2 s", simulate(flapping(2_000)));
tell("flapping every 45 s", simulate(flapping(45_000)));
tell("flapping every 5 min", simulate(flapping(300_000)));
tell("changing by itself, every 10 min on average", simulate(wandering()));
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: "string", default: "0" } },
});
const [endpoint] = positionals;
const minutes = Number(values.minutes);
if (endpoint !== undefined && minutes > 0) await tellLive(endpoint);
if (endpoint !== undefined) await measureFleet(endpoint);
