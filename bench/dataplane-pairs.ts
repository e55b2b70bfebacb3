/** Two ends of a tunnel each: "cloud" sends to "exit". */
import { createPrivateKey, createPublicKey, randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import type { LabProcess } from "../lab/processes.ts";
import { run, sleep } from "../lab/system.ts";
import { addressOf, type MachineName } from "./internet.ts";
import type { BenchLab, Device } from "./mesh.ts";
import { SallyportMesh } from "./sallyport-mesh.ts";

const ENDS = ["exit", "cloud"] as const satisfies readonly MachineName[];
/** Sallyport's and Tailscale's. */
const MTU = 1280;
const START_LIMIT_MS = 20_000;
/** The kernel counts in these. */
const TICKS_PER_SECOND = 100;

export abstract class Contender {
  abstract readonly name: string;
  readonly lab: BenchLab;
  protected readonly programs: LabProcess[] = [];
  #target = "";

  constructor(lab: BenchLab) {
    this.lab = lab;
  }

  /** The address of "exit" in the tunnel. */
  get target(): string {
    return this.#target;
  }

  async start(): Promise<void> {
    this.#target = await this.open();
  }

  protected abstract open(): Promise<string>;

  /** What both daemons have used so far. */
  cpuSeconds(): number {
    return this.programs.map(cpuOf).reduce((total, one) => total + one, 0);
  }

  memory(): number {
    const [first] = this.programs;
    const status = readFileSync(`/proc/${first?.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }
}

function cpuOf({ pid }: LabProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export class OurPair extends Contender {
  readonly name = "sallyport";
  readonly #mesh: SallyportMesh;

  /** @param bundle the folder that `npm run build` made */
  constructor(lab: BenchLab, bundle: string) {
    super(lab);
    this.#mesh = new SallyportMesh("sallyport", lab, bundle);
  }

  protected async open(): Promise<string> {
    await this.#mesh.startServers();
    const devices: Device[] = [];
    for (const end of ENDS) devices.push((await this.#mesh.startDevice(end, `pair-${end}`)).device);
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
    if (direct === undefined) throw new Error("our two ends found no direct path");
    return ip;
  }
}

export class WireGuardGoPair extends Contender {
  readonly name = "wireguard-go";
  readonly #program: string;

  constructor(lab: BenchLab, program: string) {
    super(lab);
    this.#program = program;
  }

  protected async open(): Promise<string> {
    const keys = ENDS.map(() => newKey());
    for (const [i, end] of ENDS.entries()) {
      const device = `wg${this.lab.id}${i}`;
      const program = this.lab.start(end, { name: device, command: [this.#program, "-f", device] });
      this.programs.push(program);
      const socket = `/var/run/wireguard/${device}.sock`;
      await program.ready(`making ${socket}`, START_LIMIT_MS, () => (existsSync(socket) ? true : undefined));
      const other = ENDS[1 - i] ?? "exit";
      await configure(socket, [
        `private_key=${keys[i]?.secret}`,
        `listen_port=${PORT}`,
        `public_key=${keys[1 - i]?.public}`,
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

const PORT = 51_820;
const NETWORK = "10.99.1";

/** The configuration protocol of https://www.wireguard.com/xplatform/. */
function configure(socket: string, settings: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const connection = connect(socket);
    connection.on("error", reject);
    connection.on("data", (answer) => {
      connection.end();
      if (answer.toString().includes("errno=0")) resolve();
      else reject(new Error(`wireguard-go refused its settings: ${answer.toString().trim()}`));
    });
    connection.write(`set=1\n${settings.join("\n")}\n\n`);
  });
}

/** PKCS #8's wrapping of 32 bytes (RFC 8410). */
const PKCS8_X25519 = Buffer.from("302e020100300506032b656e04220420", "hex");

function newKey(): { readonly secret: string; readonly public: string } {
  const secret = randomBytes(32);
  secret[0] = (secret[0] ?? 0) & 248;
  secret[31] = ((secret[31] ?? 0) & 127) | 64;
  const key = createPrivateKey({ key: Buffer.concat([PKCS8_X25519, secret]), format: "der", type: "pkcs8" });
  const publicKey = createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
  return { secret: secret.toString("hex"), public: publicKey.toString("hex") };
}
