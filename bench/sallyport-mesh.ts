/** Sallyport's own relay, coordination server and daemons, as the bundle in a folder runs them. */
import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LabProcess } from "../lab/processes.ts";
import { CONTROL_IP, EXIT_NODES, RELAY_IP, type MachineName } from "./internet.ts";
import {
  type BenchLab,
  clock,
  Device,
  folderIn,
  LineWatch,
  type Mesh,
  runCommand,
  type StartedDevice,
} from "./mesh.ts";

const START_LIMIT_MS = 15_000;

export interface ControlServer {
  readonly process: LabProcess;
  readonly url: string;
  readonly pin: string;
  readonly authKeyFile: string;
  /** PEM. */
  readonly certificate: string;
}

export class SallyportMesh implements Mesh {
  readonly name: string;
  readonly lab: BenchLab;
  readonly servers: Record<string, LabProcess> = {};
  readonly #agent: Agent;
  #control: ControlServer | undefined;

  /** @param bundle the folder that `npm run build` made @param how the daemons are started */
  constructor(name: string, lab: BenchLab, bundle: string, how: AgentOptions = {}) {
    this.name = name;
    this.lab = lab;
    this.#agent = new Agent(lab, bundle, how);
  }

  async startServers(): Promise<void> {
    const state = folderIn(this.lab, "relay");
    const relay = this.#agent.start("relay", "relay", [
      ...["--state-dir", state, "--listen", "0.0.0.0:443", "--stun-port", "3478", "--hostname", RELAY_IP],
      ...["--address", RELAY_IP, "--region-id", "900", "--region-code", "nyc"],
    ]);
    const map = join(state, "derp-map.json");
    await relay.readyFile(map, START_LIMIT_MS);
    this.#control = await startControl(this.#agent, map);
    this.servers["relay"] = relay;
    this.servers["coordination"] = this.#control.process;
  }

  async startDevice(machine: MachineName, identity: string): Promise<StartedDevice> {
    const state = folderIn(this.lab, identity);
    if (!existsSync(join(state, "agent-state.json"))) {
      const first = this.#start(machine, identity, state, () => {});
      if ((await first.untilRunning()) === undefined) throw new Error(notRunning(identity, first));
      await first.stop();
    }
    const relayUp = new LineWatch(/"event":"relay-up"/);
    const began = clock();
    const device = this.#start(machine, identity, state, relayUp.take);
    const running = await device.untilRunning();
    if (running === undefined) throw new Error(notRunning(identity, device));
    return { device, runningMs: running - began, relayMs: (await relayUp.seen(device.program)) - began };
  }

  async command(machine: MachineName, identity: string, words: readonly string[]): Promise<void> {
    const [name = "", ...args] = words;
    const socket = join(folderIn(this.lab, identity), "sock");
    await runCommand(this.lab, machine, [...this.#agent.command(name), "--socket", socket, ...args]);
  }

  #start(machine: MachineName, identity: string, state: string, onLine: (line: string) => void): Device {
    if (this.#control === undefined) throw new Error("the servers come first");
    const { url, pin, authKeyFile } = this.#control;
    const socketPath = join(state, "sock");
    const program = this.#agent.start(
      machine,
      "daemon",
      [
        ...["--state-dir", state, "--socket", socketPath, "--tun", "sallyport0", "--hostname", identity],
        ...["--login-server", url, "--cert-pin", pin, "--auth-key", `file:${authKeyFile}`],
        ...(EXIT_NODES.some((name) => name === machine) ? SPLIT_EGRESS : []),
      ],
      onLine,
    );
    return new Device(program, { socketPath, host: "localhost", prefix: "/v1/" });
  }
}

/** By interface names, since there are no metadata. */
const SPLIT_EGRESS = ["--egress-mode", "split", "--egress-interface", "nat0", "--ingress-interface", "eth0"];

const notRunning = (identity: string, { program }: Device): string =>
  `${identity} did not register; its last words:\n${program.lines.slice(-5).join("\n")}`;

export interface AgentOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** What Node is to do besides. */
  readonly nodeArgs?: readonly string[];
}

/** The bundle, in a folder with nothing else. */
export class Agent {
  readonly lab: BenchLab;
  readonly #bundle: string;
  readonly #config: string;
  readonly #options: AgentOptions;

  constructor(lab: BenchLab, bundle: string, options: AgentOptions = {}) {
    this.#options = options;
    if (!existsSync(join(bundle, BUNDLE)))
      throw new Error(`there is no agent in ${bundle}: run npm run build`);
    this.lab = lab;
    const copy = folderIn(lab, "agent");
    cpSync(bundle, copy, { recursive: true });
    this.#bundle = join(copy, BUNDLE);
    this.#config = join(copy, "agent.json");
    writeFileSync(this.#config, "{}");
  }

  start(
    namespace: MachineName,
    role: string,
    args: readonly string[],
    onLine?: (line: string) => void,
  ): LabProcess {
    const { env = {}, nodeArgs = [] } = this.#options;
    return this.lab.start(namespace, {
      name: `${namespace}-${role}`,
      env,
      command: [...this.command(role, [...NODE_ARGS, ...nodeArgs]), ...args],
      ...(onLine === undefined ? {} : { onLine }),
    });
  }

  /** The beginning of one of its commands. */
  command(name: string, nodeArgs: readonly string[] = []): readonly string[] {
    return [process.execPath, ...nodeArgs, this.#bundle, name, "--config", this.#config];
  }
}

/** What Node is to do besides, such as `--cpu-prof`. */
const NODE_ARGS = (process.env["BENCH_NODE_ARGS"] ?? "").split(" ").filter((word) => word !== "");
const BUNDLE = "sallyport.mjs";

export async function startControl(agent: Agent, derpMap: string): Promise<ControlServer> {
  const state = folderIn(agent.lab, "control");
  const authKeyFile = join(state, "auth-key");
  const server = agent.start("control", "control", [
    ...["--state-dir", state, "--listen", "0.0.0.0:443", "--hostname", CONTROL_IP, "--derp-map", derpMap],
    ...["--socket", join(state, "sock"), "--auth-key-file", authKeyFile],
  ]);
  await server.readyFile(join(state, "cert-pin"), START_LIMIT_MS);
  await server.readyFile(authKeyFile, START_LIMIT_MS);
  const [certificate = ""] =
    /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n?/.exec(
      readFileSync(join(state, "tls.pem"), "utf8"),
    ) ?? [];
  const pin = readFileSync(join(state, "cert-pin"), "utf8").trim();
  return { process: server, url: `https://${CONTROL_IP}`, pin, authKeyFile, certificate };
}
