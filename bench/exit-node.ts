/**
 * An exit node between a client and a NAT gateway, as in AWS: how fast traffic goes through it each way, what it adds to the
 * latency, and how soon traffic flows again when the instance is killed and another takes over its keys and its address. Ours
 * beside unmodified tailscaled in one run, in turn.
 *
 *   npm run bench:exit-node [-- -n 5] [--seconds 3] [--peers DIR] [--only TEXT] [--json FILE]
 *
 * All of it shares this machine. Ctrl-C ends it after the measurement under way, with the table of what was measured.
 */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Lab } from "../lab/lab.ts";
import type { LabProcess } from "../lab/processes.ts";
import { run, sleep } from "../lab/system.ts";
import { cpuOf } from "./dataplane-pairs.ts";
import { ensureTools, findPeers } from "./dataplane-peers.ts";
import { Results } from "./dataplane-results.ts";
import { firstReplyAfter, startProber } from "./echoes.ts";
import {
  EXIT_NODES,
  type ExitNodeName,
  moveExitTo,
  NAT_GATEWAY_IP,
  planExitInternet,
  ROUTER,
  SERVER_IP,
} from "./internet.ts";
import { type Load, measureLoad, measurePing, type RoundTrips, type Tunnel } from "./load.ts";
import { type BenchLab, clock, type Device, type Mesh } from "./mesh.ts";
import { SallyportMesh } from "./sallyport-mesh.ts";
import { TailscaleMesh } from "./tailscale-mesh.ts";
import { Undisturbed } from "./undisturbed.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const bundle = join(root, "dist/agent");

const SECTION = "Exit node: client → exit node → NAT gateway → server";
const DOWN = "TCP ×1, down";
const UP = "TCP ×1, up";
const PING = "ping";
const REPLACED = "killed and replaced → traffic flows (s)";
const LOADS: readonly Load[] = [
  { name: DOWN, args: ["-R"] },
  { name: UP, args: [] },
];
const START_LIMIT_MS = 30_000;
/** Nothing is measured so soon after a change. */
const SETTLE_MS = 2_000;
const WARM_UP_S = 2;

/** A client that goes out by an exit node. */
class ExitTunnel implements Tunnel {
  readonly name: string;
  readonly lab: BenchLab;
  readonly target = SERVER_IP;
  readonly server = "server";
  readonly #mesh: Mesh;
  #exit: { readonly at: ExitNodeName; readonly device: Device } | undefined;
  #client: Device | undefined;
  #plain: RoundTrips = { p50: NaN, p99: NaN };

  constructor(mesh: Mesh) {
    [this.#mesh, this.name, this.lab] = [mesh, mesh.name, mesh.lab];
  }

  /** Without the exit node. */
  get plain(): RoundTrips {
    return this.#plain;
  }

  /** Of the exit node. */
  cpuSeconds(): number {
    return this.#exit === undefined ? NaN : cpuOf(this.#exit.device.program);
  }

  async start(): Promise<void> {
    const [first] = EXIT_NODES;
    await this.#mesh.startServers();
    await this.#move(first);
    this.#plain = await measurePing(this);
    this.#exit = { at: first, device: (await this.#mesh.startDevice(first, "exit")).device };
    await this.#mesh.command(first, "exit", ["set", "--advertise-exit-node"]);
    const ip = await this.#exit.device.ip();
    this.#client = (await this.#mesh.startDevice("cloud", "client")).device;
    await this.#useExit(ip);
    await this.untilDirect();
    const { seenAs } = await measureLoad(this, { name: "warm-up", args: ["-R"] }, WARM_UP_S);
    if (seenAs !== NAT_GATEWAY_IP)
      throw new Error(`exit traffic is seen from ${seenAs}, not from the NAT gateway`);
    await measureLoad(this, { name: "warm-up", args: [] }, WARM_UP_S);
  }

  /** The offer may not have reached the client yet. */
  async #useExit(ip: string): Promise<void> {
    for (const end = clock() + START_LIMIT_MS; ; await sleep(200)) {
      const failed = await this.#mesh.command("cloud", "client", ["set", `--exit-node=${ip}`]).then(
        () => undefined,
        (error: unknown) => error,
      );
      if (failed === undefined) return;
      if (clock() > end) throw failed;
    }
  }

  async untilDirect(): Promise<void> {
    const ping = { name: "ping", command: ["ping", "-c", "10", "-i", "0.2", this.target] };
    await this.lab.run("cloud", ping, START_LIMIT_MS);
    const direct = await this.#client?.until(START_LIMIT_MS, ({ Peer }) =>
      Object.values(Peer ?? {}).some(({ CurAddr }) => CurAddr !== ""),
    );
    if (direct === undefined) throw new Error(`${this.name}: client and exit node found no direct path`);
  }

  /** Kills the exit node; another instance has its keys and its address at once. Returns ms until the client hears the server. */
  async replace(): Promise<number | undefined> {
    const former = this.#exit;
    const next = EXIT_NODES.find((name) => name !== former?.at);
    if (former === undefined || next === undefined) throw new Error("there is no exit node to replace");
    const prober: LabProcess = await startProber(this.lab, "cloud", "stream", this.target);
    try {
      if ((await firstReplyAfter(prober, clock())) === undefined)
        throw new Error("nothing comes through before");
      await sleep(SETTLE_MS);
      const killedAt = clock();
      process.kill(former.device.program.pid ?? 0, "SIGKILL");
      await this.#move(next);
      const [started, flows] = await Promise.all([
        this.#mesh.startDevice(next, "exit"),
        firstReplyAfter(prober, killedAt),
      ]);
      this.#exit = { at: next, device: started.device };
      return flows;
    } finally {
      await prober.stop();
    }
  }

  async #move(to: ExitNodeName): Promise<void> {
    await run("ip", ["-n", this.lab.namespace(ROUTER), ...moveExitTo(to)]);
  }
}

