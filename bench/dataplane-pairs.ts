/** Two ends of a tunnel each, in an internet of their own: "cloud" sends to "exit". */
import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LabProcess } from "../lab/processes.ts";
import { run, sleep } from "../lab/system.ts";
import { configureWireGuard, newWireGuardKey, socketOf } from "../lab/wireguard-go.ts";
import { addressOf, type MachineName } from "./internet.ts";
import { type BenchLab, type Device, memoryOf, type Mesh } from "./mesh.ts";
import { Agent, SallyportMesh } from "./sallyport-mesh.ts";
import { TailscaleMesh } from "./tailscale-mesh.ts";

const ENDS = ["exit", "cloud"] as const satisfies readonly MachineName[];
/** Sallyport's and Tailscale's. */
const MTU = 1280;
const START_LIMIT_MS = 30_000;
/** The kernel counts in these. */
const TICKS_PER_SECOND = 100;

export abstract class Contender {
  readonly name: string;
  readonly lab: BenchLab;
  /** Of the two daemons. */
  readonly programs: LabProcess[] = [];
  #target = "";

  constructor(name: string, lab: BenchLab) {
    this.name = name;
    this.lab = lab;
  }

  /** The address of "exit" in the tunnel. */
  get target(): string {
    return this.#target;
  }

  async start(): Promise<void> {
    this.#target = await this.open();
  }

  async stop(): Promise<void> {
    await Promise.all(this.programs.splice(0).map((program) => program.stop()));
  }

  protected abstract open(): Promise<string>;

  /** What both daemons have used so far. */
  cpuSeconds(): number {
    return this.programs.map(cpuOf).reduce((total, one) => total + one, 0);
  }

  /** MB, of one daemon. */
  memory(): number {
    const [first] = this.programs;
    return first === undefined ? NaN : memoryOf(first);
  }
}

/** Seconds, user and system. */
export function cpuOf({ pid }: LabProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

/** Of a mesh with coordination server and relay, as users have it. */
abstract class MeshPair extends Contender {
  protected abstract readonly mesh: Mesh;

  protected async open(): Promise<string> {
    await this.mesh.startServers();
    const devices: Device[] = [];
    for (const end of ENDS) devices.push((await this.mesh.startDevice(end, `pair-${end}`)).device);
    this.programs.push(...devices.map(({ program }) => program));
    const [exit, cloud] = devices;
    const ip = (await exit?.ip()) ?? "";
    await this.lab.run(
      "cloud",
      { name: "ping", command: ["ping", "-c", "10", "-i", "0.2", ip] },
      START_LIMIT_MS,
    );
    const direct = await cloud?.until(START_LIMIT_MS, (status) =>
      Object.values(status.Peer ?? {}).some(({ CurAddr }) => CurAddr !== ""),
    );
    if (direct === undefined) throw new Error(`${this.name}: the two ends found no direct path`);
    return ip;
  }
}

export class OurPair extends MeshPair {
  protected readonly mesh: SallyportMesh;

  /** @param bundle the folder that `npm run build` made */
  constructor(
    name: string,
    lab: BenchLab,
    bundle: string,
    how: { env?: Env; nodeArgs?: readonly string[] } = {},
  ) {
    super(name, lab);
    this.mesh = new SallyportMesh("sallyport", lab, bundle, how);
  }
}

export class TailscaledPair extends MeshPair {
  protected readonly mesh: TailscaleMesh;

  /** @param programs the folder with tailscaled, tailscale and derper */
  constructor(lab: BenchLab, bundle: string, programs: string) {
    super("tailscaled", lab);
    this.mesh = new TailscaleMesh(lab, bundle, programs);
  }
}

type Env = Readonly<Record<string, string>>;

export class WireGuardGoPair extends Contender {
  readonly #program: string;

  constructor(lab: BenchLab, program: string) {
    super("wireguard-go", lab);
    this.#program = program;
  }

  protected async open(): Promise<string> {
    const keys = ENDS.map(() => newWireGuardKey());
    for (const [i, end] of ENDS.entries()) {
      const device = `wg${this.lab.id}${i}`;
      const program = this.lab.start(end, { name: device, command: [this.#program, "-f", device] });
      this.programs.push(program);
      await program.readyFile(socketOf(device), START_LIMIT_MS);
      const other = ENDS[1 - i] ?? "exit";
      await configureWireGuard(device, [
        `private_key=${keys[i]?.secret.toString("hex")}`,
        `listen_port=${PORT}`,
        `public_key=${keys[1 - i]?.public.toString("hex")}`,
        `endpoint=${addressOf(other)}:${PORT}`,
        `allowed_ip=${NETWORK}.0/24`,
      ]);
      const name = this.lab.namespace(end);
      await run("ip", ["-n", name, "addr", "add", `${NETWORK}.${i + 1}/24`, "dev", device]);
      await run("ip", ["-n", name, "link", "set", device, "mtu", String(MTU), "up"]);
    }
    await sleep(500);
    return `${NETWORK}.1`;
  }
}

/** Ours with many peers configured at both ends, of which one is there; by files, since no server is to be measured. */
export class CrowdedPair extends Contender {
  readonly #peers: number;
  readonly #agent: Agent;
  /** ms until the second daemon was up. */
  startMs = NaN;

  constructor(lab: BenchLab, bundle: string, peers: number) {
    super(peers === 1 ? "1 peer" : `${peers.toLocaleString("en")} peers`, lab);
    this.#peers = peers;
    this.#agent = new Agent(lab, bundle);
  }

  protected async open(): Promise<string> {
    const keys = ENDS.map(() => newWireGuardKey());
    for (const [i, end] of ENDS.entries()) {
      const file = join(this.lab.folder, `${end}-${this.#peers}.conf`);
      const other = ENDS[1 - i] ?? "exit";
      const lines = [
        `[Interface]\nPrivateKey = ${keys[i]?.secret.toString("base64")}`,
        `Address = ${NETWORK}.${i + 1}\nListenPort = ${PORT}\nMTU = ${MTU}`,
        `[Peer]\nPublicKey = ${keys[1 - i]?.public.toString("base64")}\nEndpoint = ${addressOf(other)}:${PORT}`,
        `AllowedIPs = ${NETWORK}.${2 - i}/32`,
        ...Array.from({ length: this.#peers - 1 }, (_, n) => strangerOf(n)),
      ];
      writeFileSync(file, lines.join("\n"), { mode: 0o600 });
      const began = performance.now();
      const program = this.#agent.start(end, "wireguard", [file, "--tun", `crowd${i}`]);
      this.programs.push(program);
      await program.readyLine(/"event":"wireguard-up"/, START_LIMIT_MS);
      this.startMs = performance.now() - began;
    }
    await sleep(500);
    return `${NETWORK}.1`;
  }
}

function strangerOf(n: number): string {
  const ip = `10.100.${n >> 8}.${n & 255}`;
  return `[Peer]\nPublicKey = ${randomBytes(32).toString("base64")}\nAllowedIPs = ${ip}/32\nEndpoint = 192.0.2.1:1`;
}

const PORT = 51_820;
const NETWORK = "10.99.1";
