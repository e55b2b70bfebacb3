/**
 * How fast packets go through the tunnel, and what that costs: our daemons beside wireguard-go and tailscaled, in one run,
 * one measurement after the other, so that noise hits all. Ours has everything on: filter, timers, path probes.
 *
 *   npm run bench:dataplane [-- -n 5] [--seconds 3] [--peers DIR] [--only TEXT] [--json FILE]
 *
 * Both ends and iperf3 share this machine, so throughput says as much about the cost as about the speed. Ctrl-C ends it
 * after the measurement under way, with the table of what was measured.
 */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Lab } from "../lab/lab.ts";
import { run } from "../lab/system.ts";
import { ensureTools, findPeers, type Peers } from "./dataplane-peers.ts";
import { type Contender, CrowdedPair, OurPair, TailscaledPair, WireGuardGoPair } from "./dataplane-pairs.ts";
import { Results } from "./dataplane-results.ts";
import { heapAfterCollection, lookupNanos } from "./dataplane-cost.ts";
import { planInternet } from "./internet.ts";
import { type Load, measureLoad, measureBusyPing, measureLoadedPing, measurePing } from "./load.ts";
import type { BenchLab } from "./mesh.ts";
import { Undisturbed } from "./undisturbed.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bundle = join(root, "dist/agent");

const AS_IS = "Segmentation offload on the veth as it is";
const WITHOUT = "Segmentation offload off: at most 1,500 bytes on the wire";
const CROWD = "Configured peers (TCP ×1)";
const HEAP = "Heap of our daemon";
const CROWDS = [1, 1_000, 10_000];
const HEAP_ROUNDS = 3;

const LOADS: readonly Load[] = [
  { name: "TCP ×1", args: [] },
  { name: "TCP ×1, other way", args: ["-R"] },
  { name: "TCP ×4", args: ["-P", "4"] },
  { name: "TCP ×4, other way", args: ["-P", "4", "-R"], once: true },
  { name: "TCP ×1, both ways at once", args: ["--bidir"], once: true },
  { name: "UDP 1,200 B flood", args: ["-u", "-b", "0", "-l", "1200"], packets: 1200 },
  { name: "UDP 1,200 B at 200 Mbit/s", args: ["-u", "-b", "200M", "-l", "1200"], packets: 1200, once: true },
];
const PING_ROWS = "ping";
const AVX2 = "sallyport, AVX2 only";

/** What is asked of AVX2 alone is asked of these two. */
function loadsOf({ name }: Contender, loads: readonly Load[]): readonly Load[] {
  return name === AVX2 ? loads.filter((load) => ["TCP ×1", "TCP ×4"].includes(load.name)) : loads;
}

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly only: string;
}

class Run {
  readonly #options: Options;
  readonly #results: Results;
  readonly #peers: Peers;
  readonly #undisturbed: Undisturbed;
  readonly #labs: BenchLab[] = [];
  #isOver = false;

  constructor(options: Options, results: Results, peers: Peers, undisturbed: Undisturbed) {
    this.#undisturbed = undisturbed;
    this.#options = options;
    this.#results = results;
    this.#peers = peers;
  }

  stop(): void {
    this.#isOver = true;
  }

  async all(): Promise<void> {
    await this.#section(AS_IS, true);
    await this.#section(WITHOUT, false);
    if (this.#wants(CROWD)) await this.#crowd();
    if (this.#wants(HEAP)) await this.#heap();
  }

  async close(): Promise<void> {
    await Promise.all(this.#labs.splice(0).map((lab) => lab.close()));
  }

  /** A section by its name, or all of it where a row is meant. */
  #wants(section: string, row = ""): boolean {
    const { only } = this.#options;
    return !this.#isOver && (section.includes(only) || row.includes(only));
  }

  /** Beside others. */
  async #section(section: string, offload: boolean): Promise<void> {
    const loads = LOADS.filter(({ name, once }) => this.#wants(section, name) && (offload || once !== true));
    const pings = this.#wants(section, PING_ROWS);
    if (loads.length === 0 && !pings) return;
    const contenders = await this.#started(section, await this.#contenders(), offload);
    await this.#rounds(section, contenders, async (contender) => {
      const memory: number[] = [];
      for (const load of loadsOf(contender, loads)) {
        await this.#load(section, contender, load);
        memory.push(contender.memory());
      }
      if (loads.length > 0)
        this.#note(section, "memory of one daemon, loaded (MB)", contender, Math.max(...memory));
      if (pings && contender.name !== AVX2) await this.#pings(section, contender);
    });
    await this.close();
  }

