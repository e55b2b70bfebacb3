/**
 * How long the first packet to a peer takes, and how long it takes until the path is direct; also start, failover and
 * memory. Ours beside unmodified tailscaled in one run, one repetition after the other, so that noise hits both.
 *
 *   npm run bench [-- -n 20] [--peers DIR] [--against BUNDLE] [--only TEXT] [--json]
 */
import { cpus, loadavg } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { Lab } from "../lab/lab.ts";
import type { LabProcess } from "../lab/processes.ts";
import { run, sleep } from "../lab/system.ts";
import { figureOf, formatRatio, formatSamples, formatTable, type Samples } from "./figures.ts";
import { addressOf, cutRule, type MachineName, MEND_RULE, planInternet, ROUTER } from "./internet.ts";
import { firstReplyAfter, type Line, lines, startProber } from "./echoes.ts";
import { clock, type Device, memoryOf, type Mesh } from "./mesh.ts";
import { SallyportMesh } from "./sallyport-mesh.ts";
import { TailscaleMesh } from "./tailscale-mesh.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const labProgram = [process.execPath, join(root, "dist/lab/lab.mjs")];

/** Nothing is measured so soon after a start: STUN, routes and what the peers are told have to settle. */
const SETTLE_MS = 2_000;
const IDLE_MS = 10_000;
const REPLY_LIMIT_MS = 10_000;
const DIRECT_LIMIT_MS = 8_000;
const FAILOVERS = 5;

const PAIRS = [
  { name: "public → public", from: "cloud", to: "exit", direct: true },
  { name: "easy NAT → public", from: "laptop", to: "exit", direct: true },
  { name: "hard NAT → public", from: "office", to: "exit", direct: true },
  { name: "easy NAT ↔ easy NAT", from: "laptop", to: "home", direct: true },
  { name: "UDP blocked → public", from: "hotel", to: "exit", direct: false },
] as const satisfies readonly Pair[];

interface Pair {
  readonly name: string;
  readonly from: MachineName;
  readonly to: MachineName;
  readonly direct: boolean;
}

/** Rows by what they measure, columns by whose it is. */
const results = new Map<string, Map<string, Samples>>();

function note(row: string, mesh: Mesh, value: number | undefined): void {
  const columns = results.get(row) ?? new Map<string, Samples>();
  results.set(row, columns.set(mesh.name, [...(columns.get(mesh.name) ?? []), value]));
}

interface Options {
  readonly repetitions: number;
  readonly only: string;
}

async function measure(meshes: readonly Mesh[], { repetitions, only }: Options): Promise<void> {
  const wanted = (name: string): boolean => name.includes(only);
  const targets = new Map<Mesh, Readonly<Record<"exit" | "home", string>>>();
  for (const mesh of meshes) {
    say(`${mesh.name}: starting servers and peers`);
    await mesh.startServers();
    for (const [role, program] of Object.entries(mesh.servers)) void watch(mesh, role, program);
    const exit = await mesh.startDevice("exit", "exit");
    const home = await mesh.startDevice("home", "home");
    targets.set(mesh, { exit: await exit.device.ip(), home: await home.device.ip() });
  }
  if (wanted("memory")) await measureMemory(meshes);
  if (wanted("cold start")) await measureStarts(meshes, repetitions);
  for (const pair of PAIRS) {
    if (!wanted(pair.name)) continue;
    await alternate(meshes, pair.name, repetitions, async (mesh, repetition) => {
      const ip = targets.get(mesh)?.[pair.to] ?? "";
      await measureContact(mesh, pair, ip, `${pair.from}-${pair.to}-${repetition}`);
    });
  }
  if (wanted("failover")) {
    const contacts = new Map<Mesh, Contact>();
    for (const mesh of meshes) contacts.set(mesh, await openContact(mesh, targets.get(mesh)?.exit ?? ""));
    await alternate(meshes, "failover", Math.min(FAILOVERS, repetitions), async (mesh) => {
      const contact = contacts.get(mesh);
      if (contact !== undefined) await measureFailover(mesh, contact);
    });
  }
}

