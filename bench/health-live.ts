/**
 * The health channel as it runs: the daemon's own tag writer, EC2's API (a moto_server), the fleet's reader, and the page's
 * stream of events. Time zero of everything is the change of the path.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, get, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { EC2Client, RunInstancesCommand } from "@aws-sdk/client-ec2";
import { silentLog } from "../agent/src/base/log.ts";
import { seconds } from "../agent/src/base/time.ts";
import { fleetOf } from "../agent/src/health/fleet.ts";
import type { FleetView } from "../agent/src/health/fleet-history.ts";
import type { NodeState } from "../agent/src/health/node-tags.ts";
import { FleetReader } from "../agent/src/io/aws/fleet.ts";
import { Imds } from "../agent/src/io/aws/imds.ts";
import { InstanceTags } from "../agent/src/io/aws/instance-tags.ts";
import { startFleetWeb } from "../agent/src/io/fleet-web.ts";
import { startHealthTags } from "../agent/src/roles/health-tags.ts";
import { clock } from "./mesh.ts";

const REGION = "us-east-1";
const CREDENTIALS = { accessKeyId: "bench", secretAccessKey: "bench" };
/** The shortest that `sallyport fleet --web` takes. */
export const PAGE_INTERVAL = seconds(5);
/** From one change to the next: now and then before the next call is allowed. */
const CHANGES_MS = [30_000, 100_000] as const;
const PAGE_LIMIT_MS = 120_000;

export interface LiveFigures {
  /** ms */
  readonly toCall: readonly number[];
  readonly callToPage: readonly number[];
  readonly toPage: readonly number[];
  /** CreateTags, without the three that ask whether the role is narrow. */
  readonly calls: number;
  readonly minutes: number;
}

/** @param endpoint of a moto_server @param stateOf the node's, by its path */
export async function measureLive(
  endpoint: string,
  minutes: number,
  stateOf: (path: string) => NodeState,
): Promise<LiveFigures> {
  const folder = mkdtempSync(join(tmpdir(), "sallyport-bench-health-"));
  const metadata = await serveMetadata(await launch(endpoint));
  const { port } = metadata.address() as AddressInfo;
  const imds = new Imds({ endpoint: `http://127.0.0.1:${port}`, env: {} });
  const tags = new TimedTags({ endpoint, credentials: CREDENTIALS, env: {}, imds });
  let path = "direct";
  const reader = new FleetReader({ regions: [REGION], endpoint, credentials: CREDENTIALS });
  const web = await startFleetWeb({
    ...{ host: "127.0.0.1", port: 0, token: undefined, interval: PAGE_INTERVAL },
    read: async () => fleetOf(await reader.read()),
  });
  const page = followPage(web.urls[0]);
  const writer = await startHealthTags({
    ...{ mode: "on", stateDir: folder, log: silentLog, tags },
    read: () => stateOf(path),
  });
  const figures = { toCall: [] as number[], callToPage: [] as number[], toPage: [] as number[] };
  const began = clock();
  try {
    await page.shows(path);
    while (clock() - began < minutes * 60_000) {
      await wait(CHANGES_MS[0] + Math.random() * (CHANGES_MS[1] - CHANGES_MS[0]));
      path = path === "direct" ? "relay:nyc" : "direct";
      const changedAt = clock();
      const shownAt = await page.shows(path);
      const calledAt = tags.calledAt.get(path) ?? NaN;
      figures.toCall.push(calledAt - changedAt);
      figures.callToPage.push(shownAt - calledAt);
      figures.toPage.push(shownAt - changedAt);
    }
    return { ...figures, calls: tags.calls, minutes: (clock() - began) / 60_000 };
  } finally {
    page.close();
    await writer.close();
    await web.close();
    reader.close();
    metadata.close();
    metadata.closeAllConnections();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Notes when each path was written. */
class TimedTags extends InstanceTags {
  readonly calledAt = new Map<string, number>();
  calls = 0;

  override async write(tags: Parameters<InstanceTags["write"]>[0]): ReturnType<InstanceTags["write"]> {
    this.calls++;
    const failure = await super.write(tags);
    if (failure !== undefined) throw new Error(failure.message);
    this.calledAt.set(tags["sallyport:path"], clock());
    return undefined;
  }
}

async function launch(endpoint: string): Promise<string> {
  const ec2 = new EC2Client({ region: REGION, endpoint, credentials: CREDENTIALS });
  const one = { ImageId: "ami-12c6146b", MinCount: 1, MaxCount: 1 };
  const { Instances: [instance] = [] } = await ec2.send(new RunInstancesCommand(one));
  ec2.destroy();
  return instance?.InstanceId ?? "";
}

async function serveMetadata(instance: string): Promise<Server> {
  const entries: Readonly<Record<string, string>> = {
    "/latest/api/token": "TOKEN",
    "/latest/meta-data/instance-id": instance,
    "/latest/meta-data/placement/region": REGION,
  };
  const server = createServer((request, response) => {
    const entry = entries[request.url ?? ""];
    if (entry === undefined) response.writeHead(404);
    response.end(entry);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** What a browser with the page open would show, as soon as it is told. */
function followPage(url: string) {
  let [text, shown, at] = ["", "", 0];
  const request = get(new URL("/events", url), (response) => {
    response.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      const events = text.split("\n\n");
      text = events.pop() ?? "";
      for (const event of events) {
        const data = /^event: fleet\ndata: (.*)$/m.exec(event)?.[1];
        if (data === undefined) continue;
        const now = (JSON.parse(data) as FleetView).fleet.nodes[0]?.path ?? "";
        if (now !== shown) [shown, at] = [now, clock()];
      }
    });
  });
  return {
    /** When it began to. @throws Error where it does not */
    async shows(path: string): Promise<number> {
      for (const end = clock() + PAGE_LIMIT_MS; clock() < end; await wait(5)) if (shown === path) return at;
      throw new Error(`the page never showed ${path}`);
    },
    close: () => void request.destroy(),
  };
}
