/**
 * A whole lab that runs: the networks, AWS's services, every instance by its own user data, and the hosts around them, each with
 * an agent that has joined. `sallyport lab up` and the scenarios are made of it.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { OperationError } from "../agent/src/base/errors.ts";
import { BUNDLE, checkBundle } from "./bundle.ts";
import { NETNS_FILES, removeNamespace } from "./cleanup.ts";
import type { Hands } from "./cloud/hands.ts";
import type { RunningCloud } from "./cloud/running.ts";
import { answers } from "./dial.ts";
import { Lab } from "./lab.ts";
import { Machines } from "./machine/machines.ts";
import { addLink, addNamespace, changeNamespace, type BuildOptions } from "./namespaces.ts";
import type { LinkSpec } from "./network.ts";
import type { LabProcess } from "./processes.ts";
import { startServices, type Services } from "./services/services.ts";
import { type CommandResult, readStatus, START_TIMEOUT_MS, untilRunning } from "./stage.ts";
import { sleep } from "./system.ts";
import { type ClientPart, planTopology, type ServerPart } from "./topology.ts";
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
  /** Parameters and secrets that people write by hand: the join token, or a text. Names and ARNs → values. */
  readonly store?: Readonly<Record<string, string>>;
  /** Names that DNS knows → hosts of the world. */
  readonly names?: Readonly<Record<string, string>>;
  readonly say: (line: string) => void;
  /** Machines have come or gone. */
  readonly onChange?: (session: Session) => void;
  readonly onLeftovers?: (ids: readonly string[]) => void;
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
const POLL_MS = 100;
const WEB_PORT = 80;
/** Beside the stacks' own, which begin at 900. */
const FIRST_RELAY_REGION = 950;

interface Joining {
  readonly loginServer: string;
  readonly token: string;
}

export class Session {
  readonly lab: Lab;
  readonly cloud: RunningCloud;
  readonly machines: Machines;
  readonly services: Services;
  readonly #options: SessionOptions;
  readonly #bundle: string;
  #joining: Joining | undefined;

  private constructor(lab: Lab, services: Services, options: SessionOptions) {
    this.lab = lab;
    this.cloud = options.cloud;
    this.services = services;
    this.#options = options;
    this.#bundle = join(options.agent, BUNDLE);
    this.machines = new Machines({ lab, services, agent: options.agent, say: options.say });
  }

