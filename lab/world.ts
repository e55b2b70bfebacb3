/** Who lives on the internet around the stacks: hosts, the networks they are behind, and how far away things are. */
import { UsageError } from "../agent/src/base/errors.ts";
import type { NatKind, PortForward } from "./firewall.ts";

export interface World {
  readonly hosts: readonly HostSpec[];
  /** Routers that hosts share. A host without one has its own. */
  readonly networks: Readonly<Record<string, NetworkSpec>>;
  /** One way, in milliseconds, by region. */
  readonly regionDelayMs: Readonly<Record<string, number>>;
}

export interface NetworkSpec {
  readonly nat: NatKind;
  /** UDP ports of the router → hosts. */
  readonly forward?: Readonly<Record<string, string>>;
}

/**
 * - client: runs the agent, behind a NAT unless it says "none"
 * - relay, control: the lab's own relay and coordination server, outside of all stacks
 * - web: answers by HTTP and UDP with the address that it was asked from
 */
export type HostRole = "client" | "relay" | "control" | "web" | "plain";

export interface HostSpec {
  readonly name: string;
  readonly role: HostRole;
  /** "none" is a public address. @default "none" */
  readonly nat?: NatKind | "none";
  /** One of `networks`, instead of `nat`. */
  readonly network?: string;
  /** One way, in milliseconds. @default 0 */
  readonly delayMs?: number;
  /** A client's own UDP port. @default 41641 */
  readonly port?: number;
}

/** One way, on the link of the lab's own relay. */
export const RELAY_DELAY_MS = 10;

/** The world of `npm start`. */
export const DEFAULT_WORLD: World = {
  hosts: [
    { name: "nyc", role: "relay", delayMs: RELAY_DELAY_MS },
    { name: "control", role: "control" },
    { name: "laptop", role: "client", nat: "easy" },
    { name: "office", role: "client", nat: "hard" },
    { name: "hotel", role: "client", nat: "udp-blocked" },
  ],
  networks: {},
  regionDelayMs: {},
};

/** Names of namespaces that the lab makes itself. */
const TAKEN = new Set(["internet", "igw", "aws"]);

/** @throws UsageError where names collide or a network is missing */
export function checkWorld(world: World, nodes: readonly string[]): void {
  const seen = new Set<string>([...TAKEN]);
  for (const name of [...nodes, ...world.hosts.map((host) => host.name)]) {
    if (seen.has(name.toLowerCase())) {
      throw new UsageError("lab-world", `two things of the lab are called ${name}: name the host otherwise`);
    }
    seen.add(name.toLowerCase());
  }
  for (const { name, network } of world.hosts) {
    if (network !== undefined && world.networks[network] === undefined) {
      throw new UsageError(
        "lab-world",
        `the host ${name} is in the network ${network}, which “networks” lacks`,
      );
    }
  }
  for (const [name, { forward = {} }] of Object.entries(world.networks)) {
    const missing = Object.values(forward).find(
      (to) => !world.hosts.some((host) => host.name === to && host.network === name),
    );
    if (missing !== undefined) {
      throw new UsageError(
        "lab-world",
        `the network ${name} forwards a port to ${missing}, which isn't in it`,
      );
    }
  }
}

/** The ports that a network forwards, once its hosts have addresses. */
export function forwardsOf(
  { forward = {} }: NetworkSpec,
  addressOf: (host: string) => string | undefined,
): readonly PortForward[] {
  return Object.entries(forward).flatMap(([port, host]) => {
    const to = addressOf(host);
    return to === undefined ? [] : [{ port: Number(port), to }];
  });
}
