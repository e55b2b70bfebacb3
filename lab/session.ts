/**
 * A whole lab that runs: the networks, AWS's services, every instance by its own user data, and the hosts around them, each with
 * an agent that has joined. `sallyport lab up` and the scenarios are made of it.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../agent/src/base/errors.ts";
import { LocalApiClient } from "../agent/src/io/local-api-client.ts";
import { Agents } from "./agents.ts";
import { checkBundle } from "./bundle.ts";
import { NETNS_FILES, removeNamespace } from "./cleanup.ts";
import type { Hands } from "./cloud/hands.ts";
import type { RunningCloud } from "./cloud/running.ts";
import { answers } from "./dial.ts";
import { Lab } from "./lab.ts";
import { Machines } from "./machine/machines.ts";
import { addLink, addNamespace, changeNamespace, type BuildOptions } from "./namespaces.ts";
import type { LinkSpec } from "./network.ts";
import { startServices, type Services } from "./services/services.ts";
import { type Joining, Servers } from "./servers.ts";
import {
  type CommandResult,
  describeHost,
  START_TIMEOUT_MS,
  type StatusJson,
  timed,
  untilRunning,
} from "./stage.ts";
import { sleep } from "./system.ts";
import { type ClientPart, planTopology } from "./topology.ts";
import type { World } from "./world.ts";

export interface SessionOptions {
  readonly cloud: RunningCloud;
  readonly world: World;
  /** What `npm run build` made. */
  readonly agent: string;
  /** The command that runs this program again. */
  readonly self: readonly string[];
  /** @default it has none but its id */
  readonly name?: string;
  readonly runFolder?: string;
  /** Where the logs go when it can not be built. */
  readonly keepLogsIn: string;
  /** Parameters and secrets that people write by hand: the join token, or a text. Names and ARNs → values. */
  readonly store?: Readonly<Record<string, string>>;
  /** Names that DNS knows → hosts of the world. */
  readonly names?: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
  /** Machines have come or gone. */
  readonly onChange?: (session: Session) => void;
  readonly onLeftovers?: (ids: readonly string[]) => void;
  /** The networks are there; closing them ends what is being started in them. */
  readonly onLab?: (lab: Lab) => void;
}

/** In `store`: what devices join with, once the network has it. */
export const JOIN_TOKEN = "join-token";

const BOOT_TIMEOUT_MS = 60_000;
const COMMAND_TIMEOUT_MS = 60_000;
/** A machine whose ingress is on an interface of its own answers only once its agent has programmed it. */
const JOIN_TIMEOUT_MS = 90_000;
const PROBE_TIMEOUT_MS = 15_000;
/** Of a load balancer's health check. */
const CHECK_TIMEOUT_MS = 2_000;
const POLL_MS = 20;
/** Of an instance's agent. */
const MACHINE_SOCKET = "/run/sallyport/agent.sock";

export class Session {
  readonly lab: Lab;
  readonly cloud: RunningCloud;
  readonly machines: Machines;
  readonly services: Services;
  readonly #options: SessionOptions;
  readonly #agents: Agents;
  #joining: Joining | undefined;
  #closed = false;

  private constructor(lab: Lab, services: Services, options: SessionOptions) {
    this.lab = lab;
    this.cloud = options.cloud;
    this.services = services;
    this.#options = options;
    this.#agents = new Agents({ lab, agent: options.agent, env: services.environment });
    this.machines = new Machines({ lab, services, agent: options.agent, say: options.say });
  }

  /** Builds and starts everything; when that fails nothing but logs stays behind. @throws SallyportError */
  static async open(options: SessionOptions): Promise<Session> {
    checkBundle(options.agent);
    const { cloud, world, self, keepLogsIn } = options;
    const topology = planTopology(cloud, world);
    const lab = await Lab.open(topology, {
      ...{ self, keepLogsIn },
      ...(options.name === undefined ? {} : { name: options.name }),
      ...(options.runFolder === undefined ? {} : { runFolder: options.runFolder }),
      ...(options.onLeftovers === undefined ? {} : { onLeftovers: options.onLeftovers }),
    });
    options.onLab?.(lab);
    let session: Session | undefined;
    try {
      const folder = join(lab.folder, "services");
      mkdirSync(folder, { mode: 0o755 });
      const services = await startServices(
        cloud,
        { folder, netns: (name) => lab.namespace(name) },
        { hosts: (name) => hostAddress(topology.cast, options.names?.[name]) },
      );
      session = new Session(lab, services, options);
      await session.#start();
      return session;
    } catch (error) {
      if (session !== undefined) await session.#stopCloud();
      throw await lab.abandon(error);
    }
  }