/** A server that ends by itself makes everything after it worthless. */
async function watch(mesh: Mesh, role: string, program: LabProcess): Promise<void> {
  const { code, signal } = await program.exited;
  if (!ending)
    say(`${mesh.name}: the ${role} ended (${signal ?? code}):\n${program.lines.slice(-10).join("\n")}`);
}

let ending = false;

/** Every repetition measures all, each time in another order. */
async function alternate(
  meshes: readonly Mesh[],
  what: string,
  repetitions: number,
  act: (mesh: Mesh, repetition: number) => Promise<void>,
): Promise<void> {
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    say(`${what}: ${repetition} of ${repetitions}`);
    const order = repetition % 2 === 1 ? meshes : meshes.toReversed();
    for (const mesh of order) await act(mesh, repetition);
  }
}

async function measureMemory(meshes: readonly Mesh[]): Promise<void> {
  say("memory: idle for ten seconds");
  const devices: [Mesh, Device][] = [];
  for (const mesh of meshes) devices.push([mesh, (await mesh.startDevice("cloud", "idle")).device]);
  await sleep(IDLE_MS);
  for (const [mesh, device] of devices) {
    note("memory, daemon, idle (MB)", mesh, device.memory());
    for (const [role, program] of Object.entries(mesh.servers))
      note(`memory, ${role}, idle (MB)`, mesh, memoryOf(program));
    await device.leave();
  }
}

async function measureStarts(meshes: readonly Mesh[], repetitions: number): Promise<void> {
  await alternate(meshes, "cold start", repetitions, async (mesh) => {
    const { device, runningMs, relayMs } = await mesh.startDevice("cloud", "starter");
    note("cold start → running (ms)", mesh, runningMs);
    note("cold start → home relay (ms)", mesh, relayMs);
    await device.stop();
  });
}

/** A device that the peer has never seen, so that nothing is left of an earlier contact on either side. */
async function measureContact(mesh: Mesh, pair: Pair, ip: string, identity: string): Promise<void> {
  const { device } = await mesh.startDevice(pair.from, identity);
  const prober = await startProber(mesh.lab, pair.from, "once", ip);
  try {
    await sleep(SETTLE_MS);
    if ((await device.peer(ip))?.CurAddr !== "")
      throw new Error(`${identity} had a path before the first packet`);
    process.kill(prober.pid ?? 0, "SIGUSR2");
    const end = clock() + REPLY_LIMIT_MS;
    let reply: Line | undefined;
    while (reply === undefined && clock() < end) {
      await sleep(1);
      reply = lines(prober, "reply")[0];
    }
    const sent = lines(prober, "sent")[0];
    note(`${pair.name}: first reply (ms)`, mesh, since(sent, reply?.at));
    const waits = pair.direct ? DIRECT_LIMIT_MS : 0;
    const direct = await device.until(waits, (status) => currentPath(status, ip) !== "");
    if (pair.direct) note(`${pair.name}: direct (ms)`, mesh, since(sent, direct));
  } finally {
    await prober.stop();
    await device.leave();
  }
}

interface Contact {
  readonly device: Device;
  readonly prober: LabProcess;
  readonly ip: string;
}

async function openContact(mesh: Mesh, ip: string): Promise<Contact> {
  const { device } = await mesh.startDevice("cloud", "failover");
  const prober = await startProber(mesh.lab, "cloud", "stream", ip);
  return { device, prober, ip };
}

