/**
 * Two daemons as they are shipped, each on a machine of its own, with a wire between them. Relay and coordination run
 * beside the second one.
 */
import { cpSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { DataPlaneJson } from "../../agent/src/health/status-json.ts";
import { Lab } from "../../lab/lab.ts";
import type { Network } from "../../lab/network.ts";
import type { LabProcess } from "../../lab/processes.ts";
import { sleep } from "../../lab/system.ts";
import { bundleLab, type LabBundle } from "./bundle.ts";

export type Side = "ours" | "theirs";

interface StatusJson {
  readonly BackendState: string;
  readonly Self?: { readonly TailscaleIPs?: readonly string[] };
  readonly TUN: boolean;
  readonly DataPlane?: DataPlaneJson;
}

export interface DaemonStart {
  /** @default 1280 */
  readonly mtu?: number;
  readonly env?: Readonly<Record<string, string>>;
  readonly workers?: number;
  /** Whether it is told which device to use. @default true */
  readonly namesDevice?: boolean;
  /** Options of Node itself. */
  readonly node?: readonly string[];
}

const OUTER = { ours: "198.18.2.1", theirs: "198.18.2.2" } as const;
const LIMIT_MS = 15_000;
const POLL_MS = 50;
export const DEVICE = "sp0";
const FILE_PORT = "8082";
const traffic = join(__dirname, "../interop/traffic.mjs");

export class DaemonPair {
  readonly #lab: Lab<Network>;
  readonly #programs: LabBundle;
  readonly #ips = new Map<Side, string>();

  private constructor(lab: Lab<Network>, programs: LabBundle) {
    this.#lab = lab;
    this.#programs = programs;
  }

  /** With the second daemon, but not the first. */
  static async open(start: DaemonStart = {}): Promise<DaemonPair> {
    const agent = join(__dirname, "../../dist/agent");
    if (!existsSync(join(agent, "sallyport.mjs")))
      throw new Error(`there is no agent in ${agent}: run npm run build`);
    const programs = bundleLab();
    const lab = await Lab.open(plan(), { self: programs.self }).catch((error: unknown) => {
      programs.remove();
      throw error;
    });
    const pair = new DaemonPair(lab, programs);
    try {
      cpSync(agent, join(lab.folder, "agent"), { recursive: true });
      await pair.#startServers();
      await pair.start("theirs", start);
      return pair;
    } catch (error) {
      await pair.close();
      throw error;
    }
  }

  get folder(): string {
    return this.#lab.folder;
  }

  /** Returns when it is up. */
  async start(
    side: Side,
    { env = {}, workers, mtu, namesDevice = true, node = [] }: DaemonStart = {},
  ): Promise<LabProcess> {
    const command = [
      ...[process.execPath, ...node, this.#program, "daemon", "--hostname", side],
      ...(namesDevice ? ["--tun", DEVICE] : []),
      ...["--socket", this.#socket(side), "--state-dir", join(this.folder, side)],
      ...["--login-server", `https://${OUTER.theirs}`, "--auth-key", `file:${this.#joinToken}`],
      ...["--health-tags", "off", "--metrics", "off"],
      ...(workers === undefined ? [] : ["--workers", String(workers)]),
      ...(mtu === undefined ? [] : ["--mtu", String(mtu)]),
    ];
    const daemon = this.#lab.start(side, { name: side, command, env });
    const ip = await this.#until(daemon, `${side} to be up`, async () => {
      const { BackendState, Self } = await this.status(side);
      return BackendState === "Running" ? Self?.TailscaleIPs?.[0] : undefined;
    });
    this.#ips.set(side, ip);
    return daemon;
  }

  async status(side: Side): Promise<StatusJson> {
    return JSON.parse((await this.sallyport(side, "status", "--json")).join("\n")) as StatusJson;
  }

  /** What a command says. */
  async sallyport(side: Side, ...args: readonly string[]): Promise<readonly string[]> {
    const command = [process.execPath, this.#program, ...args, "--socket", this.#socket(side)];
    return (await this.run(side, args[0] ?? "", command)).lines;
  }

  ip(side: Side): string {
    return this.#ips.get(side) ?? "";
  }

  /** A program that sends or receives: see traffic.mjs. */
  traffic(side: Side, ...args: readonly string[]): LabProcess {
    return this.#lab.start(side, { name: args[0] ?? "", command: [process.execPath, traffic, ...args] });
  }

  /** Sends a file of so many bytes; `meanwhile` begins with it. Returns the hashes of what was given and of what arrived. */
  async sendFile(
    from: Side,
    bytes: number,
    meanwhile: () => Promise<void> = () => Promise.resolve(),
  ): Promise<readonly [string, string]> {
    const giver = this.traffic(from, "give", FILE_PORT, String(bytes));
    try {
      const given = (await giver.readyLine(/^listening /, LIMIT_MS)).split(" ")[1] ?? "";
      const taker = this.traffic(from === "ours" ? "theirs" : "ours", "take", this.ip(from), FILE_PORT);
      const [taken] = await Promise.all([taker.readyLine(/./, 2 * LIMIT_MS), meanwhile()]);
      await taker.stop();
      return [given, taken.replace("took ", "")];
    } finally {
      await giver.stop();
    }
  }

  run(side: Side, name: string, command: readonly string[]): ReturnType<Lab<Network>["run"]> {
    return this.#lab.run(side, { name, command }, LIMIT_MS);
  }

  async close(): Promise<void> {
    await this.#lab.close();
    this.#programs.remove();
  }

  get #program(): string {
    return join(this.folder, "agent/sallyport.mjs");
  }

  get #joinToken(): string {
    return join(this.folder, "join-token");
  }

  #socket(side: Side): string {
    return join(this.folder, `${side}.sock`);
  }

  async #startServers(): Promise<void> {
    const [ip, file] = [OUTER.theirs, join(this.folder, "relay.json")];
    const relay = { listen: `${ip}:443`, address: ip, hostname: ip, coordination: true };
    const [stateDir, socket] = [join(this.folder, "servers"), join(this.folder, "control.sock")];
    const control = { hostname: ip, socket, joinTokenFile: this.#joinToken };
    writeFileSync(file, JSON.stringify({ relay: { ...relay, stateDir }, control }));
    const command = [process.execPath, this.#program, "relay", "--config", file];
    const servers = this.#lab.start("theirs", { name: "servers", command });
    await servers.readyFile(this.#joinToken, LIMIT_MS);
  }

  async #until<T>(daemon: LabProcess, what: string, ask: () => Promise<T | undefined>): Promise<T> {
    for (const end = performance.now() + LIMIT_MS; performance.now() < end; await sleep(POLL_MS)) {
      const answer = await ask().catch(() => undefined);
      if (answer !== undefined) return answer;
    }
    throw new Error(`waited for ${what}; its last words:\n${daemon.lines.slice(-15).join("\n")}`);
  }
}

function plan(): Network {
  const machine = (name: Side): Network["namespaces"][number] => ({
    ...{ name, forwards: false, rules: "" },
    commands: [
      "link set lo up",
      "link set wire addrgenmode none up",
      `addr add ${OUTER[name]}/24 dev wire`,
      "route add default dev wire",
    ],
  });
  const end = (namespace: Side) => ({ namespace, device: "wire" });
  return {
    namespaces: [machine("ours"), machine("theirs")],
    links: [{ ends: [end("ours"), end("theirs")], delayMs: 0 }],
  };
}
