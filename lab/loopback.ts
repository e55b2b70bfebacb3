/**
 * The lab where no namespaces can be made (no root, no Linux): the same hosts as sockets on the loopback interface, with
 * simulated NATs in this process. Real are the agents, their protocols and their packets; the networks are not.
 */
import { letsIn, letsOut } from "./expectation.ts";
import type { NatKind } from "./firewall.ts";
import { LoopbackNat, type NatBehaviour } from "./loopback-nat.ts";
import { exitNodeOf, type Topology } from "./topology.ts";

export interface LoopbackInternet {
  /** The UDP port of each host that runs a daemon, by the name of its namespace. */
  readonly sockets: ReadonlyMap<string, LoopbackNat>;
  close(): Promise<void>;
}

/** @param reason why there are no namespaces: what the story says */
export function describeLoopback(reason: string): string {
  return `No namespaces here (${reason}): the hosts are loopback sockets in one process, their NATs are simulated.`;
}

/** @param port the exit node's UDP port in the stack */
export async function openLoopbackInternet(topology: Topology, port: number): Promise<LoopbackInternet> {
  const opened = await Promise.all(
    [...planLoopback(topology, port)].map(
      async ([name, behaviour]) => [name, await LoopbackNat.open(behaviour)] as const,
    ),
  );
  const sockets = new Map(opened);
  return {
    sockets,
    close: async () => {
      await Promise.all([...sockets.values()].map((socket) => socket.close()));
    },
  };
}

/** What the networks of a topology do to each host's UDP port. */
export function planLoopback({ cast }: Topology, port: number): ReadonlyMap<string, NatBehaviour> {
  const node = exitNodeOf(cast);
  const open = cast.clients.some(({ natIp }) => letsIn(node, port, natIp));
  const exitNode: NatBehaviour = {
    mapping: "endpoint-independent",
    filtering: open ? "endpoint-independent" : "address-and-port-dependent",
    // Where the stack lets UDP out to single ports only, no peer is among them.
    blocked: !open && !cast.clients.some(({ natIp }) => letsOut(node, natIp)),
  };
  const clients = cast.clients.map((client) => [client.namespace, CLIENT_NATS[client.nat]] as const);
  return new Map([[node.namespace, exitNode], ...clients]);
}

const CLIENT_NATS: Readonly<Record<NatKind | "none", NatBehaviour>> = {
  none: { mapping: "endpoint-independent", filtering: "endpoint-independent", blocked: false },
  easy: { mapping: "endpoint-independent", filtering: "address-and-port-dependent", blocked: false },
  hard: { mapping: "address-and-port-dependent", filtering: "address-and-port-dependent", blocked: false },
  "udp-blocked": { mapping: "endpoint-independent", filtering: "address-and-port-dependent", blocked: true },
};