async function measureFailover(mesh: Mesh, { device, prober, ip }: Contact): Promise<void> {
  const isDirect = (limitMs: number): Promise<number | undefined> =>
    device.until(limitMs, (status) => currentPath(status, ip) !== "");
  const nft = (rule: string): Promise<string> =>
    run("ip", ["netns", "exec", mesh.lab.namespace(ROUTER), "nft", rule]);
  if ((await isDirect(30_000)) === undefined) throw new Error(`${mesh.name} has no direct path to cut`);
  await sleep(2 * SETTLE_MS);
  await nft(cutRule(addressOf("cloud"), addressOf("exit")));
  const cutAt = clock();
  note("failover: cut → packets flow (ms)", mesh, await firstReplyAfter(prober, cutAt));
  await device.until(20_000, (status) => currentPath(status, ip) === "");
  await sleep(2 * SETTLE_MS);
  await nft(MEND_RULE);
  const mendedAt = clock();
  const direct = await isDirect(30_000);
  note("failover: restored → direct (ms)", mesh, direct === undefined ? undefined : direct - mendedAt);
}

const currentPath = (status: Awaited<ReturnType<Device["status"]>>, ip: string): string =>
  Object.values(status?.Peer ?? {}).find((one) => one.TailscaleIPs?.includes(ip))?.CurAddr ?? "";

const since = (from: Line | undefined, to: number | undefined): number | undefined =>
  from === undefined || to === undefined ? undefined : to - from.at;

async function openMeshes(peers: string | undefined, against: string | undefined): Promise<Mesh[]> {
  const bundle = join(root, "dist/agent");
  const open = (): Promise<Lab<ReturnType<typeof planInternet>>> =>
    Lab.open(planInternet(), { self: labProgram });
  const meshes: Mesh[] = [new SallyportMesh("sallyport", await open(), bundle)];
  if (against !== undefined) meshes.push(new SallyportMesh("other build", await open(), against));
  if (peers !== undefined) meshes.push(new TailscaleMesh(await open(), bundle, peers));
  return meshes;
}

function report(meshes: readonly Mesh[], json: boolean): void {
  const rows = [...results].map(([row, columns]) => ({
    row,
    samples: meshes.map(({ name }) => columns.get(name) ?? []),
  }));
  if (json) {
    const named = rows.map(({ row, samples }) => [
      row,
      Object.fromEntries(meshes.map(({ name }, i) => [name, figureOf(samples[i] ?? []) ?? null])),
    ]);
    process.stdout.write(`${JSON.stringify({ machine: machineText(), ...Object.fromEntries(named) })}\n`);
    return;
  }
  const [ours = "", ...others] = meshes.map(({ name }) => name);
  const head = ["", ours, ...others.flatMap((name) => [name, "ratio"])];
  const body = rows.map(({ row, samples: [own = [], ...rest] }) => [
    row,
    formatSamples(own),
    ...rest.flatMap((samples) => [formatSamples(samples), formatRatio(own, samples)]),
  ]);
  process.stdout.write(`${machineText()}\n\n${formatTable([head, ...body])}\n`);
}

function machineText(): string {
  const date = new Date().toISOString().slice(0, 10);
  const load = loadavg()
    .map((one) => one.toFixed(1))
    .join(" ");
  return `${date}, ${cpus().length} × ${cpus()[0]?.model ?? "?"}, Node ${process.versions.node}, load ${load}`;
}

function say(text: string): void {
  process.stderr.write(`${text}\n`);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      repetitions: { type: "string", short: "n", default: "20" },
      peers: { type: "string", default: process.env["SALLYPORT_BENCH_PEERS"] ?? "" },
      against: { type: "string" },
      only: { type: "string", default: "" },
      json: { type: "boolean", default: false },
    },
  });
  const meshes = await openMeshes(values.peers === "" ? undefined : values.peers, values.against);
  const closeAll = async (): Promise<void> => {
    ending = true;
    await Promise.all(meshes.map(({ lab }) => lab.close()));
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const)
    process.once(signal, () => void closeAll().finally(() => process.exit(130)));
  try {
    await measure(meshes, { repetitions: Number(values.repetitions), only: values.only });
    report(meshes, values.json);
  } finally {
    await closeAll();
  }
}

await main();
