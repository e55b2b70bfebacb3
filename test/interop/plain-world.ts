/** A machine with our program and one with wireguard-go on one wire, and a third that sends through ours. */
import { randomBytes } from "node:crypto";
import { cpSync, existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lab } from "../../lab/lab.ts";
import type { LabProcess } from "../../lab/processes.ts";
import { run } from "../../lab/system.ts";
import type { Network } from "../../lab/network.ts";
import { configureWireGuard, newWireGuardKey, socketOf, type WireGuardKey } from "../../lab/wireguard-go.ts";
import { bundleLab, type LabBundle } from "../lab/bundle.ts";

export type PlainHost = "ours" | "theirs" | "behind";
export type Family = 4 | 6;

export interface PlainPair {
  /** Of both tunnels. */
  readonly mtu: number;
  /** Of the addresses that the two reach each other by. */
  readonly outer: Family;
  readonly presharedKey: boolean;
  /** @default none */
  readonly env?: Readonly<Record<string, string>>;
}

const START_LIMIT_MS = 20_000;
const RUN_LIMIT_MS = 30_000;
const PORT = 51_820;
const OUR_DEVICE = "sp0";
/** By family; 1 is ours, 2 theirs. */
const OUTER = { 4: "198.18.2.", 6: "2001:db8:2::" } as const;
const INNER = { 4: "10.77.0.", 6: "fd77::" } as const;
const BEHIND = { 4: "10.78.0.", 6: "fd78::" } as const;
const BITS = { 4: 24, 6: 64 } as const;

export class PlainWorld {
  readonly #lab: Lab<Network>;
  readonly #programs: LabBundle;
  readonly #wireguard: string;
  #daemons: LabProcess[] = [];
  #theirs = "";
  #device = 0;

  private constructor(lab: Lab<Network>, programs: LabBundle, wireguard: string) {
    this.#lab = lab;
    this.#programs = programs;
    this.#wireguard = wireguard;
  }

  /** @param wireguard wireguard-go's program @throws OperationError */
  static async open(wireguard: string): Promise<PlainWorld> {
    const agent = join(__dirname, "../../dist/agent");
    if (!existsSync(join(agent, "sallyport.mjs")))
      throw new Error(`there is no agent in ${agent}: run npm run build`);
    const programs = bundleLab();
    try {
      const lab = await Lab.open(plan(), { self: programs.self });
      cpSync(agent, join(lab.folder, "agent"), { recursive: true });
      const forward = "net.ipv6.conf.all.forwarding=1";
      await run("ip", ["netns", "exec", lab.namespace("ours"), "sysctl", "-qw", forward]);
      return new PlainWorld(lab, programs, wireguard);
    } catch (error) {
      programs.remove();
      throw error;
    }
  }

  /** The address of one end in the tunnel. */
  inner(host: "ours" | "theirs", family: Family): string {
    return `${INNER[family]}${host === "ours" ? 1 : 2}`;
  }

  async connect(pair: PlainPair): Promise<void> {
    const keys = [newWireGuardKey(), newWireGuardKey()] as const;
    const psk = pair.presharedKey ? randomBytes(32) : undefined;
    const theirs = await this.#startTheirs(pair, keys, psk);
    const ours = await this.#startOurs(pair, keys, psk);
    this.#daemons = [ours, theirs];
  }

