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

/** Two instances that are the exit node in turn: the one takes over the address by which the other is reached. */
export const EXIT_NODES = ["exit-a", "exit-b"] as const;
export type ExitNodeName = (typeof EXIT_NODES)[number];
export type MachineName = keyof typeof MACHINES | ExitNodeName;

/** Reached only by way of the internet. */
export const SERVER_IP = "198.51.100.60";
/** What exit traffic is seen from. */
export const NAT_GATEWAY_IP = "203.0.113.40";
const EXIT_IP = "198.18.77.10";
const EXIT_GATEWAY = "198.18.77.1";

/** The namespace of the router between all of them. */
export const ROUTER = "middle";

export function addressOf(machine: keyof typeof MACHINES): string {
  return MACHINES[machine].ip;
}

export function planInternet(): Network {
  const machines: readonly (readonly [string, Machine])[] = Object.entries(MACHINES);
  return {
    namespaces: [router(machines), ...machines.flatMap(([name, machine]) => namespacesOf(name, machine))],
    links: machines.flatMap(([name, machine]) => linksOf(name, machine)),
  };
}

/**
 * A client, an exit node with two interfaces as in AWS, its NAT gateway, and a server. The tunnel comes in by eth0, exit traffic
 * leaves by nat0.
 *
 *     cloud ─┬─ router ── eth0 exit-a or exit-b nat0 ── gateway ── router ── server
 */
export function planExitInternet(): Network {
  const { relay, control, cloud } = MACHINES;
  const gateway: Machine = { ip: NAT_GATEWAY_IP, nat: "hard" };
  const machines = Object.entries<Machine>({ relay, control, cloud, server: { ip: SERVER_IP }, gateway });
  const [between, ...others] = [
    router(machines),
    ...machines.slice(0, -1).flatMap(([name, machine]) => namespacesOf(name, machine)),
  ];
  return {
    namespaces: [
      {
        ...between,
        commands: [
          ...between.commands,
          ...EXIT_NODES.flatMap((name) => [
            `link set ${name} addrgenmode none up`,
            `addr add ${EXIT_GATEWAY}/32 dev ${name}`,
          ]),
        ],
      },
      ...others,
      natGateway(gateway),
      ...EXIT_NODES.map(exitNode),
    ],
    links: [
      ...machines.slice(0, -1).flatMap(([name, machine]) => linksOf(name, machine)),
      wire(ROUTER, "gateway", "gateway", "wan"),
      ...EXIT_NODES.flatMap((name) => [
        wire(ROUTER, name, name, "eth0"),
        wire("gateway", name, name, "nat0"),
      ]),
    ],
  };
}

/** For `ip` in the router: packets to the exit node's address go to this one from now on. */
export const moveExitTo = (name: ExitNodeName): readonly string[] => [
  "route",
  "replace",
  `${EXIT_IP}/32`,
  "dev",
  name,
];

/** Inside addresses are of one subnet each. */
const insideOf = (name: ExitNodeName): string => `10.0.${1 + EXIT_NODES.indexOf(name)}`;

function natGateway({ ip }: Machine): NamespaceSpec {
  return {
    name: "gateway",
    forwards: true,
    rules: natRules("hard"),
    commands: [
      ...outside("wan", ip),
      ...EXIT_NODES.flatMap((name) => [
        `link set ${name} addrgenmode none up`,
        `addr add ${insideOf(name)}.1/24 dev ${name}`,
      ]),
    ],
  };
}

/**
 * Answers of the tunnel's port leave by eth0: a rule that ours makes for itself, and others are given. A port without a program
 * is silent, as an instance is that is no more.
 */
function exitNode(name: ExitNodeName): NamespaceSpec {
  return {
    name,
    forwards: true,
    rules: `table inet bench {
  chain output { type filter hook output priority 0; icmp type destination-unreachable icmp code port-unreachable drop; }
}`,
    sysctls: { "net/ipv4/conf/all/rp_filter": "2" },
    commands: [
      "link set lo up",
      "link set eth0 addrgenmode none up",
      "link set nat0 addrgenmode none up",
      `addr add ${EXIT_IP}/24 dev eth0`,
      `addr add ${insideOf(name)}.10/24 dev nat0`,
      `route add default via ${insideOf(name)}.1 dev nat0`,
      `route add default via ${EXIT_GATEWAY} dev eth0 metric 1000`,
      `route add default via ${EXIT_GATEWAY} dev eth0 table 100`,
      `rule add pref 100 iif lo from ${EXIT_IP} lookup 100`,
      `rule add pref 101 iif lo ipproto udp sport 41641 lookup 100`,
    ],
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
  if (nat === undefined || lan === undefined)
    return [{ name, forwards: false, rules: "", commands: outside("eth0", ip) }];
  return [
    {
      name: `${name}-nat`,
      forwards: true,
      rules: natRules(nat),
      commands: [...outside("wan", ip), "link set lan addrgenmode none up", `addr add ${lan}.1/24 dev lan`],
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

function outside(device: string, ip: string): string[] {
  return [
    "link set lo up",
    `link set ${device} addrgenmode none up`,
    `addr add ${ip}/32 dev ${device}`,
    `route add default via ${ROUTER_IP} dev ${device} onlink`,
  ];
}

function wire(namespace: string, device: string, other: string, otherDevice: string): LinkSpec {
  return {
    ends: [
      { namespace, device },
      { namespace: other, device: otherDevice },
    ],
    delayMs: 0,
  };
}

function linksOf(name: string, { nat }: Machine): LinkSpec[] {
  if (nat === undefined) return [wire(ROUTER, name, name, "eth0")];
  return [wire(ROUTER, name, `${name}-nat`, "wan"), wire(`${name}-nat`, "lan", name, "eth0")];
}
