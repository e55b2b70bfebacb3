/** Starts the bundled agent in the lab's namespaces: relay, coordination server, daemons; and runs its commands. */
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError, UsageError } from "../agent/src/base/errors.ts";
import type { Lab } from "./lab.ts";
import type { LabProcess } from "./processes.ts";

const BUNDLE = "sallyport.mjs";
const START_TIMEOUT_MS = 15_000;
const COMMAND_TIMEOUT_MS = 60_000;

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

  /** @returns the file with the relay map that has this relay */
  async startRelay(): Promise<string> {
    const { relay } = this.#lab.topology.cast;
    const map = join(this.#stateFolder(relay.namespace), "derp-map.json");
    const started = this.#start(relay.namespace, "relay", {}, [
      ...["--listen", "0.0.0.0:443", "--stun-port", "3478"],
      ...["--hostname", relay.ip.text, "--address", relay.ip.text],
      ...["--region-id", "900", "--region-code", relay.code],
    ]);
    await started.readyFile(map, START_TIMEOUT_MS);
    return map;
  }

  async startControl(derpMap: string): Promise<void> {
    const { namespace, ip } = this.#lab.topology.cast.control;
    this.#authKeyFile = join(this.#lab.folder, "auth-key");
    const server = this.#start(namespace, "control", {}, [
      ...["--listen", "0.0.0.0:443", "--hostname", ip.text, "--derp-map", derpMap],
      ...["--socket", this.#socket(namespace), "--auth-key-file", this.#authKeyFile],
    ]);
    const pin = join(this.#stateFolder(namespace), "cert-pin");
    await server.readyFile(pin, START_TIMEOUT_MS);
    this.#loginServer = `https://${ip.text}`;
    this.#certPin = readFileSync(pin, "utf8").trim();
  }

  /**
   * Returns when the daemon is registered.
   *
   * @param config the agent.json that it finds on its machine
   */
  async startDaemon(namespace: string, hostname: string, config: object): Promise<void> {
    const daemon = this.#start(namespace, "daemon", config, [
      ...["--tun", "sallyport0", "--socket", this.#socket(namespace), "--hostname", hostname],
      ...["--login-server", this.#loginServer, "--cert-pin", this.#certPin],
      ...["--auth-key", `file:${this.#authKeyFile}`],
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
      command: this.#command([command, ...this.#commandFlags(namespace), ...rest]),
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

  /** With a configuration file of its own: what lies in /etc/sallyport is not the lab's. */
  #start(namespace: string, role: string, config: object, args: readonly string[]): LabProcess {
    const state = this.#stateFolder(namespace);
    const file = join(state, "agent.json");
    writeFileSync(file, JSON.stringify(config, undefined, 2));
    return this.#lab.start(namespace, {
      name: `${namespace}-${role}`,
      command: this.#command([role, "--config", file, "--state-dir", state, ...args]),
    });
  }

  #command(args: readonly string[]): string[] {
    return [process.execPath, join(this.#bundle, BUNDLE), ...args];
  }

  #commandFlags(namespace: string): string[] {
    return [
      "--config",
      join(this.#stateFolder(namespace), "agent.json"),
      "--socket",
      this.#socket(namespace),
    ];
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
