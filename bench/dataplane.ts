/**
 * How fast packets go through the tunnel, and what that costs: two of our daemons beside two wireguard-go, in one run,
 * one measurement after the other, so that noise hits both. Ours has everything on: filter, timers, path probes.
 *
 *   npm run bench:dataplane [-- -n 5] [--seconds 3] [--peers DIR] [--only TEXT]
 *
 * Both ends and iperf3 share this machine, so throughput says as much about the cost as about the speed.
 */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Lab } from "../lab/lab.ts";
import { sleep } from "../lab/system.ts";
import { type Contender, OurPair, WireGuardGoPair } from "./dataplane-pairs.ts";
import { formatRatio, formatSamples, formatTable, type Samples } from "./figures.ts";
import { planInternet } from "./internet.ts";
import { type Load, measureLoad, measurePing } from "./load.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

const LOADS: readonly Load[] = [
  { name: "TCP ×1", args: [] },
  { name: "TCP ×1, other way", args: ["-R"] },
  { name: "TCP ×4", args: ["-P", "4"] },
  { name: "UDP 1,200 B flood", args: ["-u", "-b", "0", "-l", "1200"], packets: 1200 },
  { name: "UDP 1,200 B at 200 Mbit/s", args: ["-u", "-b", "200M", "-l", "1200"], packets: 1200 },
];

const results = new Map<string, Map<string, Samples>>();

function note(row: string, contender: Contender, value: number): void {
  const columns = results.get(row) ?? new Map<string, Samples>();
  results.set(row, columns.set(contender.name, [...(columns.get(contender.name) ?? []), value]));
}

async function measure(contenders: readonly Contender[], { rounds, seconds, only }: Options): Promise<void> {
  const wanted = LOADS.filter(({ name }) => name.includes(only));
  for (const contender of contenders) {
    say(`${contender.name}: starting and warming up`);
    await contender.start();
    await measureLoad(contender, { name: "warm-up", args: [] }, seconds);
  }
  for (let round = 1; round <= rounds; round++) {
    const order = round % 2 === 1 ? contenders : contenders.toReversed();
    for (const load of wanted) {
      say(`round ${round} of ${rounds}: ${load.name}`);
      for (const contender of order) await noteLoad(contender, load, seconds);
    }
    for (const contender of order) {
      const { p50, p99 } = await measurePing(contender);
      note("ping p50, idle (ms)", contender, p50);
      note("ping p99, idle (ms)", contender, p99);
      note("resident memory of one daemon (MB)", contender, contender.memory());
    }
  }
}

async function noteLoad(contender: Contender, load: Load, seconds: number): Promise<void> {
  const { gigabits, cpuPerGigabyte, kiloPackets } = await measureLoad(contender, load, seconds);
  if (kiloPackets === undefined) note(`${load.name} (Gbit/s)`, contender, gigabits);
  else note(`${load.name}, delivered (1,000/s)`, contender, kiloPackets);
  note(`${load.name}, both daemons (CPU-s per GB)`, contender, cpuPerGigabyte);
}

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly only: string;
}

/** wireguard-go of the interoperability tests' Go module; built where it is not there yet. */
function findWireGuard(peers: string | undefined): string {
  if (peers !== undefined) return join(peers, "wireguard");
  const built = join(root, ".cache/bench/wireguard");
  if (existsSync(built)) return built;
  say("building wireguard-go with Go; the first time this takes a minute");
  const { status } = spawnSync("go", ["build", "-mod=readonly", "-o", built, "golang.zx2c4.com/wireguard"], {
    cwd: join(root, "test/interop/peers/tailscale"),
    stdio: ["ignore", 2, 2],
  });
  if (status !== 0) throw new Error("wireguard-go can not be built: install Go 1.26, or give --peers DIR");
  return built;
}

function ensureIperf(): void {
  if (spawnSync("iperf3", ["-v"]).status === 0) return;
  say("installing iperf3");
  spawnSync("apt-get", ["install", "-y", "iperf3"], { stdio: ["ignore", 2, 2] });
  if (spawnSync("iperf3", ["-v"]).status !== 0)
    throw new Error("iperf3 is missing: install it (apt-get install iperf3)");
}

function report(contenders: readonly Contender[]): string {
  const names = contenders.map(({ name }) => name);
  const [ours = "", theirs = ""] = names;
  const rows = [...results].map(([row, columns]) => [
    row,
    ...names.map((name) => formatSamples(columns.get(name) ?? [])),
    formatRatio(columns.get(ours) ?? [], columns.get(theirs) ?? []),
  ]);
  const processor = cpus()[0]?.model ?? "unknown processor";
  return [
    `${cpus().length} × ${processor}, load ${loadavg()[0]?.toFixed(1)}, Node ${process.version}; medians [ranges]`,
    "",
    formatTable([["", ...names, `${ours} / ${theirs}`], ...rows]),
  ].join("\n");
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      repetitions: { type: "string", short: "n", default: "5" },
      seconds: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      peers: { type: "string", default: process.env["SALLYPORT_BENCH_PEERS"] ?? "" },
    },
  });
  ensureIperf();
  const wireguard = findWireGuard(values.peers === "" ? undefined : values.peers);
  const lab = await Lab.open(planInternet(), {
    self: [process.execPath, join(root, "dist/lab/lab.mjs")],
  });
  try {
    const contenders = [new OurPair(lab, join(root, "dist/agent")), new WireGuardGoPair(lab, wireguard)];
    await measure(contenders, {
      rounds: Number(values.repetitions),
      seconds: Number(values.seconds),
      only: values.only,
    });
    process.stdout.write(`${report(contenders)}\n`);
  } finally {
    await lab.close();
    await sleep(0);
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

await main();