  /** Builds and starts everything; when that fails nothing stays behind. @throws SallyportError */
  static async open(options: SessionOptions): Promise<Session> {
    checkBundle(options.agent);
    const { cloud, world, self } = options;
    const topology = planTopology(cloud, world);
    const lab = await Lab.open(topology, {
      self,
      ...(options.name === undefined ? {} : { name: options.name }),
      ...(options.runFolder === undefined ? {} : { runFolder: options.runFolder }),
      ...(options.onLeftovers === undefined ? {} : { onLeftovers: options.onLeftovers }),
    });
    try {
      const folder = join(lab.folder, "services");
      mkdirSync(folder, { mode: 0o755 });
      const services = await startServices(
        cloud,
        { folder, netns: (name) => lab.namespace(name) },
        { hosts: (name) => hostAddress(topology.cast, options.names?.[name]) },
      );
      const session = new Session(lab, services, options);
      try {
        await session.#start();
        return session;
      } catch (error) {
        await services.close();
        throw error;
      }
    } catch (error) {
      await lab.close();
      throw error;
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
    const [command = "", ...rest] = args;
    const where = ["--config", this.#configFile(host), "--socket", this.#socket(host)];
    return this.exec(host, [process.execPath, this.#bundle, command, ...where, ...rest], onLine);
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

  /** What a machine is called in the tailnet, as its agent knows; undefined while that doesn't answer. */
  async tailnetName(namespace: string): Promise<string | undefined> {
    return (await readStatus(this, namespace)).Self?.HostName;
  }

  async close(): Promise<void> {
    this.cloud.stop();
    await this.services.close();
    await this.lab.close();
  }

  async #start(): Promise<void> {
    const { cast } = this.lab.topology;
    await this.#startWeb();
    const relayMaps = await Promise.all(cast.relays.map((relay, i) => this.#startRelay(relay, i)));
    await this.cloud.start(this.#hands());
    await this.#everyMachine((namespace) => this.machines.booted(namespace));
    if (cast.control !== undefined) await this.#startControl(cast.control, await this.#derpMap(relayMaps));
    else this.#joining = await this.#joinTheStack();
    this.#storeByHand();
    this.#resolveNames();
    await Promise.all(this.clients.map((client) => this.#startClient(client)));
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

  async #startWeb(): Promise<void> {
    const { web } = this.lab.topology.cast;
    if (web === undefined) return;
    const server = this.lab.start(web.namespace, {
      name: "web",
      command: [...this.#options.self, "web", String(WEB_PORT)],
    });
    await server.readyLine(/^listening/, START_TIMEOUT_MS);
  }

  /** @returns the file with its relay map */
  async #startRelay({ namespace, ip }: ServerPart, index: number): Promise<string> {
    const map = join(this.#stateFolder(namespace), "derp-map.json");
    const relay = this.#launch(namespace, "relay", [
      ...["--listen", "0.0.0.0:443", "--stun-port", "3478"],
      ...["--hostname", ip.text, "--address", ip.text],
      ...["--region-id", String(FIRST_RELAY_REGION + index), "--region-code", namespace],
    ]);
    await relay.readyFile(map, START_TIMEOUT_MS);
    return map;
  }

  /** The lab's own relays and those of the stacks, as a person would put them together. */
  async #derpMap(own: readonly string[]): Promise<string> {
    const maps = own.map((file) => readFileSync(file, "utf8"));
    for (const { namespace, userData } of this.cloud.instances) {
      if (!userData.includes('"relay": {')) continue;
      maps.push(await this.#fileOf(namespace, "/var/lib/sallyport/derp-map.json"));
    }
    const regions = maps.map((text) => (JSON.parse(text) as { Regions: object }).Regions);
    const file = join(this.lab.folder, "derp-map.json");
    writeFileSync(file, JSON.stringify({ Regions: Object.assign({}, ...regions) as object }));
    return file;
  }

  async #startControl({ namespace, ip }: ServerPart, derpMap: string): Promise<void> {
    const state = this.#stateFolder(namespace);
    const [authKey, token] = [join(state, "auth-key"), join(state, "join-token")];
    const name = Object.entries(this.#options.names ?? {}).find(([, host]) => host === namespace)?.[0];
    const server = this.#launch(namespace, "control", [
      ...["--listen", "0.0.0.0:443", "--hostname", name ?? ip.text, "--derp-map", derpMap],
      ...["--socket", this.#socket(namespace), "--auth-key-file", authKey, "--join-token-file", token],
      ...(name === undefined ? [] : this.#certificate(state, name)),
    ]);
    await server.readyFile(token, START_TIMEOUT_MS);
    this.#joining = {
      loginServer: `https://${name ?? ip.text}`,
      token: readFileSync(token, "utf8").trim(),
    };
  }

  /** Of the lab's authority, so that it can stand for a server with a public certificate. */
  #certificate(state: string, name: string): readonly string[] {
    const { cert, key } = this.services.certificateFor(name);
    const [certFile, keyFile] = [join(state, "cert.pem"), join(state, "key.pem")];
    writeFileSync(certFile, cert);
    writeFileSync(keyFile, key, { mode: 0o600 });
    return ["--cert-file", certFile, "--key-file", keyFile];
  }

  /** The network of the stack's own coordination server, as its outputs would tell. @throws OperationError */
  async #joinTheStack(): Promise<Joining | undefined> {
    const server = this.cloud.instances.find(({ userData }) => userData.includes('"control": {'));
    if (server === undefined) {
      if (this.clients.length === 0) return undefined;
      throw new OperationError(
        "lab-network",
        "the stack has no coordination server and the world has none, so nobody can join: add a host with the role control",
      );
    }
    const token = (await this.#fileOf(server.namespace, "/var/lib/sallyport/join-token")).trim();
    const public_ = server.interfaces.find(({ publicIp }) => publicIp !== undefined)?.publicIp;
    return { loginServer: `https://${public_ ?? ""}`, token };
  }

  /** Waits for a file of an instance. @throws OperationError */
  async #fileOf(namespace: string, path: string): Promise<string> {
    const deadline = performance.now() + BOOT_TIMEOUT_MS;
    for (;;) {
      const { code, lines } = await this.exec(namespace, ["cat", path]);
      if (code === 0 && lines.length > 0) return lines.join("\n");
      if (performance.now() > deadline) {
        const log = join(this.lab.folder, "logs");
        throw new OperationError("lab-boot", `${namespace} has no ${path}: its logs are in ${log}`);
      }
      await sleep(POLL_MS);
    }
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
    const file = join(this.#stateFolder(namespace), "token");
    writeFileSync(file, token, { mode: 0o600 });
    const daemon = this.#launch(namespace, "daemon", [
      ...["--tun", "sallyport0", "--socket", this.#socket(namespace), "--hostname", namespace],
      ...["--login-server", loginServer, "--auth-key", `file:${file}`],
      ...(port === undefined && forwarded === undefined ? [] : ["--port", String(port ?? forwarded)]),
    ]);
    await daemon.readyFile(this.#socket(namespace), START_TIMEOUT_MS);
    await untilRunning(this, namespace, () => daemon.lines.slice(-5).join("\n  "), JOIN_TIMEOUT_MS);
  }

  /** With a configuration file of its own: what lies in /etc/sallyport is not the lab's. */
  #launch(host: string, role: string, args: readonly string[]): LabProcess {
    const state = this.#stateFolder(host);
    writeFileSync(this.#configFile(host), "{}");
    return this.lab.start(host, {
      name: `${host}-${role}`,
      command: [
        ...[process.execPath, this.#bundle, role],
        ...["--config", this.#configFile(host), "--state-dir", state, ...args],
      ],
      env: this.services.environment,
    });
  }

  #stateFolder(host: string): string {
    const folder = join(this.lab.folder, "state", host);
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

function hostAddress(
  { relays, control, web }: Lab["topology"]["cast"],
  host: string | undefined,
): readonly string[] | undefined {
  const part = [...relays, control, web].find((one) => one !== undefined && one.namespace === host);
  return part === undefined ? undefined : [part.ip.text];
}
