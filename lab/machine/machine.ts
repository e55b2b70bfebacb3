/**
 * An instance that boots: the real user data runs, unchanged, on files of its own; the units that it enables run as their users
 * with their capabilities. Volumes are images with a real file system, under the names that Nitro gives them.
 *
 * Whoever ends it kills what runs in its network namespace: mounts, loop devices and layers go with the last process. The
 * folder stays, to be read after a failure, until the lab removes it.
 */
import { existsSync, mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../../agent/src/base/errors.ts";
import type { LabProcess, StartOptions } from "../processes.ts";
import { CA_FILE, diskScript, volumeLink } from "./disk.ts";
import { Systemd } from "./systemd.ts";

export interface MachineOptions {
  /** In logs. */
  readonly name: string;
  /** @default its name */
  readonly hostname?: string;
  /** What runs in the place of an archive's own programs that are for another processor. @default nothing does */
  readonly host?: { readonly node: string; readonly koffi: string };
  /** What `ip netns` calls its network namespace. */
  readonly netns: string;
  /** Of its own; it need not exist. */
  readonly folder: string;
  /** A PEM file with the authority that signs for AWS's endpoints. */
  readonly caFile: string | undefined;
  /** Starts programs, which end with the lab: `Processes` of lab/processes.ts. */
  readonly processes: { start(options: StartOptions): LabProcess };
  /** Is told what the machine does. @default nobody */
  readonly say?: (line: string) => void;
}

/** User data waits five minutes for its volume and for its bundle. */
const BOOT_TIMEOUT_MS = 330_000;
/** Where the user data leaves the agent: constructs/agent-delivery.ts. */
const AGENT = "/opt/sallyport/current";
const MOUNT_TIMEOUT_MS = 10_000;
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export class Machine {
  readonly #options: MachineOptions;
  readonly #holder: LabProcess;
  readonly #systemd: Systemd;
  #stopped = false;
  #commands = 0;

  private constructor(options: MachineOptions, holder: LabProcess) {
    this.#options = options;
    this.#holder = holder;
    this.#systemd = new Systemd({
      start: (name, command, onLine) => this.start(`${options.name}-${name}`, command, {}, onLine),
      file: (path) => this.file(path),
      prepare: () => this.#fitProcessor(),
      say: (line) => options.say?.(line),
    });
  }

  /** Turns it on, with nothing running. @throws OperationError where the system allows no such mounts */
  static async start(options: MachineOptions): Promise<Machine> {
    const { name, netns, folder, caFile, processes } = options;
    mkdirSync(folder, { recursive: true });
    const script = join(folder, "disk.sh");
    writeFileSync(script, diskScript({ folder, hostname: options.hostname ?? name, caFile }));
    const holder = processes.start({
      name: `${name}-machine`,
      namespace: netns,
      command: ["unshare", "--mount", "--uts", "--propagation", "private", "sh", script],
    });
    await holder.readyLine(/^ready$/, MOUNT_TIMEOUT_MS);
    const machine = new Machine(options, holder);
    await machine.#systemd.listen();
    return machine;
  }

  /**
   * Runs the user data as cloud-init does, until its end.
   * @throws OperationError when it fails; its output is in the log
   */
  async boot(userData: string): Promise<void> {
    const { name, folder } = this.#options;
    const file = join(folder, "user-data");
    writeFileSync(file, userData, { mode: 0o700 });
    const interpreter = /^#!\s*(\S+)/.exec(userData)?.[1];
    if (interpreter === undefined)
      throw new OperationError("lab-boot", `the user data of ${name} is no script`);
    const boot = this.start(`${name}-boot`, [interpreter, file], {}, this.#options.say);
    const late = setTimeout(() => void boot.stop(), BOOT_TIMEOUT_MS);
    const { code } = await boot.exited;
    clearTimeout(late);
    if (this.#stopped) return;
    if (code !== 0) {
      const last = boot.lines.slice(-3).join("\n  ");
      throw new OperationError(
        "lab-boot",
        `the user data of ${name} failed (${code}); its last words:\n  ${last}`,
      );
    }
  }

  /** The process whose namespaces are the machine's. */
  get pid(): number | undefined {
    return this.#holder.pid;
  }

  /** Runs a program on it as root. */
  start(
    name: string,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
    onLine?: (line: string) => void,
  ): LabProcess {
    const { netns, processes } = this.#options;
    const enter = ["nsenter", `--target=${this.#holder.pid}`, "--mount", "--uts"];
    const settings = Object.entries({ PATH, HOME: "/root", ...this.#trust, ...env }).map(
      ([key, value]) => `${key}=${value}`,
    );
    return processes.start({
      name,
      namespace: undefined,
      command: [...enter, `--net=/run/netns/${netns}`, "env", "-i", ...settings, ...command],
      cwd: "/",
      ...(onLine === undefined ? {} : { onLine }),
    });
  }

  /** The path on the host of what the instance wrote; only of files that it made itself. */
  file(path: string): string {
    return join(this.#options.folder, path);
  }

  /** @param image a file that is made where there is none */
  async attachVolume(volumeId: string, image: string, sizeGib: number): Promise<void> {
    if (!existsSync(image)) {
      writeFileSync(image, "", { mode: 0o600 });
      truncateSync(image, sizeGib * 2 ** 30);
    }
    await this.#do(["ln", "-sfn", image, volumeLink(volumeId)]);
  }

  /** As AWS does when it is told to force it: what is mounted loses its disk. */
  async detachVolume(volumeId: string): Promise<void> {
    const link = volumeLink(volumeId);
    const unmount = `for at in $(findmnt -nro TARGET -S "$(losetup -nO NAME -j "$(readlink ${link})")"); do umount -l "$at"; done`;
    await this.#do(["sh", "-c", `${unmount}; rm -f ${link}`]);
  }

  /** Units are not started again. What runs is ended by whoever ends the network namespace. */
  stop(): void {
    this.#stopped = true;
    this.#systemd.end();
  }

  /** Node.js has a list of its own of whom to trust. */
  get #trust(): Readonly<Record<string, string>> {
    return this.#options.caFile === undefined ? {} : { NODE_EXTRA_CA_CERTS: CA_FILE };
  }

  async #fitProcessor(): Promise<void> {
    const { host } = this.#options;
    if (host === undefined) return;
    const other = `[ -e ${AGENT}/node ] && ! ${AGENT}/node --version > /dev/null 2>&1 || exit 0`;
    const replace = `ln -sf '${host.node}' ${AGENT}/node; cp '${host.koffi}' ${AGENT}/koffi.node`;
    await this.#do(["sh", "-c", `${other}; ${replace}`]);
  }

  async #do(command: readonly string[]): Promise<void> {
    const { name } = this.#options;
    const { code } = await this.start(`${name}-disk-${++this.#commands}`, command).exited;
    if (code !== 0)
      throw new OperationError("lab-machine", `${command.join(" ")} failed on ${name} (${code})`);
  }
}
