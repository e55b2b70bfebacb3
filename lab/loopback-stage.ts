/**
 * The stage of loopback sockets: the bundle's roles in this process, their UDP ports behind simulated NATs. The commands are
 * processes as everywhere; packets of other programs have no way into these tunnels.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Ip } from "../agent/src/base/address.ts";
import { InternalError } from "../agent/src/base/errors.ts";
import { silentLog } from "../agent/src/base/log.ts";
import type * as Agent from "../agent/src/main.ts";
import { BUNDLE, checkBundle } from "./bundle.ts";
import { type LoopbackInternet, openLoopbackInternet } from "./loopback.ts";
import type { NodeSettings } from "./node-settings.ts";
import { Processes } from "./processes.ts";
import { type CommandResult, describeHost, readStatus, type Stage, timed, untilRunning } from "./stage.ts";
import { exitNodeOf, type Topology } from "./topology.ts";

const LOOPBACK = "127.0.0.1";
const COMMAND_TIMEOUT_MS = 60_000;

export interface LoopbackStageOptions {
  readonly topology: Topology;
  readonly node: NodeSettings;
  /** What `npm run build` made. */
  readonly agent: string;
}

interface Joining {
  readonly loginServer: string;
  readonly authKey: string;
  readonly certPin: string | undefined;
}

export class LoopbackStage implements Stage {
  readonly probe = undefined;
  readonly exit = undefined;
  readonly #options: LoopbackStageOptions;
  readonly #folder = mkdtempSync(join(tmpdir(), "sallyport-loopback-"));
  readonly #processes = new Processes("loopback", join(this.#folder, "logs"));
  readonly #running: { close(): Promise<unknown> }[] = [];

  /** @throws UsageError when there is no bundle */
  constructor(options: LoopbackStageOptions) {
    checkBundle(options.agent);
    this.#options = options;
    cpSync(options.agent, join(this.#folder, "agent"), { recursive: true });
    writeFileSync(this.#config, "{}");
  }

  async start(say: (line: string) => void): Promise<void> {
    const { topology, node } = this.#options;
    const { clients } = topology.cast;
    const exitNode = exitNodeOf(topology.cast);
    const agent = (await import(pathToFileURL(this.#bundle).href)) as typeof Agent;
    const internet = await openLoopbackInternet(topology, node.port);
    this.#running.push(internet);
    const region = await timed(say, `relay ${this.#relayCode}`, this.#startRelay(agent));
    const joining = await timed(say, "coordination server", this.#startControl(agent, region));
    const daemon = (host: string, hostname: string): Promise<void> =>
      this.#startDaemon(agent, internet, host, hostname, joining);
    await timed(say, node.hostname, daemon(exitNode.namespace, node.hostname));
    await Promise.all(
      clients.map(({ namespace, nat }) =>
        timed(say, describeHost(namespace, nat), daemon(namespace, namespace)),
      ),
    );
  }

  async command(
    host: string,
    [command = "", ...args]: readonly string[],
    onLine?: (line: string) => void,
  ): Promise<CommandResult> {
    const options = {
      name: `${host}-${command}`,
      namespace: undefined,
      command: [
        process.execPath,
        this.#bundle,
        command,
        "--config",
        this.#config,
        "--socket",
        this.#socket(host),
        ...args,
      ],
      ...(onLine === undefined ? {} : { onLine }),
    };
    const { code, lines } = await this.#processes.run(options, COMMAND_TIMEOUT_MS);
    return { code: code ?? 1, lines };
  }

  /** Ends all roles and commands and removes the files. May be called more than once. */
  async close(): Promise<void> {
    await this.#processes.stopAll();
    await Promise.allSettled(
      this.#running
        .splice(0)
        .toReversed()
        .map((one) => one.close()),
    );
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #startRelay(agent: typeof Agent): Promise<object> {
    const relay = await agent.startRelay({
      listen: { host: LOOPBACK, port: 0 },
      stunPort: 0,
      hostname: LOOPBACK,
      addresses: [Ip.parse(LOOPBACK)],
      stateDir: this.#stateFolder("relay"),
      regionId: 900,
      regionCode: this.#relayCode,
      log: silentLog,
    });
    this.#running.push(relay);
    return { Regions: { 900: relay.derpMapRegion } };
  }

  async #startControl(agent: typeof Agent, derpMap: object): Promise<Joining> {
    const stateDir = this.#stateFolder("control");
    const authKeyFile = join(stateDir, "auth-key");
    const control = await agent.startControl({
      listen: { host: LOOPBACK, port: 0 },
      stateDir,
      derpMap: JSON.parse(JSON.stringify(derpMap)),
      authKeyFile,
      log: silentLog,
    });
    this.#running.push(control);
    const authKey = readFileSync(authKeyFile, "utf8").trim();
    return { loginServer: control.url, authKey, certPin: control.certPin };
  }

  async #startDaemon(
    agent: typeof Agent,
    internet: LoopbackInternet,
    host: string,
    hostname: string,
    joining: Joining,
  ): Promise<void> {
    const udp = internet.sockets.get(host);
    if (udp === undefined) throw new InternalError("lab-loopback", `${host} has no UDP port`);
    const daemon = await agent.startDaemon({
      ...joining,
      port: 0,
      tun: "memory",
      stateDir: this.#stateFolder(host),
      socket: this.#socket(host),
      log: silentLog,
      loopback: true,
      openUdp: () => Promise.resolve(udp),
      hostname,
      advertiseExitNode: host === exitNodeOf(this.#options.topology.cast).namespace,
    });
    this.#running.push(daemon);
    await untilRunning(
      () => readStatus(this, host),
      host,
      () => JSON.stringify(daemon.backend.status().Health),
    );
  }

  get #relayCode(): string {
    return this.#options.topology.cast.relays[0]?.namespace ?? "relay";
  }

  /** With nothing in it: what lies in /etc/sallyport is not the lab's. */
  get #config(): string {
    return join(this.#folder, "agent.json");
  }

  get #bundle(): string {
    return join(this.#folder, "agent", BUNDLE);
  }

  #stateFolder(host: string): string {
    const folder = join(this.#folder, "state", host);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  #socket(host: string): string {
    return join(this.#stateFolder(host), "sock");
  }
}