  async disconnect(): Promise<void> {
    await Promise.all(this.#daemons.map((daemon) => daemon.stop()));
    this.#daemons = [];
  }

  /** Another port of theirs, without a handshake: as a NAT does it that forgot them. */
  async moveTheirs(): Promise<void> {
    await configureWireGuard(this.#theirs, [`listen_port=${PORT + 1}`]);
  }

  start(host: PlainHost, name: string, command: readonly string[]): LabProcess {
    return this.#lab.start(host, { name, command });
  }

  async lines(host: PlainHost, name: string, command: readonly string[]): Promise<readonly string[]> {
    return (await this.#lab.run(host, { name, command }, RUN_LIMIT_MS)).lines;
  }

  async close(): Promise<void> {
    await this.#lab.close();
    this.#programs.remove();
  }

  async #startOurs(
    { mtu, outer, env = {} }: PlainPair,
    [own, other]: Keys,
    psk?: Buffer,
  ): Promise<LabProcess> {
    const file = join(this.#lab.folder, "ours.conf");
    const lines = [
      "[Interface]",
      `PrivateKey = ${own.secret.toString("base64")}`,
      `Address = ${INNER[4]}1/24, ${INNER[6]}1/64`,
      `ListenPort = ${PORT}`,
      `MTU = ${mtu}`,
      "[Peer]",
      `PublicKey = ${other.public.toString("base64")}`,
      ...(psk === undefined ? [] : [`PresharedKey = ${psk.toString("base64")}`]),
      `AllowedIPs = ${INNER[4]}2/32, ${INNER[6]}2/128`,
      `Endpoint = ${outer === 4 ? `${OUTER[4]}2` : `[${OUTER[6]}2]`}:${PORT}`,
    ];
    writeFileSync(file, lines.join("\n"), { mode: 0o600 });
    const program = join(this.#lab.folder, "agent/sallyport.mjs");
    const command = [process.execPath, program, "wireguard", file, "--tun", OUR_DEVICE];
    const daemon = this.#lab.start("ours", { name: "ours", command, env });
    await daemon.readyLine(/"event":"wireguard-up"/, START_LIMIT_MS);
    return daemon;
  }

  async #startTheirs({ mtu, outer }: PlainPair, [other, own]: Keys, psk?: Buffer): Promise<LabProcess> {
    const device = `w${this.#lab.id}${this.#device++}`;
    this.#theirs = device;
    const daemon = this.#lab.start("theirs", { name: device, command: [this.#wireguard, "-f", device] });
    await daemon.readyFile(socketOf(device), START_LIMIT_MS);
    await configureWireGuard(device, [
      `private_key=${own.secret.toString("hex")}`,
      `listen_port=${PORT}`,
      `public_key=${other.public.toString("hex")}`,
      ...(psk === undefined ? [] : [`preshared_key=${psk.toString("hex")}`]),
      `endpoint=${outer === 4 ? `${OUTER[4]}1` : `[${OUTER[6]}1]`}:${PORT}`,
      ...[`${INNER[4]}1/32`, `${INNER[6]}1/128`, `${BEHIND[4]}0/24`, `${BEHIND[6]}/64`].map(
        (ip) => `allowed_ip=${ip}`,
      ),
    ]);
    const name = this.#lab.namespace("theirs");
    const lines = [
      `link set ${device} mtu ${mtu} addrgenmode none up`,
      ...([4, 6] as const).flatMap((family) => [
        `addr add ${INNER[family]}2/${BITS[family]} dev ${device} ${family === 6 ? "nodad" : ""}`,
        `route add ${BEHIND[family]}${family === 4 ? "0" : ""}/${BITS[family]} dev ${device}`,
      ]),
    ];
    await run("ip", ["-n", name, "-batch", "-"], { input: lines.join("\n") });
    return daemon;
  }
}

function plan(): Network {
  const addresses = (device: string, networks: Readonly<Record<Family, string>>, host: number): string[] => [
    `link set ${device} mtu 9200 addrgenmode none up`,
    `addr add ${networks[4]}${host}/24 dev ${device}`,
    `addr add ${networks[6]}${host}/64 dev ${device} nodad`,
  ];
  const lo = "link set lo up";
  return {
    namespaces: [
      {
        name: "ours",
        forwards: true,
        rules: "",
        commands: [lo, ...addresses("wire", OUTER, 1), ...addresses("lan", BEHIND, 1)],
      },
      { name: "theirs", forwards: false, rules: "", commands: [lo, ...addresses("wire", OUTER, 2)] },
      {
        name: "behind",
        forwards: false,
        rules: "",
        commands: [
          lo,
          ...addresses("lan", BEHIND, 2),
          `route add default via ${BEHIND[4]}1`,
          `route add default via ${BEHIND[6]}1`,
        ],
      },
    ],
    links: [link("ours", "theirs", "wire"), link("ours", "behind", "lan")],
  };
}

function link(one: string, other: string, device: string): Network["links"][number] {
  return {
    ends: [
      { namespace: one, device },
      { namespace: other, device },
    ],
    delayMs: 0,
  };
}

type Keys = readonly [ours: WireGuardKey, theirs: WireGuardKey];