  get clients(): readonly ClientPart[] {
    return this.lab.topology.cast.clients;
  }

  /** Runs `sallyport ARGS` on a client or an instance. */
  async command(
    host: string,
    args: readonly string[],
    onLine?: (line: string) => void,
  ): Promise<CommandResult> {
    if (this.machines.has(host)) return this.exec(host, ["sallyport", ...args], onLine);
    return this.exec(host, this.#agents.command(host, args), onLine);
  }

  /** What the agent there says of itself and its peers; empty while it doesn't answer. */
  async status(host: string): Promise<StatusJson> {
    const socket = this.machines.has(host)
      ? this.machines.path(host, MACHINE_SOCKET)
      : this.#agents.socket(host);
    return new LocalApiClient(socket).status().catch(() => ({}));
  }

  /** Runs any command on a host or an instance. */
  async exec(
    host: string,
    command: readonly string[],
    onLine?: (line: string) => void,
    timeoutMs = COMMAND_TIMEOUT_MS,
  ): Promise<CommandResult> {
    if (this.machines.has(host)) {
      const running = this.machines.start(host, command, onLine);
      const late = setTimeout(() => void running.stop(), timeoutMs);
      const exit = await running.exited;
      clearTimeout(late);
      return { code: exit.code ?? 1, lines: running.lines };
    }
    const { code, lines } = await this.lab.run(
      host,
      { name: `${host}-command`, command, cwd: "/", ...(onLine === undefined ? {} : { onLine }) },
      timeoutMs,
    );
    return { code: code ?? 1, lines };
  }

  /** Runs one of the lab's own programs on a client. */
  probe(host: string, command: readonly string[]): Promise<CommandResult> {
    return this.exec(host, [...this.#options.self, ...command], undefined, PROBE_TIMEOUT_MS);
  }

  /** A host's wire to the internet, or its router's. @param state "no-udp": everything else still passes */
  async setUplink(host: string, state: "up" | "down" | "no-udp"): Promise<CommandResult> {
    const { links } = this.lab.topology;
    const wireOf = (wanted: string): LinkSpec | undefined =>
      links.find(
        ({ ends }) =>
          ends.some(({ namespace }) => namespace === "internet") &&
          ends.some(({ namespace }) => namespace === wanted),
      );
    const link = wireOf(`${host}-nat`) ?? wireOf(host);
    const end = link?.ends.find(({ namespace }) => namespace === "internet");
    if (end === undefined) throw new OperationError("lab-host", `${host} has no wire to the internet`);
    const what = state === "no-udp" ? "meta l4proto udp drop" : "drop";
    const rules =
      state === "up"
        ? `delete table inet cut-${end.device}`
        : `table inet cut-${end.device} { chain forward { type filter hook forward priority filter; iifname "${end.device}" ${what}; oifname "${end.device}" ${what}; }; }`;
    const { code, lines } = await this.lab.run(
      "internet",
      { name: "uplink", command: ["nft", rules] },
      PROBE_TIMEOUT_MS,
    );
    return { code: code ?? 1, lines };
  }

  /** What a machine is called in the tailnet, as its agent knows; undefined while that doesn't answer or has no map. */
  async tailnetName(namespace: string): Promise<string | undefined> {
    const { BackendState, Self } = await this.status(namespace);
    return BackendState === "Running" ? Self?.HostName : undefined;
  }

  async close(): Promise<void> {
    await this.#stopCloud();
    await this.lab.close();
  }

  async #stopCloud(): Promise<void> {
    this.#closed = true;
    this.cloud.stop();
    await this.services.close();
  }

  async #start(): Promise<void> {
    const { lab, cloud, services } = this;
    const { self, say, names = {} } = this.#options;
    const fileOf = (namespace: string, path: string): Promise<string> => this.#fileOf(namespace, path);
    const servers = new Servers({ lab, cloud, services, agents: this.#agents, self, names, fileOf });
    this.#resolveNames();
    const boot = async (): Promise<void> => {
      await cloud.start(this.#hands());
      await this.#everyMachine((namespace) =>
        timed(say, `${namespace} has run its user data`, this.machines.booted(namespace)),
      );
    };
    const join_ = async (): Promise<void> => {
      this.#joining = await servers.startNetwork();
      this.#storeByHand();
    };
    await Promise.all([servers.startWeb(), boot(), join_()]);
    await Promise.all(
      this.clients.map((client) =>
        timed(say, `${describeHost(client.namespace, client.nat)} has joined`, this.#startClient(client)),
      ),
    );
  }

  #hands(): Hands {
    const build: BuildOptions = {
      labId: this.lab.id,
      processes: this.lab.processes,
      self: this.#options.self,
    };
    const sizes = new Map(this.cloud.read.model.volumes.map(({ id, sizeGib }) => [id, sizeGib]));
    return {
      addNamespace: (name) => addNamespace(name, build),
      removeNamespace: async (name) => {
        this.machines.forget(name);
        await removeNamespace(this.lab.namespace(name));
        this.#options.onChange?.(this);
      },
      wire: async ({ link, changes }) => {
        if (link !== undefined) await addLink(link, build);
        for (const change of changes) await changeNamespace(change, build);
      },
      unwire: (change) => changeNamespace(change, build),
      attachVolume: (id, instance) => this.machines.attachVolume(id, sizes.get(id) ?? 1, instance),
      detachVolume: (id, instance) => this.machines.detachVolume(id, instance),
      boot: async (instance) => {
        await this.machines.boot(instance);
        this.#options.onChange?.(this);
      },
      answers: (namespace, from, to) =>
        answers({ netns: this.lab.namespace(namespace), from, to }, CHECK_TIMEOUT_MS),
      say: (line) => this.#options.say(line),
    };
  }

  async #everyMachine(work: (namespace: string) => Promise<void>): Promise<void> {
    await Promise.all(
      this.cloud.instances.filter(({ state }) => state === "running").map(({ namespace }) => work(namespace)),
    );
  }

  /** Waits for a file of an instance. @throws OperationError */
  async #fileOf(namespace: string, path: string): Promise<string> {
    const deadline = performance.now() + BOOT_TIMEOUT_MS;
    while (!this.#closed) {
      const text = this.machines.read(namespace, path);
      if (text !== undefined && text !== "") return text;
      if (performance.now() > deadline) break;
      await sleep(POLL_MS);
    }
    throw new OperationError("lab-boot", `${namespace} has no ${path}`);
  }

  #storeByHand(): void {
    for (const [name, text] of Object.entries(this.#options.store ?? {})) {
      const value = text === JOIN_TOKEN ? (this.#joining?.token ?? "") : text;
      for (const region of this.cloud.regions.values()) {
        if (!name.startsWith("arn:")) {
          const made = region.putParameter(name, value, { overwrite: true });
          Object.assign(made, { type: "SecureString" });
        } else if (name.split(":")[3] === region.name) {
          region.secrets.set(name, { arn: name, name: (name.split(":")[6] ?? "").slice(0, -7), value });
        }
      }
    }
  }

  /** `ip netns exec` shows the file to what it starts. */
  #resolveNames(): void {
    const { ip } = this.cloud.endpointHost;
    for (const { namespace } of this.clients) {
      const folder = join(NETNS_FILES, this.lab.namespace(namespace));
      mkdirSync(folder, { recursive: true });
      writeFileSync(join(folder, "resolv.conf"), `nameserver ${ip}\n`);
    }
  }

  async #startClient({ namespace, port, forwarded }: ClientPart): Promise<void> {
    if (this.#joining === undefined) return;
    const { loginServer, token } = this.#joining;
    const [file, socket] = [
      join(this.#agents.stateFolder(namespace), "token"),
      this.#agents.socket(namespace),
    ];
    writeFileSync(file, token, { mode: 0o600 });
    const daemon = this.#agents.launch(namespace, "daemon", [
      ...["--tun", "sallyport0", "--socket", socket, "--hostname", namespace],
      ...["--login-server", loginServer, "--auth-key", `file:${file}`],
      ...(port === undefined && forwarded === undefined ? [] : ["--port", String(port ?? forwarded)]),
    ]);
    await daemon.readyFile(socket, START_TIMEOUT_MS);
    const lastWords = (): string => daemon.lines.slice(-5).join("\n  ");
    await untilRunning(() => this.status(namespace), namespace, lastWords, JOIN_TIMEOUT_MS);
  }
}

function hostAddress(
  { relays, control, web }: Lab["topology"]["cast"],
  host: string | undefined,
): readonly string[] | undefined {
  const part = [...relays, control, web].find((one) => one !== undefined && one.namespace === host);
  return part === undefined ? undefined : [part.ip.text];
}
