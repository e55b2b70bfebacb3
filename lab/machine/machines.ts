/** The machines of a lab, by the name of their namespace: each boots by itself, and commands find them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../../agent/src/base/errors.ts";
import type { LabInstance } from "../cloud/cloud.ts";
import type { Lab } from "../lab.ts";
import type { LabProcess } from "../processes.ts";
import type { Services } from "../services/services.ts";
import { Machine } from "./machine.ts";

export interface MachinesOptions {
  readonly lab: Lab;
  readonly services: Services;
  /** What `npm run build` made, for archives that are for another processor. */
  readonly agent: string;
  readonly say: (line: string) => void;
}

interface Running {
  readonly machine: Machine;
  readonly boot: Promise<void>;
}

export class Machines {
  readonly #options: MachinesOptions;
  readonly #running = new Map<string, Running>();
  /** Volumes that are attached to instances: id → size, by the instance's id. */
  readonly #volumes = new Map<string, Map<string, number>>();

  constructor(options: MachinesOptions) {
    this.#options = options;
  }

  /** Turns it on; its user data runs by itself then. @throws OperationError */
  async boot(instance: LabInstance): Promise<void> {
    const { lab, services, agent, say } = this.#options;
    const { namespace } = instance;
    const machine = await Machine.start({
      name: namespace,
      hostname: hostName(instance),
      netns: lab.namespace(namespace),
      folder: join(lab.folder, "machines", namespace),
      caFile: services.caFile,
      processes: lab.processes,
      host: { node: process.execPath, koffi: join(agent, "koffi.node") },
    });
    for (const [id, size] of this.#volumes.get(instance.id) ?? []) {
      await machine.attachVolume(id, this.#image(id), size);
    }
    const boot = machine.boot(instance.userData);
    boot.catch((error: unknown) => say(error instanceof Error ? error.message : String(error)));
    this.#running.set(namespace, { machine, boot });
  }

  /** Until its user data has ended. @throws OperationError with its last words */
  async booted(namespace: string): Promise<void> {
    await this.#running.get(namespace)?.boot;
  }

  has(namespace: string): boolean {
    return this.#running.has(namespace);
  }

  /** It is gone: nothing of it is started again. */
  forget(namespace: string): void {
    this.#running.get(namespace)?.machine.stop();
    this.#running.delete(namespace);
  }

  /** @throws OperationError where it doesn't run */
  start(namespace: string, command: readonly string[], onLine?: (line: string) => void): LabProcess {
    const running = this.#running.get(namespace);
    if (running === undefined) throw new OperationError("lab-node", `${namespace} doesn't run`);
    const name = `${namespace}-${command[0] ?? "command"}`.replaceAll("/", "-");
    return running.machine.start(name, command, {}, onLine);
  }

  /** Where a file of the machine is found from outside; its disk is there while it runs. */
  path(namespace: string, path: string): string {
    return `/proc/${this.pid(namespace) ?? 0}/root${path}`;
  }

  /** Undefined while there is no such file. */
  read(namespace: string, path: string): string | undefined {
    try {
      return readFileSync(this.path(namespace, path), "utf8");
    } catch {
      return undefined;
    }
  }

  /** What `nsenter` takes to get into it. */
  pid(namespace: string): number | undefined {
    return this.#running.get(namespace)?.machine.pid;
  }

  async attachVolume(id: string, sizeGib: number, instance: LabInstance): Promise<void> {
    const known = this.#volumes.get(instance.id) ?? new Map<string, number>();
    this.#volumes.set(instance.id, known.set(id, sizeGib));
    await this.#running.get(instance.namespace)?.machine.attachVolume(id, this.#image(id), sizeGib);
  }

  async detachVolume(id: string, instance: LabInstance): Promise<void> {
    this.#volumes.get(instance.id)?.delete(id);
    await this.#running.get(instance.namespace)?.machine.detachVolume(id);
  }

  #image(id: string): string {
    return join(this.#options.lab.folder, `${id}.img`);
  }
}

/** As EC2 names it. */
function hostName({ interfaces }: LabInstance): string {
  return `ip-${(interfaces[0]?.privateIps[0] ?? "0-0-0-0").replaceAll(".", "-")}`;
}