  async #contenders(): Promise<readonly Contender[]> {
    const found: Contender[] = [
      new OurPair("sallyport", await this.#lab(), bundle),
      new WireGuardGoPair(await this.#lab(), this.#peers.wireguard),
    ];
    const { tailscale } = this.#peers;
    if (tailscale !== undefined) found.push(new TailscaledPair(await this.#lab(), bundle, tailscale));
    if (hasAvx512()) {
      const env = { OPENSSL_ia32cap: WITHOUT_AVX512 };
      found.push(new OurPair(AVX2, await this.#lab(), bundle, { env }));
    }
    return found;
  }

  /** Those that start; what does not is said and left out, except ours. */
  async #started(
    section: string,
    all: readonly Contender[],
    offload: boolean,
  ): Promise<readonly Contender[]> {
    const started: Contender[] = [];
    for (const contender of all) {
      if (this.#isOver) break;
      say(`${contender.name}: starting and warming up`);
      try {
        if (!offload) await turnOffloadOff(contender.lab);
        await contender.start();
        await measurePing(contender);
        this.#note(section, "memory of one daemon, idle (MB)", contender, contender.memory());
        await measureLoad(contender, { name: "warm-up", args: [] }, Math.max(2, this.#options.seconds));
        started.push(contender);
      } catch (error) {
        if (contender === all[0]) throw error;
        say(`${contender.name} is left out: ${textOf(error)}`);
      }
    }
    return started;
  }

  /** In turn, each round in the other order. */
  async #rounds(
    what: string,
    contenders: readonly Contender[],
    measure: (contender: Contender) => Promise<void>,
  ): Promise<void> {
    for (let round = 1; round <= this.#options.rounds; round++) {
      for (const contender of round % 2 === 1 ? contenders : contenders.toReversed()) {
        if (this.#isOver) return;
        say(`${what}: round ${round} of ${this.#options.rounds}, ${contender.name}`);
        await measure(contender);
      }
    }
  }

  async #load(section: string, contender: Contender, load: Load): Promise<void> {
    if (this.#isOver) return;
    const unit = load.packets === undefined ? " (Gbit/s)" : ", delivered (1,000/s)";
    const cost = `${load.name}, both daemons (CPU-s per GB)`;
    await this.#try(section, [`${load.name}${unit}`, cost], contender, async () => {
      const { gigabits, cpuPerGigabyte, kiloPackets } = await measureLoad(
        contender,
        load,
        this.#options.seconds,
      );
      return [kiloPackets ?? gigabits, cpuPerGigabyte];
    });
  }

  async #pings(section: string, contender: Contender): Promise<void> {
    const { seconds } = this.#options;
    for (const [when, ask] of [
      ["idle", () => measurePing(contender)],
      ["one after the other", () => measureBusyPing(contender)],
      ["under TCP ×1", () => measureLoadedPing(contender, seconds)],
    ] as const) {
      if (this.#isOver) return;
      await this.#try(section, [`ping p50, ${when} (ms)`, `ping p99, ${when} (ms)`], contender, async () => {
        const { p50, p99 } = await ask();
        return [p50, p99];
      });
    }
  }

  async #crowd(): Promise<void> {
    const pairs: CrowdedPair[] = [];
    for (const peers of CROWDS) pairs.push(new CrowdedPair(await this.#lab(), bundle, peers));
    for (const [i, pair] of pairs.entries()) {
      say(`${pair.name}: starting`);
      await pair.start();
      await measurePing(pair);
      this.#note(CROWD, "start (ms)", pair, pair.startMs);
      this.#note(CROWD, "memory, idle (MB)", pair, pair.memory());
      const others = (CROWDS[i] ?? 1) - 1;
      const kilobytes = (pair.memory() - (pairs[0]?.memory() ?? NaN)) * 1024;
      if (others > 0) this.#note(CROWD, "memory for each idle peer (KB)", pair, kilobytes / others);
      this.#note(CROWD, "CPU of an idle second, both daemons (ms)", pair, await idleCost(pair));
      this.#note(CROWD, "one route's lookup (ns)", pair, lookupNanos(CROWDS[i] ?? 1));
      await measureLoad(pair, { name: "warm-up", args: [] }, 2);
    }
    const [load = { name: "", args: [] }] = LOADS;
    await this.#rounds(CROWD, pairs, (pair) => this.#load(CROWD, pair, load));
    await this.close();
  }

  /** What stays after garbage was collected, of the engine and the threads together. */
  async #heap(): Promise<void> {
    const pair = new OurPair("sallyport", await this.#lab(), bundle, {
      nodeArgs: ["--trace-gc", "--gc-global"],
    });
    const flood = LOADS.find(({ packets }) => packets !== undefined);
    if (flood?.packets === undefined) return;
    say("heap: starting and warming up");
    await pair.start();
    await measureLoad(pair, flood, 2 * this.#options.seconds);
    const heap = (): number =>
      pair.programs.reduce((total, { lines }) => total + heapAfterCollection(lines), 0);
    const before = heap();
    let packets = 0;
    for (let round = 1; round <= HEAP_ROUNDS && !this.#isOver; round++) {
      say(`heap: round ${round} of ${HEAP_ROUNDS}`);
      packets += (await measureLoad(pair, flood, 2 * this.#options.seconds)).bytes / flood.packets;
    }
    // Each packet passed one daemon on its way out, and one on its way in.
    this.#note(HEAP, "growth for a million packets (MB)", pair, (heap() - before) / 2 / (packets / 1e6));
    this.#note(HEAP, "packets (millions)", pair, packets / 1e6);
    await this.close();
  }

  async #try(
    section: string,
    rows: readonly string[],
    contender: Contender,
    measure: () => Promise<readonly number[]>,
  ): Promise<void> {
    const values = await this.#undisturbed.measure(measure).catch((error: unknown): readonly undefined[] => {
      say(`${contender.name}: ${textOf(error)}`);
      return [];
    });
    for (const [i, row] of rows.entries()) this.#note(section, row, contender, values[i]);
  }

  #note(section: string, row: string, { name }: Contender, value: number | undefined): void {
    this.#results.note(section, row, name, value);
  }

  async #lab(): Promise<BenchLab> {
    const lab = await Lab.open(planInternet(), { self: [process.execPath, join(root, "dist/lab/lab.mjs")] });
    this.#labs.push(lab);
    return lab;
  }
}

