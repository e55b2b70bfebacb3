/** The stage of namespaces: every agent is a process of its own, the bundle in a folder with nothing else. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { InternalError } from "../agent/src/base/errors.ts";
import { BUNDLE, checkBundle } from "./bundle.ts";
import { exitNodeOf, type ServerPart } from "./topology.ts";
import type { Lab } from "./lab.ts";
import type { NodeSettings } from "./node-settings.ts";
import type { LabProcess } from "./processes.ts";
import {
  type CommandResult,
  describeHost,
  type Stage,
  START_TIMEOUT_MS,
  timed,
  untilRunning,
} from "./stage.ts";

const COMMAND_TIMEOUT_MS = 60_000;
const PROBE_TIMEOUT_MS = 15_000;
/** Of the web server on the exit node, inside the tunnel. */
const HTTP_PORT = 8080;

export interface NamespaceStageOptions {
  readonly lab: Lab;
  readonly node: NodeSettings;
  /** What `npm run build` made. */
  readonly agent: string;
  /** The command that runs this program again. */
  readonly self: readonly string[];
}

export class NamespaceStage implements Stage {
  readonly #options: NamespaceStageOptions;
  readonly #bundle: string;
  #joining: readonly string[] = [];

  /** @throws UsageError when there is no bundle */
  constructor(options: NamespaceStageOptions) {
    checkBundle(options.agent);
    this.#options = options;
    this.#bundle = join(options.lab.folder, "agent");
    cpSync(options.agent, this.#bundle, { recursive: true });
  }

  async start(say: (line: string) => void): Promise<void> {
    const { lab, node, self } = this.#options;
    const {
      relays: [relay],
      control,
      clients,
    } = lab.topology.cast;
    const exitNode = exitNodeOf(lab.topology.cast);
    if (relay === undefined || control === undefined)
      throw new InternalError("lab-cast", "the story needs servers");
    const map = await timed(say, `relay ${relay.namespace} at ${relay.ip.text}`, this.#startRelay(relay));
    await timed(say, `coordination server at ${control.ip.text}`, this.#startControl(control, map));
    const where = `${node.hostname}, udp/${node.port}, public ${exitNode.publicIp.text}`;
    await timed(say, where, this.#startDaemon(exitNode.namespace, node.hostname, node.config));
    const daemons = clients.map(({ namespace, nat }) =>
      timed(say, describeHost(namespace, nat), this.#startDaemon(namespace, namespace, {})),
    );
    const web = lab.start(exitNode.namespace, {
      name: "web-server",
      command: [...self, "http-server", String(HTTP_PORT)],
    });
    await Promise.all([...daemons, web.readyLine(/^listening/, START_TIMEOUT_MS)]);
  }

  async command(
    host: string,
    [command = "", ...args]: readonly string[],
    onLine?: (line: string) => void,
  ): Promise<CommandResult> {
    const options = {
      name: `${host}-${command}`,
      command: [...this.#program(command), ...this.#where(host), ...args],
      ...(onLine === undefined ? {} : { onLine }),
    };
    const { code, lines } = await this.#options.lab.run(host, options, COMMAND_TIMEOUT_MS);
    return { code: code ?? 1, lines };
  }

  async probe(host: string, address: string, say: (line: string) => void): Promise<boolean> {
    const { lab, self } = this.#options;
    let arrived = true;
    for (const command of [
      ["icmp", address],
      ["http-get", `http://${address}:${HTTP_PORT}/`],
    ]) {
      say(`$ ${command.join(" ")}`);
      const options = { name: `${host}-${command[0]}`, command: [...self, ...command], onLine: say };
      arrived = (await lab.run(host, options, PROBE_TIMEOUT_MS)).code === 0 && arrived;
    }
    return arrived;
  }

  /** @returns the file with the relay map that has this relay */
  async #startRelay({ namespace, ip }: ServerPart): Promise<string> {
    const map = join(this.#stateFolder(namespace), "derp-map.json");
    const relay = this.#launch(namespace, "relay", {}, [
      ...["--listen", "0.0.0.0:443", "--stun-port", "3478"],
      ...["--hostname", ip.text, "--address", ip.text],
      ...["--region-id", "900", "--region-code", namespace],
    ]);
    await relay.readyFile(map, START_TIMEOUT_MS);
    return map;
  }

  async #startControl({ namespace, ip }: ServerPart, derpMap: string): Promise<void> {
    const { lab } = this.#options;
    const authKey = join(lab.folder, "auth-key");
    const pin = join(this.#stateFolder(namespace), "cert-pin");
    const server = this.#launch(namespace, "control", {}, [
      ...["--listen", "0.0.0.0:443", "--hostname", ip.text, "--derp-map", derpMap],
      ...["--socket", this.#socket(namespace), "--auth-key-file", authKey],
    ]);
    await server.readyFile(pin, START_TIMEOUT_MS);
    const pinned = readFileSync(pin, "utf8").trim();
    this.#joining = [
      ...["--login-server", `https://${ip.text}`],
      ...["--cert-pin", pinned, "--auth-key", `file:${authKey}`],
    ];
  }

  /** @param config the agent.json that the daemon finds on its machine */
  async #startDaemon(host: string, hostname: string, config: object): Promise<void> {
    const daemon = this.#launch(host, "daemon", config, [
      ...["--tun", "sallyport0", "--socket", this.#socket(host), "--hostname", hostname],
      ...this.#joining,
    ]);
    await daemon.readyFile(this.#socket(host), START_TIMEOUT_MS);
    await untilRunning(this, host, () => daemon.lines.slice(-5).join("\n  "));
  }

  /** With a configuration file of its own: what lies in /etc/sallyport is not the lab's. */
  #launch(host: string, role: string, config: object, args: readonly string[]): LabProcess {
    const state = this.#stateFolder(host);
    writeFileSync(this.#configFile(host), JSON.stringify(config, undefined, 2));
    const flags = ["--config", this.#configFile(host), "--state-dir", state, ...args];
    return this.#options.lab.start(host, {
      name: `${host}-${role}`,
      command: [...this.#program(role), ...flags],
    });
  }

  #program(command: string): string[] {
    return [process.execPath, join(this.#bundle, BUNDLE), command];
  }

  #where(host: string): string[] {
    return ["--config", this.#configFile(host), "--socket", this.#socket(host)];
  }

  #stateFolder(host: string): string {
    const folder = join(this.#options.lab.folder, "state", host);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  #configFile(host: string): string {
    return join(this.#stateFolder(host), "agent.json");
  }

  #socket(host: string): string {
    return join(this.#stateFolder(host), "sock");
  }
}
