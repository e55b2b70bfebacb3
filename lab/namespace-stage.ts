/** The stage of namespaces: every agent is a process of its own, the bundle in a folder with nothing else. */
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { InternalError } from "../agent/src/base/errors.ts";
import { Agents } from "./agents.ts";
import { checkBundle } from "./bundle.ts";
import { exitNodeOf, type ServerPart } from "./topology.ts";
import type { Lab } from "./lab.ts";
import type { NodeSettings } from "./node-settings.ts";
import {
  type CommandResult,
  describeHost,
  readStatus,
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
  readonly #agents: Agents;
  #joining: readonly string[] = [];

  /** @throws UsageError when there is no bundle */
  constructor(options: NamespaceStageOptions) {
    checkBundle(options.agent);
    this.#options = options;
    const agent = join(options.lab.folder, "agent");
    cpSync(options.agent, agent, { recursive: true });
    this.#agents = new Agents({ lab: options.lab, agent });
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
    args: readonly string[],
    onLine?: (line: string) => void,
  ): Promise<CommandResult> {
    const options = {
      name: `${host}-${args[0] ?? ""}`,
      command: this.#agents.command(host, args),
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
    const map = join(this.#agents.stateFolder(namespace), "derp-map.json");
    const relay = this.#agents.launch(namespace, "relay", [
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
    const pin = join(this.#agents.stateFolder(namespace), "cert-pin");
    const server = this.#agents.launch(namespace, "control", [
      ...["--listen", "0.0.0.0:443", "--hostname", ip.text, "--derp-map", derpMap],
      ...["--socket", this.#agents.socket(namespace), "--auth-key-file", authKey],
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
    const daemon = this.#agents.launch(
      host,
      "daemon",
      [
        ...["--tun", "sallyport0", "--socket", this.#agents.socket(host), "--hostname", hostname],
        ...this.#joining,
      ],
      config,
    );
    await daemon.readyFile(this.#agents.socket(host), START_TIMEOUT_MS);
    await untilRunning(
      () => readStatus(this, host),
      host,
      () => daemon.lines.slice(-5).join("\n  "),
    );
  }
}