interface Options {
  readonly rounds: number;
  readonly seconds: number;
  readonly only: string;
}

class Run {
  readonly #options: Options;
  readonly #results: Results;
  readonly #undisturbed: Undisturbed;
  #isOver = false;

  constructor(options: Options, results: Results, undisturbed: Undisturbed) {
    [this.#options, this.#results, this.#undisturbed] = [options, results, undisturbed];
  }

  stop(): void {
    this.#isOver = true;
  }

  async all(tunnels: readonly ExitTunnel[]): Promise<void> {
    const started: ExitTunnel[] = [];
    for (const tunnel of tunnels) {
      if (this.#isOver) return;
      say(`${tunnel.name}: starting and warming up`);
      try {
        await tunnel.start();
        started.push(tunnel);
      } catch (error) {
        if (tunnel === tunnels[0]) throw error;
        say(`${tunnel.name} is left out: ${textOf(error)}`);
      }
    }
    for (let round = 1; round <= this.#options.rounds; round++) {
      for (const tunnel of round % 2 === 1 ? started : started.toReversed()) {
        say(`round ${round} of ${this.#options.rounds}, ${tunnel.name}`);
        for (const load of LOADS) await this.#load(tunnel, load);
        await this.#pings(tunnel);
        await this.#replacement(tunnel);
      }
    }
  }

  #wants(row: string): boolean {
    return !this.#isOver && row.includes(this.#options.only);
  }

  async #load(tunnel: ExitTunnel, load: Load): Promise<void> {
    if (!this.#wants(load.name)) return;
    const rows = [`${load.name} (Gbit/s)`, `${load.name}, the exit node (CPU-s per GB)`];
    await this.#try(tunnel, rows, async () => {
      const { gigabits, cpuPerGigabyte } = await measureLoad(tunnel, load, this.#options.seconds);
      return [gigabits, cpuPerGigabyte];
    });
  }

  async #pings(tunnel: ExitTunnel): Promise<void> {
    if (!this.#wants(PING)) return;
    const rows = ["p50", "p99"].flatMap((name) => [
      `ping ${name} (ms)`,
      `ping ${name}, added by the exit node (ms)`,
    ]);
    await this.#try(tunnel, rows, async () => {
      const { p50, p99 } = await measurePing(tunnel);
      return [p50, p50 - tunnel.plain.p50, p99, p99 - tunnel.plain.p99];
    });
  }

  async #replacement(tunnel: ExitTunnel): Promise<void> {
    if (!this.#wants(REPLACED)) return;
    await this.#try(tunnel, [REPLACED], async () => {
      const ms = await tunnel.replace();
      return ms === undefined ? [] : [ms / 1000];
    });
    await tunnel.untilDirect().catch((error: unknown) => say(textOf(error)));
    await sleep(SETTLE_MS);
  }

  async #try(
    { name }: ExitTunnel,
    rows: readonly string[],
    measure: () => Promise<readonly number[]>,
  ): Promise<void> {
    const values = await this.#undisturbed.measure(measure).catch((error: unknown): readonly undefined[] => {
      say(`${name}: ${textOf(error)}`);
      return [];
    });
    for (const [i, row] of rows.entries()) this.#results.note(SECTION, row, name, values[i]);
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      repetitions: { type: "string", short: "n", default: "5" },
      seconds: { type: "string", default: "3" },
      only: { type: "string", default: "" },
      peers: { type: "string", default: process.env["SALLYPORT_BENCH_PEERS"] ?? "" },
      json: { type: "string", default: join(root, ".cache/bench/exit-node.json") },
    },
  });
  ensureTools();
  const { tailscale } = findPeers(root, values.peers === "" ? undefined : values.peers);
  const results = new Results(values.json);
  const options = { rounds: Number(values.repetitions), seconds: Number(values.seconds), only: values.only };
  const undisturbed = new Undisturbed();
  const all = new Run(options, results, undisturbed);
  let interrupts = 0;
  process.on("SIGINT", () => {
    if (++interrupts > 1) process.exit(130);
    say("ending after this measurement; once more to end at once");
    all.stop();
  });
  const labs: BenchLab[] = [];
  const open = async (): Promise<BenchLab> => {
    const lab: BenchLab = await Lab.open(planExitInternet(), {
      self: [process.execPath, join(root, "dist/lab/lab.mjs")],
    });
    labs.push(lab);
    return lab;
  };
  try {
    const tunnels = [new ExitTunnel(new SallyportMesh("sallyport", await open(), bundle))];
    if (tailscale !== undefined)
      tunnels.push(new ExitTunnel(new TailscaleMesh(await open(), bundle, tailscale)));
    await all.all(tunnels);
  } finally {
    process.stdout.write(`${results.report()}\n\n${undisturbed.summary()}\n`);
    await Promise.all(labs.map((lab) => lab.close()));
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

await main();
