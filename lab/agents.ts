/** Starts the bundled agent in the lab's namespaces: relay, coordination server, daemons; and runs its commands. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError, UsageError } from "../agent/src/base/errors.ts";
import type { Lab } from "./lab.ts";
import type { LabProcess } from "./processes.ts";
import type { NodeSettings } from "./node-settings.ts";

const BUNDLE = "sallyport.mjs";
const START_TIMEOUT_MS = 15_000;
const COMMAND_TIMEOUT_MS = 60_000;

export interface DaemonOptions {
  readonly hostname: string;
  readonly port: number;
  readonly advertiseExitNode: boolean;
}

export class Agents {
  readonly #lab: Lab;
  readonly #bundle: string;
  #loginServer = "";
  #certPin = "";
  #authKeyFile = "";

  /** @param bundleFolder what `npm run build` made; it is copied, so that the agent runs from a folder with nothing else */
  constructor(lab: Lab, bundleFolder: string) {
    if (!existsSync(join(bundleFolder, BUNDLE))) {
      throw new UsageError("lab-bundle", `there is no agent in ${bundleFolder}: run \`npm run build\` first`);
    }
    this.#lab = lab;
    this.#bundle = join(lab.folder, "agent");
    cpSync(bundleFolder, this.#bundle, { recursive: true });
  }

  /** @returns the file with the relay map that has this region */
  async startRelay(): Promise<string> {
    const { relay } = this.#lab.topology.cast;
    const state = this.#stateFolder(relay.namespace);
    const map = join(state, "derp-region.json");
    const relayProcess = this.#start(relay.namespace, "relay", [
      ...["--listen", "0.0.0.0:443", "--stun-port", "3478"],
      ...["--hostname", relay.ip.text, "--address", relay.ip.text],
      ...["--region-id", "900", "--region-code", relay.code, "--state-dir", state],
    ]);
    await relayProcess.readyFile(map, START_TIMEOUT_MS);
    return map;
  }

  async startControl(derpMap: string): Promise<void> {
    const { control } = this.#lab.topology.cast;
    const state = this.#stateFolder(control.namespace);
    const server = this.#start(control.namespace, "control", [
      ...["--listen", "0.0.0.0:443", "--hostname", control.ip.text],
      ...["--derp-map", derpMap, "--state-dir", state],
    ]);
    this.#loginServer = `https://${control.ip.text}`;
    this.#certPin = await server.ready("naming its certificate", START_TIMEOUT_MS, () =>
      findPin(server.lines, state),
    );
    this.#authKeyFile = join(this.#lab.folder, "auth-key");
    const key = await this.#createAuthKey(control.namespace, state);
    writeFileSync(this.#authKeyFile, `${key}\n`, { mode: 0o600 });
  }

  /** Returns when the daemon is registered. */
  async startDaemon(namespace: string, options: DaemonOptions | NodeSettings): Promise<void> {
    const daemon = this.#start(namespace, "daemon", [
      ...["--port", String(options.port), "--tun", "sallyport0"],
      ...["--state-dir", this.#stateFolder(namespace), "--socket", this.#socket(namespace)],
      ...["--login-server", this.#loginServer, "--cert-pin", this.#certPin],
      ...["--auth-key", `file:${this.#authKeyFile}`, "--hostname", options.hostname],
      ...(options.advertiseExitNode ? ["--advertise-exit-node"] : []),
    ]);
    await daemon.readyFile(this.#socket(namespace), START_TIMEOUT_MS);
    await this.#untilRunning(namespace, daemon);
  }

  /** Runs `sallyport COMMAND` against the daemon of a namespace. */
  async command(
    namespace: string,
    args: readonly string[],
    onLine?: (line: string) => void,
  ): Promise<{ readonly code: number; readonly lines: readonly string[] }> {
    const [command = "", ...rest] = args;
    const options = {
      name: `${namespace}-${command}`,
      command: this.#command([command, "--socket", this.#socket(namespace), ...rest]),
      ...(onLine === undefined ? {} : { onLine }),
    };
    const { code, lines } = await this.#lab.run(namespace, options, COMMAND_TIMEOUT_MS);
    return { code: code ?? 1, lines };
  }

  async status(namespace: string): Promise<StatusJson> {
    const { lines } = await this.command(namespace, ["status", "--json"]);
    return parseStatus(lines.join("\n")) ?? {};
  }

  async #untilRunning(namespace: string, daemon: LabProcess): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    while ((await this.status(namespace)).BackendState !== "Running") {
      if (performance.now() < deadline) continue;
      const last = daemon.lines.slice(-5).join("\n  ");
      throw new OperationError(
        "lab-daemon",
        `${namespace} did not register in time; its last words:\n  ${last}`,
      );
    }
  }

  async #createAuthKey(namespace: string, state: string): Promise<string> {
    const command = this.#command(["control", "auth-key", "create", "--reusable", "--state-dir", state]);
    const { code, lines } = await this.#lab.run(namespace, { name: "auth-key", command }, COMMAND_TIMEOUT_MS);
    const key = lines.find((line) => /^\S{16,}$/.test(line.trim()))?.trim();
    if (code === 0 && key !== undefined) return key;
    throw new OperationError("lab-auth-key", `the coordination server made no auth key: ${lines.join(" ")}`);
  }

  #start(namespace: string, role: string, args: readonly string[]): LabProcess {
    return this.#lab.start(namespace, {
      name: `${namespace}-${role}`,
      command: this.#command([role, ...args]),
    });
  }

  #command(args: readonly string[]): string[] {
    return [process.execPath, join(this.#bundle, BUNDLE), ...args];
  }

  #stateFolder(namespace: string): string {
    const folder = join(this.#lab.folder, "state", namespace);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  #socket(namespace: string): string {
    return join(this.#stateFolder(namespace), "sock");
  }
}

/** The part of `sallyport status --json` that the story reads. */
export interface StatusJson {
  readonly BackendState?: string;
  readonly Self?: PeerJson;
  readonly Peer?: Readonly<Record<string, PeerJson>>;
}

export interface PeerJson {
  readonly HostName?: string;
  readonly TailscaleIPs?: readonly string[];
  /** Empty unless the connection is direct. */
  readonly CurAddr?: string;
  readonly Relay?: string;
}

function parseStatus(text: string): StatusJson | undefined {
  try {
    return JSON.parse(text) as StatusJson;
  } catch {
    return undefined;
  }
}

/** The hash that clients pin the server's certificate by: printed, or kept in its state folder. */
function findPin(lines: readonly string[], state: string): string | undefined {
  const kept = join(state, "cert-pin");
  const texts = existsSync(kept) ? [...lines, readFileSync(kept, "utf8")] : lines;
  return texts.flatMap((text) => /sha256-raw:[0-9a-f]{64}/.exec(text) ?? []).at(0);
}
