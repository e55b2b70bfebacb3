import { NodePublic } from "../../../agent/src/base/keys.ts";
import { IpPort } from "../../../agent/src/base/address.ts";
import { silentLog } from "../../../agent/src/base/log.ts";
import { instant, millis, wallTime } from "../../../agent/src/base/time.ts";
import { direct, regionId, relay } from "../../../agent/src/core/path/path.ts";
import { Traffic } from "../../../agent/src/engine/traffic.ts";
import { EmbeddedMetrics } from "../../../agent/src/health/embedded-metrics.ts";
import {
  type EngineCounters,
  METRICS,
  metricsOf,
  type MetricsInput,
} from "../../../agent/src/health/metrics.ts";
import type { PeerJson, StatusJson } from "../../../agent/src/health/status-json.ts";
import { startMetricsServer } from "../../../agent/src/io/metrics-server.ts";
import { vectors } from "../../vectors/load.ts";

const sample = vectors<{ status_json: StatusJson }>("cli-samples.json").status_json;
const [somePeer] = Object.values(sample.Peer ?? {});
const PEER = NodePublic.fromBytes(new Uint8Array(32).fill(7));

function inputOf(
  engine: Partial<EngineCounters> | undefined,
  ways: readonly Partial<PeerJson>[] = [],
): MetricsInput {
  const peers = ways.map((way, i) => [
    `nodekey:${i}`,
    { ...somePeer, CurAddr: "", PeerRelay: "", ...way } as PeerJson,
  ]);
  return {
    status: { ...sample, Version: "0.1.0", Peer: Object.fromEntries(peers) as Record<string, PeerJson> },
    problems: [{ reason: "udp-blocked", text: "x" }],
    engine: engine === undefined ? undefined : { ...NOTHING, ...engine },
    ...{ memory: 5e7, cpuSeconds: 1.5 },
  };
}
const NOTHING: EngineCounters = { traffic: new Traffic(), drops: {}, homeUp: true, udp: true, latencies: {} };

const valuesOf = (input: MetricsInput, name: keyof typeof METRICS) =>
  Object.fromEntries(
    (metricsOf(input).find((metric) => metric.name === name)?.samples ?? []).map(({ labels, value }) => [
      Object.values(labels).join(" "),
      value,
    ]),
  );

function busy(): Traffic {
  const traffic = new Traffic();
  traffic.noteSent("direct", 3, 4_000);
  traffic.noteReceived("relay", 1, 148);
  traffic.noteMove(relay(regionId(900)));
  traffic.noteMove(direct(IpPort.parse("203.0.113.5:1")));
  traffic.noteMove(direct(IpPort.parse("203.0.113.6:1")));
  for (const at of [1, 1, 2]) traffic.noteHandshake(PEER, instant(at));
  return traffic;
}

test("peers are counted by the way of their packets, and relayed ones by region", () => {
  const ways = [
    { Active: true, CurAddr: "203.0.113.5:1", Relay: "nyc" },
    { Active: true, Relay: "nyc" },
    { Active: true, Relay: "fra" },
    { Active: true, PeerRelay: "203.0.113.9:1:vni:7", Relay: "nyc" },
    { Active: false, CurAddr: "203.0.113.5:1", Relay: "nyc" },
  ];
  expect(valuesOf(inputOf({}, ways), "sallyport_peers")).toEqual({
    ...{ "direct ": 1, "idle ": 1, "relay ": 0, "relay nyc": 1, "relay fra": 1, "peer-relay ": 1 },
  });
});

test("traffic, moves and handshakes are counted as they were", () => {
  const input = inputOf({ traffic: busy() });
  expect(valuesOf(input, "sallyport_bytes_total")).toMatchObject({
    "sent direct": 4_000,
    "received relay": 148,
    "sent relay": 0,
  });
  expect(valuesOf(input, "sallyport_path_changes_total")).toEqual({ direct: 2, relay: 1, none: 0 });
  expect(valuesOf(input, "sallyport_handshakes_total")).toEqual({ "": 2 });
});