/** The second word is CPUID leaf 7's: without AVX-512 F, DQ, IFMA, PF, ER, CD, BW and VL (OPENSSL_ia32cap(3)). */
const WITHOUT_AVX512 = ":~0xdc230000";

function hasAvx512(): boolean {
  return process.arch === "x64" && readFileSync("/proc/cpuinfo", "utf8").includes("avx512f");
}

async function turnOffloadOff(lab: BenchLab): Promise<void> {
  for (const { ends } of lab.topology.links) {
    for (const { namespace, device } of ends) {
      const ethtool = ["ethtool", "-K", device, "tso", "off", "gso", "off", "gro", "off"];
      await run("ip", ["netns", "exec", lab.namespace(namespace), ...ethtool]);
    }
  }
}

const IDLE_MS = 3_000;

async function idleCost(pair: Contender): Promise<number> {
  const before = pair.cpuSeconds();
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  return ((pair.cpuSeconds() - before) * 1e6) / IDLE_MS;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      repetitions: { type: "string", short: "n", default: "5" },
      seconds: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      peers: { type: "string", default: process.env["SALLYPORT_BENCH_PEERS"] ?? "" },
      json: { type: "string", default: join(root, ".cache/bench/dataplane.json") },
    },
  });
  ensureTools();
  const peers = findPeers(root, values.peers === "" ? undefined : values.peers);
  const results = new Results(values.json);
  const options = { rounds: Number(values.repetitions), seconds: Number(values.seconds), only: values.only };
  const undisturbed = new Undisturbed();
  const all = new Run(options, results, peers, undisturbed);
  let interrupts = 0;
  process.on("SIGINT", () => {
    if (++interrupts > 1) process.exit(130);
    say("ending after this measurement; once more to end at once");
    all.stop();
  });
  try {
    await all.all();
  } finally {
    process.stdout.write(`${results.report()}\n\n${undisturbed.summary()}\n`);
    await all.close();
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

await main();
