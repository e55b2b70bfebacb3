/** What a node tells Prometheus: every metric with its meaning in one table, filled from one look at the node. */
import type { Traffic, Way } from "../engine/traffic.ts";
import type { HealthProblem } from "./reasons.ts";
import type { PeerJson, StatusJson } from "./status-json.ts";

/** What the engine counted; undefined while the tunnel is down. */
export interface EngineCounters {
  readonly traffic: Traffic;
  readonly drops: Readonly<Record<string, number>>;
  readonly homeUp: boolean;
  readonly udp: boolean | undefined;
  /** Milliseconds, by region code. */
  readonly latencies: Readonly<Record<string, number>>;
}

export interface MetricsInput {
  readonly status: StatusJson;
  readonly problems: readonly HealthProblem[];
  readonly engine: EngineCounters | undefined;
  /** Of this process: bytes and seconds. */
  readonly memory: number;
  readonly cpuSeconds: number;
}

export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Metric {
  readonly name: string;
  readonly help: string;
  readonly type: "gauge" | "counter";
  readonly labels: readonly string[];
  readonly samples: readonly Sample[];
}

type Definition = Omit<Metric, "name" | "samples"> & {
  readonly read: (input: MetricsInput) => readonly Sample[];
};

const one = (value: number, labels: Readonly<Record<string, string>> = {}): readonly Sample[] => [
  { labels, value },
];
const flag = (value: boolean, labels?: Readonly<Record<string, string>>) => one(value ? 1 : 0, labels);
const WAYS: readonly Way[] = ["direct", "relay"];

/** Names end as Prometheus has it: _total for counters, base units (seconds, bytes). */
export const METRICS = {
  sallyport_info: {
    help: "Always 1; what runs here.",
    type: "gauge",
    labels: ["version", "state", "aead", "tun"],
    read: ({ status }) =>
      one(1, {
        version: status.Version,
        state: status.BackendState,
        aead: status.DataPlane?.Aead ?? "",
        tun: String(status.TUN),
      }),
  },
  sallyport_healthy: {
    help: "1 while nothing is known to be wrong.",
    type: "gauge",
    labels: [],
    read: ({ status, problems }) => flag(status.BackendState === "Running" && problems.length === 0),
  },
  sallyport_health_problem: {
    help: "1 for each thing that is wrong, by its word.",
    type: "gauge",
    labels: ["reason"],
    read: ({ problems }) =>
      [...new Set(problems.map(({ reason }) => reason))].map((reason) => ({ labels: { reason }, value: 1 })),
  },
  sallyport_control_up: {
    help: "1 while the coordination server can be reached.",
    type: "gauge",
    labels: [],
    read: ({ status }) => flag(status.Self?.Online === true),
  },
  sallyport_home_relay_up: {
    help: "1 while the home relay can be reached.",
    type: "gauge",
    labels: ["region"],
    read: ({ status, engine }) =>
      engine === undefined ? [] : flag(engine.homeUp, { region: status.Self?.Relay ?? "" }),
  },
  sallyport_udp_works: {
    help: "1 where STUN was answered, 0 where no UDP passes.",
    type: "gauge",
    labels: [],
    read: ({ engine }) => (engine?.udp === undefined ? [] : flag(engine.udp)),
  },
  sallyport_relay_latency_seconds: {
    help: "Round trip to each relay region, as last measured.",
    type: "gauge",
    labels: ["region"],
    read: ({ engine }) =>
      Object.entries(engine?.latencies ?? {}).map(([region, ms]) => ({
        labels: { region },
        value: ms / 1000,
      })),
  },
  sallyport_peers: {
    help: "Peers by the way of their packets; idle ones have had no traffic for 45 s.",
    type: "gauge",
    labels: ["path", "region"],
    read: ({ status }) => peersByPath(Object.values(status.Peer ?? {})),
  },
  sallyport_path_changes_total: {
    help: "Moves of a peer's packets, by where they went.",
    type: "counter",
    labels: ["to"],
    read: ({ engine }) =>
      Object.entries(engine?.traffic.moves ?? {}).map(([to, value]) => ({ labels: { to }, value })),
  },
  sallyport_packets_total: {
    help: "Sealed packets, by direction and way.",
    type: "counter",
    labels: ["direction", "path"],
    read: ({ engine }) => amounts(engine, "packets"),
  },
  sallyport_bytes_total: {
    help: "Bytes of sealed packets, by direction and way.",
    type: "counter",
    labels: ["direction", "path"],
    read: ({ engine }) => amounts(engine, "bytes"),
  },
  sallyport_handshakes_total: {
    help: "Completed handshakes with peers.",
    type: "counter",
    labels: [],
    read: ({ engine }) => (engine === undefined ? [] : one(engine.traffic.handshakes)),
  },
  sallyport_drops_total: {
    help: "Packets that went nowhere, by reason.",
    type: "counter",
    labels: ["reason"],
    read: (input) => Object.entries(dropsOf(input)).map(([reason, value]) => ({ labels: { reason }, value })),
  },
  process_resident_memory_bytes: {
    help: "Resident memory of the daemon.",
    type: "gauge",
    labels: [],
    read: ({ memory }) => one(memory),
  },
  process_cpu_seconds_total: {
    help: "Processor time of the daemon.",
    type: "counter",
    labels: [],
    read: ({ cpuSeconds }) => one(cpuSeconds),
  },
} satisfies Readonly<Record<string, Definition>>;

export function metricsOf(input: MetricsInput): readonly Metric[] {
  return Object.entries<Definition>(METRICS).map(([name, { read, ...rest }]) => ({
    name,
    ...rest,
    samples: read(input),
  }));
}

function peersByPath(peers: readonly PeerJson[]): readonly Sample[] {
  // Always there, so that no rule has to tell zero from absent.
  const counts = new Map([
    ["direct\n", 0],
    ["idle\n", 0],
    ["relay\n", 0],
  ]);
  for (const peer of peers) {
    const key = pathOf(peer);
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([key, value]) => {
    const [path = "", region = ""] = key.split("\n");
    return { labels: { path, region }, value };
  });
}

function pathOf(peer: PeerJson): string {
  if (!peer.Active) return "idle\n";
  if (peer.CurAddr !== "") return "direct\n";
  return peer.PeerRelay === "" ? `relay\n${peer.Relay}` : "peer-relay\n";
}

function amounts(engine: EngineCounters | undefined, unit: "packets" | "bytes"): readonly Sample[] {
  if (engine === undefined) return [];
  const { sent, received } = engine.traffic;
  return WAYS.flatMap((path) => [
    { labels: { direction: "sent", path }, value: sent[path][unit] },
    { labels: { direction: "received", path }, value: received[path][unit] },
  ]);
}

/** Of the data plane's counters, those that are of packets dropped. */
const PLANE_DROPS = [
  ...["malformed", "noPeer", "filtered", "notIp", "wrongSource", "replay", "unauthenticated", "expired"],
  ...["sendDropped", "tunDropped", "ringDropped", "truncated"],
];

function dropsOf({ status, engine }: MetricsInput): Readonly<Record<string, number>> {
  const drops: Record<string, number> = { ...engine?.drops };
  const counters = status.DataPlane?.Counters ?? {};
  for (const reason of PLANE_DROPS) {
    const value = counters[reason];
    if (value !== undefined) drops[reason] = (drops[reason] ?? 0) + value;
  }
  return drops;
}
