/**
 * The small internet of the benchmarks: a relay and a coordination server, public machines and homes behind NATs, all one
 * hop from each other, without any delay. What is measured is the programs' own time.
 */
import { natRules, type NatKind } from "../lab/firewall.ts";
import type { LinkSpec, NamespaceSpec, Network } from "../lab/network.ts";

/** Documentation and benchmark addresses (RFC 5737, RFC 2544): public to look at, and nobody's. */
export const RELAY_IP = "198.51.100.20";
export const CONTROL_IP = "198.51.100.10";
const ROUTER_IP = "198.18.0.1";

const MACHINES = {
  relay: { ip: RELAY_IP },
  control: { ip: CONTROL_IP },
  exit: { ip: "198.18.10.10" },
  cloud: { ip: "198.18.10.20" },
  laptop: { ip: "203.0.113.21", nat: "easy", lan: "192.168.1" },
  home: { ip: "203.0.113.22", nat: "easy", lan: "192.168.7" },
  office: { ip: "203.0.113.23", nat: "hard", lan: "172.16.5" },
  hotel: { ip: "203.0.113.24", nat: "udp-blocked", lan: "192.168.88" },
} as const satisfies Readonly<Record<string, Machine>>;

interface Machine {
  /** Its own, or its NAT's. */
  readonly ip: string;
  readonly nat?: NatKind;
  readonly lan?: string;
}

export type MachineName = keyof typeof MACHINES;

/** The namespace of the router between all of them. */
export const ROUTER = "middle";

export function addressOf(machine: MachineName): string {
  return MACHINES[machine].ip;
}

export function planInternet(): Network {
  const machines: readonly (readonly [string, Machine])[] = Object.entries(MACHINES);
  return {
    namespaces: [router(machines), ...machines.flatMap(([name, machine]) => namespacesOf(name, machine))],
    links: machines.flatMap(([name, machine]) => linksOf(name, machine)),
  };
}

/** For the router of `ROUTER`: drops UDP between two addresses from now on, without a word. */
export const cutRule = (one: string, other: string): string =>
  `add rule ${CUT_CHAIN} ip saddr { ${one}, ${other} } ip daddr { ${one}, ${other} } meta l4proto udp drop`;

/** Undoes all cuts. */
export const MEND_RULE = `flush chain inet bench cut`;
const CUT_CHAIN = "inet bench cut";

function router(machines: readonly (readonly [string, Machine])[]): NamespaceSpec {
  return {
    name: ROUTER,
    forwards: true,
    rules: "table inet bench { chain cut { type filter hook forward priority 0; }; }",
    commands: [
      "link set lo up",
      ...machines.flatMap(([name, { ip }]) => [
        `link set ${name} addrgenmode none up`,
        `addr add ${ROUTER_IP}/32 dev ${name}`,
        `route add ${ip}/32 dev ${name}`,
      ]),
    ],
  };
}

function namespacesOf(name: string, { ip, nat, lan }: Machine): NamespaceSpec[] {
  const outside = (device: string): string[] => [
    "link set lo up",
    `link set ${device} addrgenmode none up`,
    `addr add ${ip}/32 dev ${device}`,
    `route add default via ${ROUTER_IP} dev ${device} onlink`,
  ];
  if (nat === undefined || lan === undefined)
    return [{ name, forwards: false, rules: "", commands: outside("eth0") }];
  return [
    {
      name: `${name}-nat`,
      forwards: true,
      rules: natRules(nat),
      commands: [...outside("wan"), "link set lan addrgenmode none up", `addr add ${lan}.1/24 dev lan`],
    },
    {
      name,
      forwards: false,
      rules: "",
      commands: [
        "link set lo up",
        "link set eth0 addrgenmode none up",
        `addr add ${lan}.10/24 dev eth0`,
        `route add default via ${lan}.1 dev eth0`,
      ],
    },
  ];
}

function linksOf(name: string, { nat }: Machine): LinkSpec[] {
  const wire = (namespace: string, device: string, other: string, otherDevice: string): LinkSpec => ({
    ends: [
      { namespace, device },
      { namespace: other, device: otherDevice },
    ],
    delayMs: 0,
  });
  if (nat === undefined) return [wire(ROUTER, name, name, "eth0")];
  return [wire(ROUTER, name, `${name}-nat`, "wan"), wire(`${name}-nat`, "lan", name, "eth0")];
}
