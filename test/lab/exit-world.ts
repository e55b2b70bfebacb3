/**
 * An exit node between an internet gateway and a NAT gateway, as in AWS: both drop what bears another source address than the
 * interface's own. The tunnel is a wire to the client, and the node's program is the agent's forwarding alone.
 *
 *     client ── tun0 node zzz0 ── 10.0.1.0/24 ── nat ── 192.0.2.1    ┐
 *                    node aaa0 ── 10.0.0.0/24 ── igw ── 198.51.100.10 ┴─ internet 203.0.113.9
 */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AcceptingFirewall } from "../../agent/src/core/exit/foreign-firewalls.ts";
import { agentUnits } from "../../constructs/agent-units.ts";
import { namespaceName, buildNamespaces } from "../../lab/namespaces.ts";
import { type LabProcess, Processes } from "../../lab/processes.ts";
import { run, sleep } from "../../lab/system.ts";

export const PORT = 41_641;
export const INGRESS_PUBLIC = "198.51.100.10";
export const NAT_PUBLIC = "192.0.2.1";
export const SERVER = "203.0.113.9";
export const SERVER_V6 = "2001:db8:99::9";
export const INGRESS_V6 = "2001:db8:0:10::10";
export const CLIENT = "100.64.0.2";

const probes = join(__dirname, "probes.mjs");
const forwarding = join(__dirname, "forwarding-process.ts");

export interface NodeSettings {
  readonly mode?: "auto" | "direct" | "split";
  readonly ipv6?: "block" | "snat";
  readonly advertised?: readonly string[];
  /** @default true */
  readonly exit?: boolean;
  readonly ingressUid?: number;
  readonly egressAddresses?: readonly string[];
  /** Where a STUN server is, and where it saw the tunnel's port. */
  readonly stun?: string;
  readonly seenPort?: string;
  /** Firewalls of others that are told to accept what is forwarded. */
  readonly accept?: readonly AcceptingFirewall[];
  /** Of the node's program. */
  readonly env?: Readonly<Record<string, string>>;
  /** Without it the machine is in no cloud. */
  readonly metadata?: boolean;
  /** A question to the metadata that is not answered so many times. */
  readonly unanswered?: { readonly path: string; readonly times: number };
  /** As this user, with the capabilities of the agent's unit and no others. @default root */
  readonly uid?: number;
}

export class ExitWorld {
  readonly #id: string;
  readonly #folder: string;
  readonly #processes: Processes;
  #forwarding: LabProcess | undefined;