test("drops of the engine and of the data plane are one figure by reason", () => {
  const input = inputOf({ drops: { filtered: 2, noPath: 1 } });
  const status = {
    ...input.status,
    DataPlane: { Counters: { filtered: 3, sentPackets: 99, replay: 1 } } as never,
  };
  expect(valuesOf({ ...input, status }, "sallyport_drops_total")).toEqual({
    filtered: 5,
    noPath: 1,
    replay: 1,
  });
});

test("while the tunnel is down there are fewer figures, and none is made up", () => {
  const input = inputOf(undefined);
  for (const name of ["sallyport_bytes_total", "sallyport_home_relay_up", "sallyport_udp_works"] as const)
    expect(valuesOf(input, name)).toEqual({});
  expect(valuesOf(input, "sallyport_health_problem")).toEqual({ "udp-blocked": 1 });
});

test("Prometheus gets every metric with its meaning and its type", async () => {
  const input = inputOf({ traffic: busy(), latencies: { nyc: 12 }, drops: { noPath: 1 } });
  const server = await startMetricsServer({
    ...{ listen: { host: "127.0.0.1", port: 0 }, read: () => metricsOf(input), log: silentLog },
  });
  try {
    const response = await fetch(`http://127.0.0.1:${server.port}/metrics`);
    expect(response.headers.get("content-type")).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    for (const [name, { type }] of Object.entries(METRICS))
      expect(text).toContain(`# TYPE ${name} ${type}\n`);
    expect(text).toContain('sallyport_relay_latency_seconds{region="nyc"} 0.012\n');
    expect(text).toContain('sallyport_packets_total{direction="sent",path="direct"} 3\n');
    expect((await fetch(`http://127.0.0.1:${server.port}/`)).status).toBe(404);
  } finally {
    await server.close();
  }
});

test("a port that is taken is one warning, the node goes on, and listens there once it is free", async () => {
  const said: string[] = [];
  const note = (event: string) => void said.push(event);
  const options = { read: () => [], log: { ...silentLog, warn: note, info: note }, retryMs: millis(20) };
  const first = await startMetricsServer({ ...options, listen: { host: "127.0.0.1", port: 0 } });
  const { port = 0 } = first;
  const second = await startMetricsServer({ ...options, listen: { host: "127.0.0.1", port } });
  expect(second.port).toBeUndefined();
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(said).toEqual(["metrics-off"]);
  await first.close();
  while (second.port === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  expect((await fetch(`http://127.0.0.1:${port}/metrics`)).status).toBe(200);
  expect(said).toEqual(["metrics-off", "metrics-on"]);
  await second.close();
});

test("an address that the machine does not have yet is named with the option that chose it", async () => {
  const warnings: unknown[] = [];
  const log = { ...silentLog, warn: (...said: unknown[]) => void warnings.push(said) };
  const server = await startMetricsServer({
    ...{ listen: { host: "192.0.2.77", port: 9641 }, read: () => [], log },
  });
  await server.close();
  expect(JSON.stringify(warnings)).toMatch(/192\.0\.2\.77 is no address of this machine.*--metrics/);
  expect(JSON.stringify(warnings)).not.toContain("--listen");
});

test("CloudWatch gets one line in its format: gauges as they are, counters since the line before", () => {
  const traffic = busy();
  const embedded = new EmbeddedMetrics();
  const line = () =>
    JSON.parse(
      embedded.line(
        metricsOf(inputOf({ traffic }, [{ Active: true, Relay: "nyc" }])),
        "i-1",
        wallTime(1_000),
      ),
    ) as Record<string, unknown>;
  expect(line()).toMatchObject({
    Node: "i-1",
    BytesDirect: 4_000,
    PathChanges: 3,
    PeersRelayed: 1,
    Healthy: 0,
  });
  traffic.noteSent("direct", 1, 500);
  const second = line();
  expect(second).toMatchObject({ BytesDirect: 500, PathChanges: 0 });
  const { _aws: aws } = second as {
    _aws: { Timestamp: number; CloudWatchMetrics: { Dimensions: string[][]; Metrics: { Name: string }[] }[] };
  };
  expect(aws.Timestamp).toBe(1_000);
  expect(aws.CloudWatchMetrics[0]?.Dimensions).toEqual([["Node"]]);
  for (const { Name: name } of aws.CloudWatchMetrics[0]?.Metrics ?? [])
    expect(typeof second[name]).toBe("number");
});
