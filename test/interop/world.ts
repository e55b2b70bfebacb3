/**
 * A small internet for the real peers: machines with public addresses around one router, which can drop UDP between
 * any two of them. Every machine runs in a network namespace; nothing is left behind (lab/).
 */
import { cpSync, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../lab/lab.ts";
import type { Exit, LabProcess, StartOptions } from "../../lab/processes.ts";
import { run } from "../../lab/system.ts";
import type { Network } from "../../lab/network.ts";
import { bundleLab, type LabBundle } from "../lab/bundle.ts";

export const RELAY = "relay";
export const CONTROL = "control";
/** The machine that runs Sallyport. */
export const OURS = "ours";
/** The machine that runs the unmodified peer. */
export const THEIRS = "theirs";

/** RFC 2544's addresses: public to look at, and nobody's. */
const ADDRESSES: Readonly<Record<Host, string>> = {
  [RELAY]: "198.18.1.10",
  [CONTROL]: "198.18.1.20",
  [OURS]: "198.18.1.30",
  [THEIRS]: "198.18.1.40",
};

export type Host = typeof RELAY | typeof CONTROL | typeof OURS | typeof THEIRS;

/** How a program ended and all that it said. */
export interface Said extends Exit {
  readonly lines: readonly string[];
}

type Start = Omit<StartOptions, "namespace">;

export class World {
  readonly #lab: Lab<Network>;
  readonly #programs: LabBundle;

  private constructor(lab: Lab<Network>, programs: LabBundle) {
    this.#lab = lab;
    this.#programs = programs;
  }

  /** @throws OperationError with what `ip` or `nft` said */
  static async open(): Promise<World> {
    const agent = join(__dirname, "../../dist/agent");
    if (!existsSync(join(agent, BUNDLE))) throw new Error(`there is no agent in ${agent}: run npm run build`);
    const programs = bundleLab();
    try {
      const world = new World(await Lab.open(plan(), { self: programs.self }), programs);
      cpSync(agent, join(world.#lab.folder, "agent"), { recursive: true });
      return world;
    } catch (error) {
      programs.remove();
      throw error;
    }
  }

  addressOf(host: Host): string {
    return ADDRESSES[host];
  }

  /** Keys, state and sockets of one machine. */
  folderOf(host: Host): string {
    const folder = join(this.#lab.folder, "state", host);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    return folder;
  }

  /** `sallyport ARGS`: the bundle, in a folder with nothing else. */
  sallyport(...args: readonly string[]): readonly string[] {
    return [process.execPath, join(this.#lab.folder, "agent", BUNDLE), ...args];
  }

  start(host: Host, options: Start): LabProcess {
    return this.#lab.start(host, options);
  }

  run(host: Host, options: Start, timeoutMs = RUN_TIMEOUT_MS): Promise<Said> {
    return this.#lab.run(host, options, timeoutMs);
  }

  /** Drops UDP between two machines at the router, as a firewall does: without a word. */
  async cutUdp(one: Host, other: Host): Promise<void> {
    const both = `{ ${ADDRESSES[one]}, ${ADDRESSES[other]} }`;
    await this.#nft(`add rule ${CHAIN} ip saddr ${both} ip daddr ${both} meta l4proto udp drop`);
  }

  async restoreUdp(): Promise<void> {
    await this.#nft(`flush chain ${CHAIN}`);
  }

  /** Whether the kernel's own ICMP echo comes back. */
  async answersEcho(from: Host, ip: string): Promise<boolean> {
    const { code, lines } = await this.#lab.run(
      from,
      this.#program("icmp", ip, "--count", "3"),
      RUN_TIMEOUT_MS,
    );
    return code === 0 && lines.length === ECHOES;
  }

  async serveHttp(host: Host, port: number): Promise<LabProcess> {
    const server = this.#lab.start(host, this.#program("http-server", String(port)));
    await server.readyLine(/^listening/, RUN_TIMEOUT_MS);
    return server;
  }

  async fetchHttp(from: Host, url: string): Promise<string> {
    const { lines } = await this.#lab.run(from, this.#program("http-get", url), RUN_TIMEOUT_MS);
    return lines.join("\n");
  }

  /** Stops every program and removes every namespace and file. */
  async close(): Promise<void> {
    await this.#lab.close();
    this.#programs.remove();
  }

  #program(...args: readonly string[]): Start {
    return { name: args[0] ?? "", command: [...this.#programs.self, ...args] };
  }

  async #nft(command: string): Promise<void> {
    await run("ip", ["netns", "exec", this.#lab.namespace(ROUTER), "nft", command]);
  }
}

const BUNDLE = "sallyport.mjs";
const ECHOES = 3;
const RUN_TIMEOUT_MS = 15_000;
const ROUTER = "router";
const ROUTER_IP = "198.18.0.1";
const CHAIN = "inet middle cut";

function plan(): Network {
  const hosts = Object.entries(ADDRESSES);
  const router = {
    name: ROUTER,
    forwards: true,
    rules: "table inet middle { chain cut { type filter hook forward priority 0; }; }",
    commands: [
      "link set lo up",
      ...hosts.flatMap(([host, ip]) => [
        `link set ${host} addrgenmode none up`,
        `addr add ${ROUTER_IP}/32 dev ${host}`,
        `route add ${ip}/32 dev ${host}`,
      ]),
    ],
  };
  return {
    namespaces: [router, ...hosts.map(([host, ip]) => machine(host, ip))],
    links: hosts.map(([host]) => ({
      ends: [
        { namespace: ROUTER, device: host },
        { namespace: host, device: "eth0" },
      ],
      delayMs: 0,
    })),
  };
}

function machine(name: string, ip: string): Network["namespaces"][number] {
  const commands = [
    "link set lo up",
    "link set eth0 addrgenmode none up",
    `addr add ${ip}/32 dev eth0`,
    `route add default via ${ROUTER_IP} dev eth0 onlink`,
  ];
  return { name, forwards: false, rules: "", commands };
}