  private constructor(id: string) {
    this.#id = id;
    this.#folder = mkdtempSync(join(tmpdir(), "sallyport-exit-"));
    chmodSync(this.#folder, 0o777);
    this.#processes = new Processes(id, this.#folder);
  }

  static async open(name: string): Promise<ExitWorld> {
    const world = new ExitWorld(`x${process.pid}${name}`);
    try {
      await world.#build();
      return world;
    } catch (error) {
      await world.close();
      throw error;
    }
  }

  async close(): Promise<void> {
    await this.#processes.stopAll();
    const all = Object.keys(NAMESPACES).map((name) => `netns del ${namespaceName(this.#id, name)}`);
    await run("ip", ["-force", "-batch", "-"], { input: `${all.join("\n")}\n` }).catch(() => {});
    rmSync(this.#folder, { recursive: true, force: true });
  }

  get folder(): string {
    return this.#folder;
  }

  get recordPath(): string {
    return join(this.#folder, "forwarding.json");
  }

  /** Starts the node's program, and waits until it has set up what it wants. */
  async forward(settings: NodeSettings = {}): Promise<LabProcess> {
    const { metadata = true, uid, env = {}, ...others } = settings;
    await this.stopForwarding();
    const file = join(this.#folder, "settings.json");
    const entries = metadata ? await this.#metadata() : undefined;
    writeFileSync(file, JSON.stringify({ settings: others, entries, recordPath: this.recordPath }));
    this.#forwarding = this.#processes.start({
      name: "forwarding",
      namespace: namespaceName(this.#id, "node"),
      command: [
        ...(uid === undefined ? [] : asUnit(uid)),
        process.execPath,
        "--import",
        "tsx",
        forwarding,
        file,
      ],
      cwd: join(__dirname, "../.."),
      env,
    });
    await this.#forwarding.readyLine(/^ready/, 20_000);
    return this.#forwarding;
  }

  async stopForwarding(): Promise<void> {
    await this.#forwarding?.stop();
  }

  signalForwarding(signal: NodeJS.Signals): void {
    const { pid } = this.#forwarding ?? {};
    if (pid !== undefined) process.kill(pid, signal);
  }

  async killForwarding(): Promise<void> {
    this.signalForwarding("SIGKILL");
    await this.#forwarding?.exited;
  }

  /** The reasons as the node's program last said them. */
  reasons(): readonly string[] {
    const last = this.#forwarding?.lines.findLast((line) => line.startsWith("reasons ")) ?? "reasons []";
    return (JSON.parse(last.slice("reasons ".length)) as { code: string; text: string }[]).map(
      ({ code, text }) => `${code}: ${text}`,
    );
  }

  async serve(namespace: string, ...args: readonly string[]): Promise<void> {
    const [kind = "", ...rest] = args;
    const server = this.#processes.start({
      name: `${namespace}-${args.join("-")}`,
      namespace: namespaceName(this.#id, namespace),
      command: [process.execPath, probes, kind, ...rest],
    });
    await server.readyLine(/^ready$/, 10_000);
  }

  /** Any program, until the world ends. */
  start(
    namespace: string,
    name: string,
    command: readonly string[],
    env: Readonly<Record<string, string>> = {},
  ): void {
    this.#processes.start({ name, namespace: namespaceName(this.#id, namespace), command, env });
  }

  async serveStun(namespace: string, port: number): Promise<void> {
    const server = this.#processes.start({
      name: "stun",
      namespace: namespaceName(this.#id, namespace),
      command: [process.execPath, "--import", "tsx", join(__dirname, "stun-process.ts"), `${port}`],
      cwd: join(__dirname, "../.."),
    });
    await server.readyLine(/^ready$/, 20_000);
  }

  /** What the node's program says last of the kind. */
  said(kind: "state" | "tuning"): unknown {
    const last = this.#forwarding?.lines.findLast((line) => line.startsWith(`${kind} `)) ?? `${kind} {}`;
    return JSON.parse(last.slice(kind.length + 1)) as unknown;
  }

  async probe(namespace: string, ...args: readonly string[]): Promise<readonly string[]> {
    const command = [process.execPath, probes, ...args];
    const ran = await this.#processes.run(
      { name: "ask", namespace: namespaceName(this.#id, namespace), command },
      10_000,
    );
    return ran.lines;
  }

  /** What the command prints, in the node's namespace unless another is named. */
  async sh(script: string, namespace = "node"): Promise<string> {
    return await run("ip", ["netns", "exec", namespaceName(this.#id, namespace), "sh", "-ec", script]);
  }

  async until<T>(what: string, ask: () => Promise<T | undefined> | T | undefined, ms = 10_000): Promise<T> {
    const deadline = performance.now() + ms;
    for (;;) {
      const got = await ask();
      if (got !== undefined && got !== false) return got;
      if (performance.now() > deadline) throw new Error(`never came to ${what}: ${this.#log()}`);
      await sleep(50);
    }
  }

  #log(): string {
    return this.#forwarding === undefined
      ? ""
      : readFileSync(this.#forwarding.log, "utf8")
          .split("\n")
          .filter((line) => !/^(tuning|state|reasons)/.test(line))
          .slice(-12)
          .join("\n");
  }

  /** As EC2's service would answer; the addresses of the hardware are the devices' own. */
  async #metadata(): Promise<Readonly<Record<string, string>>> {
    const mac = async (device: string): Promise<string> =>
      (await this.sh(`cat /sys/class/net/${device}/address`)).trim();
    const [egress, ingress] = await Promise.all([mac("zzz0"), mac("aaa0")]);
    const at = (one: string): string => `network/interfaces/macs/${one}/`;
    const vpc = { "vpc-ipv4-cidr-blocks": "10.0.0.0/16", "vpc-ipv6-cidr-blocks": "2001:db8::/56" };
    const entries = (
      one: string,
      values: Readonly<Record<string, string>>,
    ): readonly (readonly [string, string])[] =>
      Object.entries({ ...vpc, ...values }).map(([name, value]) => [`${at(one)}${name}`, value]);
    return Object.fromEntries([
      ["network/interfaces/macs/", `${ingress}/\n${egress}/`],
      ...entries(egress, {
        "interface-id": "eni-0e",
        "device-number": "0",
        "local-ipv4s": "10.0.1.10",
        "subnet-ipv4-cidr-block": "10.0.1.0/24",
      }),
      ...entries(ingress, {
        "interface-id": "eni-0a",
        "device-number": "1",
        "local-ipv4s": "10.0.0.10",
        "public-ipv4s": INGRESS_PUBLIC,
        ipv6s: INGRESS_V6,
        "subnet-ipv4-cidr-block": "10.0.0.0/24",
        "subnet-ipv6-cidr-blocks": "2001:db8:0:10::/64",
      }),
    ]);
  }

  async #build(): Promise<void> {
    await buildNamespaces(
      {
        namespaces: Object.entries(NAMESPACES).map(([name, spec]) => ({ name, forwards: false, ...spec })),
        links: LINKS.map(([a, b]) => ({ delayMs: 0, ends: [end(a), end(b)] as const })),
      },
      { labId: this.#id, processes: this.#processes, self: [] },
    );
    await this.sh("echo 1 > /proc/sys/net/ipv6/conf/all/forwarding", "igw");
  }
}

const LINKS: readonly (readonly [string, string])[] = [
  ["node zzz0", "nat n0"],
  ["node aaa0", "igw i0"],
  ["node tun0", "client c0"],
  ["igw i1", "internet e0"],
  ["nat n1", "internet e1"],
  ["node lan0", "neighbour l0"],
];

/** As systemd would start the agent's unit. */
function asUnit(uid: number): readonly string[] {
  const unit = agentUnits({ tunnel: true, server: undefined })[0]?.text ?? "";
  const names = /^AmbientCapabilities=(.*)$/m.exec(unit)?.[1]?.split(" ") ?? [];
  const set = ["-all", ...names.map((name) => `+${name.replace("CAP_", "").toLowerCase()}`)].join(",");
  const ids = [`--reuid=${uid}`, `--regid=${uid}`, "--clear-groups", "--no-new-privs"];
  return ["setpriv", ...ids, `--bounding-set=${set}`, `--inh-caps=${set}`, `--ambient-caps=${set}`, "--"];
}

function end(text: string): { readonly namespace: string; readonly device: string } {
  const [namespace = "", device = ""] = text.split(" ");
  return { namespace, device };
}

const up = (...devices: readonly string[]): readonly string[] =>
  ["lo", ...devices].map((device) => `link set ${device} up`);
const address = (device: string, ...texts: readonly string[]): readonly string[] =>
  texts.map((text) => `address add ${text} dev ${device} ${text.includes(":") ? "nodad" : ""}`);

const NAMESPACES: Readonly<
  Record<
    string,
    { readonly forwards?: boolean; readonly commands: readonly string[]; readonly rules: string }
  >
> = {
  node: {
    rules: "",
    commands: [
      ...up("zzz0", "aaa0", "tun0", "lan0"),
      ...address("zzz0", "10.0.1.10/24"),
      ...address("aaa0", "10.0.0.10/24", `${INGRESS_V6}/64`),
      ...address("tun0", "100.64.0.1/24", "fd7a:115c:a1e0::1/64"),
      ...address("lan0", "10.0.5.1/24"),
      "link set tun0 mtu 1280",
      "route add default via 10.0.1.1 dev zzz0",
      "route add default via 2001:db8:0:10::1 dev aaa0 metric 512",
    ],
  },
  client: {
    rules: "",
    commands: [
      ...up("c0"),
      ...address("c0", `${CLIENT}/24`, "fd7a:115c:a1e0::2/64"),
      "route add default via 100.64.0.1",
      "route add default via fd7a:115c:a1e0::1",
    ],
  },
  neighbour: {
    rules: "",
    commands: [...up("l0"), ...address("l0", "10.0.5.2/24"), "route add default via 10.0.5.1"],
  },
  igw: {
    forwards: true,
    commands: [
      ...up("i0", "i1"),
      ...address("i0", "10.0.0.1/24", "2001:db8:0:10::1/64"),
      ...address("i1", "198.51.100.1/24", "198.51.100.10/32", "2001:db8:98::1/64"),
      "route add default via 198.51.100.254",
      "route add default via 2001:db8:98::fe",
    ],
    rules: `table ip igw {
      chain source { type filter hook prerouting priority raw; iif i0 ip saddr != 10.0.0.10 counter drop; }
      chain in { type nat hook prerouting priority dstnat; ip daddr 198.51.100.10 dnat to 10.0.0.10; }
      chain out { type nat hook postrouting priority srcnat; ip saddr 10.0.0.10 oif i1 snat to 198.51.100.10; }
    }
    table ip6 igw {
      chain source { type filter hook prerouting priority raw;
        iif i0 ip6 saddr != { ${INGRESS_V6}, fe80::/10 } counter drop; }
    }`,
  },
  nat: {
    forwards: true,
    commands: [
      ...up("n0", "n1"),
      ...address("n0", "10.0.1.1/24"),
      ...address("n1", "192.0.2.1/24"),
      "route add default via 192.0.2.254",
    ],
    rules: `table ip nat {
      chain source { type filter hook prerouting priority raw; iif n0 ip saddr != 10.0.1.10 counter drop; }
      chain out { type nat hook postrouting priority srcnat; oif n1 snat to 192.0.2.1; }
    }`,
  },
  internet: {
    rules: "",
    commands: [
      ...up("e0", "e1"),
      ...address("e0", "198.51.100.254/24", "2001:db8:98::fe/64"),
      ...address("e1", "192.0.2.254/24"),
      ...address("lo", `${SERVER}/32`, `${SERVER_V6}/128`),
      `route replace 198.51.100.0/24 dev e0 src ${SERVER}`,
      `route replace 192.0.2.0/24 dev e1 src ${SERVER}`,
      `route add 2001:db8:0:10::/64 via 2001:db8:98::1 src ${SERVER_V6}`,
    ],
  },
};
