/** One lab from the first namespace to the last file removed. */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { InternalError, OperationError } from "../agent/src/base/errors.ts";
import { removeLab, removeLeftovers, startWatchdog } from "./cleanup.ts";
import { BuildFailure, keepLogs } from "./failure.ts";
import { buildNamespaces, namespaceName } from "./namespaces.ts";
import { Processes, type LabProcess, type StartOptions } from "./processes.ts";
import { defaultRunFolder, identify, labFolder, recordFile, writeRecord, type LabRecord } from "./record.ts";
import { run } from "./system.ts";
import type { Network } from "./network.ts";
import type { Topology } from "./topology.ts";

export interface LabOptions {
  /** The command that runs this program again. */
  readonly self: readonly string[];
  /** @default "/run/sallyport-lab", or a folder in $TMPDIR without root */
  readonly runFolder?: string;
  /** What people call it. @default its id */
  readonly name?: string;
  /** Where the logs go when it can not be built. @default they go with it */
  readonly keepLogsIn?: string;
  /** Is told which forgotten labs were removed first. */
  readonly onLeftovers?: (ids: readonly string[]) => void;
}

type InLab = Omit<StartOptions, "namespace">;

export class Lab<Plan extends Network = Topology> {
  readonly id: string;
  readonly topology: Plan;
  readonly processes: Processes;
  readonly #record: LabRecord;
  readonly #recordFile: string;
  readonly #keepLogsIn: string | undefined;
  #closing: Promise<void> | undefined;

  /** Writes down what there will be before anything is there, and after somebody watches over it. */
  private constructor(topology: Plan, runFolder: string, { self, name, keepLogsIn }: LabOptions) {
    const owner = identify(process.pid);
    if (owner === undefined) throw new InternalError("lab-owner", "the lab can not find itself in /proc");
    this.id = randomBytes(3).toString("hex");
    this.topology = topology;
    this.#record = {
      id: this.id,
      name: name ?? this.id,
      owner,
      namespaces: topology.namespaces.map(({ name }) => namespaceName(this.id, name)),
      folder: labFolder(this.id),
    };
    this.#keepLogsIn = keepLogsIn;
    this.#recordFile = recordFile(runFolder, this.id);
    startWatchdog(self, this.#recordFile);
    writeRecord(this.#recordFile, this.#record);
    mkdirSync(this.folder, { mode: 0o700 });
    this.processes = new Processes(this.id, join(this.folder, "logs"));
  }

  /** Removes what former labs left, then builds. When that fails nothing but logs stays behind. @throws OperationError */
  static async open<Plan extends Network>(topology: Plan, options: LabOptions): Promise<Lab<Plan>> {
    const missing = await whatIsMissing();
    if (missing !== undefined)
      throw new OperationError("lab-unavailable", `no lab can be built here: ${missing}`);
    const runFolder = options.runFolder ?? defaultRunFolder();
    const leftovers = await removeLeftovers(runFolder);
    if (leftovers.length > 0) options.onLeftovers?.(leftovers);
    const lab = new Lab(topology, runFolder, options);
    try {
      await buildNamespaces(topology, { labId: lab.id, processes: lab.processes, self: options.self });
      return lab;
    } catch (error) {
      throw await lab.abandon(error);
    }
  }

  /** A temporary folder that goes away with the lab. */
  get folder(): string {
    return this.#record.folder;
  }

  /** The name that `ip netns exec` takes. */
  namespace(name: string): string {
    return namespaceName(this.id, name);
  }

  start(namespace: string, options: InLab): LabProcess {
    return this.processes.start({ ...options, namespace: this.namespace(namespace) });
  }

  run(namespace: string, options: InLab, timeoutMs: number): ReturnType<Processes["run"]> {
    return this.processes.run({ ...options, namespace: this.namespace(namespace) }, timeoutMs);
  }

  /** Closes what could not be built. @returns the error to be thrown: it says where the logs are, if they are kept */
  async abandon(error: unknown): Promise<unknown> {
    const kept = this.#keepLogsIn;
    // Whoever closed it already made it fail.
    if (kept === undefined || this.#closing !== undefined || !(error instanceof OperationError)) {
      await this.close();
      return error;
    }
    try {
      await this.processes.stopAll();
      keepLogs(this.folder, kept);
      return new BuildFailure(error, this.folder, kept);
    } catch {
      return error;
    } finally {
      await this.close();
    }
  }

  /** Stops every program and removes every namespace and file. May be called more than once. */
  close(): Promise<void> {
    this.#closing ??= this.processes.stopAll().then(() => removeLab(this.#recordFile, this.#record));
    return this.#closing;
  }
}

/** Why this machine can't build a lab, in words for people; undefined when it can. */
export async function whatIsMissing(): Promise<string | undefined> {
  if (process.platform !== "linux") return `network namespaces need Linux, this is ${process.platform}`;
  if (process.getuid?.() !== 0) return "network namespaces need root";
  for (const [command, argument] of [
    ["ip", "-V"],
    ["nft", "-v"],
  ] as const) {
    const found = await run(command, [argument]).then(
      () => true,
      () => false,
    );
    if (!found) return `${command} is missing (packages iproute2 and nftables)`;
  }
  return undefined;
}
