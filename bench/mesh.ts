/** What is compared: a relay, a coordination server and devices, ours or unmodified peers, each in an internet of its own. */
import { request } from "node:http";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../lab/lab.ts";
import type { LabProcess } from "../lab/processes.ts";
import { sleep } from "../lab/system.ts";
import type { Network } from "../lab/network.ts";
import type { MachineName } from "./internet.ts";

export type BenchLab = Lab<Network>;

/** On the clock that all processes of a machine share, in ms. */
export const clock = (): number => Number(process.hrtime.bigint()) / 1e6;

/** How often a state is asked for. */
const POLL_MS = 2;
const START_LIMIT_MS = 20_000;

export interface PeerStatus {
  readonly HostName: string;
  readonly TailscaleIPs: readonly string[] | null;
  /** Empty unless the connection is direct. */
  readonly CurAddr: string;
}

export interface Status {
  readonly BackendState: string;
  readonly Self: PeerStatus | null;
  readonly Peer?: Readonly<Record<string, PeerStatus>> | null;
}

export interface StartedDevice {
  readonly device: Device;
  /** ms from the process's start. */
  readonly runningMs: number;
  readonly relayMs: number;
}

export interface Mesh {
  readonly name: string;
  readonly lab: BenchLab;
  /** The long-running programs by role. */
  readonly servers: Readonly<Record<string, LabProcess>>;
  startServers(): Promise<void>;
  /**
   * Starts a device and waits until it is registered and connected to its home relay.
   *
   * @param identity names its state: an unknown one is registered first, a known one goes on where it ended
   */
  startDevice(machine: MachineName, identity: string): Promise<StartedDevice>;
  /** Runs a command of the device's own program, such as "set". @throws Error with what it said */
  command(machine: MachineName, identity: string, words: readonly string[]): Promise<void>;
}

/** A running daemon. */
export class Device {
  readonly program: LabProcess;
  readonly #request: { readonly socketPath: string; readonly host: string; readonly prefix: string };

  constructor(program: LabProcess, api: { socketPath: string; host: string; prefix: string }) {
    this.program = program;
    this.#request = api;
  }

  /** Undefined while nobody answers. */
  status(): Promise<Status | undefined> {
    return this.#ask("GET", "status").then(
      (text) => JSON.parse(text) as Status,
      () => undefined,
    );
  }

  async peer(ip: string): Promise<PeerStatus | undefined> {
    return Object.values((await this.status())?.Peer ?? {}).find((one) => one.TailscaleIPs?.includes(ip));
  }

  /** When the state was first seen to be so; undefined when it was not in time. */
  async until(limitMs: number, isSo: (status: Status) => boolean): Promise<number | undefined> {
    for (const end = clock() + limitMs; clock() < end; await sleep(POLL_MS)) {
      const status = await this.status();
      if (status !== undefined && isSo(status)) return clock();
    }
    return undefined;
  }

  untilRunning(): Promise<number | undefined> {
    return this.until(START_LIMIT_MS, ({ BackendState }) => BackendState === "Running");
  }

  /** Its IPv4 address in the mesh. */
  async ip(): Promise<string> {
    const ips = (await this.status())?.Self?.TailscaleIPs ?? [];
    return ips.find((ip) => ip.includes(".")) ?? "";
  }

  /** MB, VmRSS. */
  memory(): number {
    return memoryOf(this.program);
  }

  /** Gives up the registration and ends. */
  async leave(): Promise<void> {
    await this.#ask("POST", "logout").catch(() => {});
    await this.program.stop();
  }

  async stop(): Promise<void> {
    await this.program.stop();
  }

  #ask(method: string, path: string): Promise<string> {
    const { socketPath, host, prefix } = this.#request;
    return new Promise((resolve, reject) => {
      const options = { socketPath, method, path: prefix + path, headers: { host }, timeout: 5000 };
      const asked = request(options, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
        response.on("end", () => (response.statusCode === 200 ? resolve(text) : reject(new Error(text))));
        response.on("error", reject);
      });
      asked.on("error", reject);
      asked.on("timeout", () => asked.destroy(new Error("no answer")));
      asked.end();
    });
  }
}

export function memoryOf({ pid }: LabProcess): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0) / 1024;
}

/** Watches a program's output for a line, and says when it first came. */
export class LineWatch {
  readonly #pattern: RegExp;
  #seen: number | undefined;

  constructor(pattern: RegExp) {
    this.#pattern = pattern;
  }

  readonly take = (line: string): void => {
    if (this.#seen === undefined && this.#pattern.test(line)) this.#seen = clock();
  };

  /** @throws Error when it does not come in time */
  async seen(program: LabProcess): Promise<number> {
    await program.ready(`saying ${this.#pattern}`, START_LIMIT_MS, () => this.#seen);
    return this.#seen ?? 0;
  }
}

const COMMAND_LIMIT_MS = 20_000;

export async function runCommand(
  lab: BenchLab,
  machine: MachineName,
  command: readonly string[],
): Promise<void> {
  const { code, lines } = await lab.run(machine, { name: `${machine}-command`, command }, COMMAND_LIMIT_MS);
  if (code !== 0) throw new Error(`${command.join(" ")}: ${lines.join(" ")}`);
}

/** A folder of the lab, which goes away with it. */
export function folderIn(lab: BenchLab, name: string): string {
  const folder = join(lab.folder, name);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  return folder;
}
