/**
 * A VPC as namespaces: one router that is internet gateway and firewall, a wire to every interface, and a namespace for each NAT
 * gateway. Each subnet has a routing table of its own there; AWS's router has no address on the wire but answers for all.
 *
 *   instance ── ens5 ──┐          ┌── NAT gateway
 *                      ├─ router ─┤
 *   instance ── ens6 ──┘          └── internet
 */
import type { Prefix } from "../agent/src/base/address.ts";
import type { Balancer, CloudModel, NatGateway, Route, SecurityGroup, Subnet, Vpc } from "./model/model.ts";
import { nthAddress } from "./model/resources.ts";
import { INTERNET_ROUTER, INTERNET_ROUTER_V6, type LinkSpec } from "./network.ts";
import {
  BALANCED_MARK,
  balancerRules,
  type Forwarding,
  interfaceRules,
  referencedGroups,
  type RoutedInterface,
  routerRules,
  translationRules,
  withoutInterface,
} from "./vpc-rules.ts";

/** What an interface looks like from inside its instance. */
export interface WiredInterface {
  readonly id: string;
  readonly mac: string;
  readonly subnet: Subnet;
  readonly privateIp: string;
  readonly ipv6: string | undefined;
  readonly groups: readonly SecurityGroup[];
  readonly sourceDestCheck: boolean;
}

/** What has to happen in one namespace. */
export interface NamespaceChange {
  readonly namespace: string;
  /** Lines for `ip -batch`. */
  readonly commands: readonly string[];
  /** Lines for `ip -6 -batch`. */
  readonly commands6: readonly string[];
  /** For `nft -f -`. */
  readonly rules: string;
  /** "net/…" → value. */
  readonly sysctls?: Readonly<Record<string, string>>;
}

export interface Wiring {
  readonly link: LinkSpec | undefined;
  readonly changes: readonly NamespaceChange[];
}

/** Metadata and DNS, by IPv4 and IPv6: https://docs.aws.amazon.com/vpc/latest/userguide/AmazonDNS-concepts.html */
const SERVICE_ADDRESSES = [
  ...["169.254.169.254/32", "169.254.169.253/32"],
  ...["fd00:ec2::254/128", "fd00:ec2::253/128"],
];

/** Every interface's address, whatever subnet a packet comes from. */
const LOCAL_TABLE = 100;
const BALANCED_TABLE = 900;
const FIRST_SUBNET_TABLE = 1000;
/** The router's own, on every wire; AWS's routers have a link-local one, too. */
const ROUTER_V6 = "fe80::1";

/** https://docs.aws.amazon.com/vpc/latest/userguide/nat-gateway-basics.html: idle connections end after 350 s. */
const NAT_IDLE_S = "350";
const NAT_SYSCTLS = {
  "net/netfilter/nf_conntrack_udp_timeout": NAT_IDLE_S,
  "net/netfilter/nf_conntrack_udp_timeout_stream": NAT_IDLE_S,
  "net/netfilter/nf_conntrack_tcp_timeout_established": NAT_IDLE_S,
  "net/ipv4/conf/all/send_redirects": "0",
  "net/ipv4/conf/eth0/send_redirects": "0",
};

const ROUTER_SYSCTLS = {
  "net/ipv4/conf/all/rp_filter": "0",
  "net/ipv4/conf/default/rp_filter": "0",
  "net/ipv4/conf/all/proxy_arp": "1",
  "net/ipv4/conf/all/send_redirects": "0",
  "net/ipv4/conf/default/send_redirects": "0",
  "net/ipv6/conf/all/forwarding": "1",
};

export class VpcPlan {
  readonly vpc: Vpc;
  /** The router's. */
  readonly namespace: string;
  readonly #model: CloudModel;
  readonly #subnets: readonly Subnet[];
  readonly #referenced: readonly string[];

  constructor(model: CloudModel, vpc: Vpc, namespace: string) {
    this.vpc = vpc;
    this.namespace = namespace;
    this.#model = model;
    this.#subnets = model.subnets.filter((subnet) => subnet.vpc === vpc);
    this.#referenced = referencedGroups(model.securityGroups);
  }

  get #balancers(): readonly Balancer[] {
    return this.#model.balancers.filter(({ subnet }) => subnet.vpc === this.vpc);
  }

  get natGateways(): readonly NatGateway[] {
    return this.#model.natGateways.filter(({ subnet }) => subnet.vpc === this.vpc);
  }

  natNamespace(gateway: NatGateway): string {
    const index = this.natGateways.indexOf(gateway);
    return `${this.namespace}-nat${index === 0 ? "" : index + 1}`;
  }

  /** The router before any interface is there; its wire to the internet has the device "internet". */
  router(): NamespaceChange {
    const closed = this.#subnets
      .filter(({ routes }) => routes.some(({ target }) => target.kind === "egress-only"))
      .flatMap(({ ipv6 }) => (ipv6 === undefined ? [] : [ipv6.text]));
    const toInternet = (table: number): string =>
      `route add default via ${INTERNET_ROUTER} dev internet onlink table ${table}`;
    return {
      namespace: this.namespace,
      commands: [
        ...SERVICE_ADDRESSES.map((address) => `addr add ${address} dev lo`),
        ...this.#balancers.map(({ privateIp }) => `addr add ${privateIp.text}/32 dev lo`),
        "addr add fe80::2/64 dev internet nodad",
        "route add blackhole default metric 9999",
        "route add blackhole ::/0 metric 9999",
        `rule add lookup ${LOCAL_TABLE} priority 100`,
        `rule add fwmark ${BALANCED_MARK} lookup ${BALANCED_TABLE} priority 150`,
        toInternet(BALANCED_TABLE),
      ],
      commands6: [`rule add lookup ${LOCAL_TABLE} priority 100`],
      rules: routerRules({
        referenced: this.#referenced,
        closedV6: closed,
        balancers: this.#balancers.map(({ privateIp }) => privateIp.text),
      }),
      sysctls: ROUTER_SYSCTLS,
    };
  }

  /** What the load balancers lead to from now on. */
  balance(forwardings: readonly Forwarding[]): NamespaceChange {
    const rules = balancerRules(
      forwardings,
      this.#balancers.map(({ publicIp }) => publicIp.text),
    );
    return { namespace: this.namespace, commands: [], commands6: [], rules };
  }

  /** The routes of all subnets: once the NAT gateways are there. */
  routes(): NamespaceChange {
    const lines = this.#subnets.flatMap((subnet) =>
      subnet.routes.flatMap((route) => this.#route(route, this.#table(subnet))),
    );
    return { namespace: this.namespace, commands: lines, commands6: [], rules: "" };
  }

  natGateway(gateway: NatGateway): Wiring {
    const namespace = this.natNamespace(gateway);
    const device = deviceName(gateway.id);
    const gatewayIp = routerAddress(gateway.subnet);
    const translation = { privateIp: gateway.privateIp.text, publicIp: gateway.publicIp.text };
    return {
      link: linkBetween(this.namespace, device, namespace, "eth0"),
      changes: [
        {
          ...this.#routerEnd(device, gateway.subnet, gateway.privateIp.text, undefined),
          rules: translationRules("add", translation),
        },
        {
          namespace,
          commands: [
            `addr add ${gateway.privateIp.text}/32 dev eth0`,
            `route add default via ${gatewayIp} dev eth0 onlink`,
          ],
          commands6: [],
          rules: natGatewayRules(this.vpc.cidr),
          sysctls: NAT_SYSCTLS,
        },
      ],
    };
  }

  /** Attaches an interface to an instance's namespace. */
  attach(one: WiredInterface, namespace: string, deviceIndex: number): Wiring {
    const device = deviceName(one.id);
    const inside = instanceDevice(deviceIndex);
    const gateway = routerAddress(one.subnet);
    const first = deviceIndex === 0;
    return {
      link: linkBetween(this.namespace, device, namespace, inside),
      changes: [
        {
          ...this.#routerEnd(device, one.subnet, one.privateIp, one.ipv6),
          rules: interfaceRules(routed(one), this.#referenced),
        },
        {
          namespace,
          commands: [
            `link set ${inside} address ${one.mac}`,
            // As DHCP on the image does it: the first interface has the default route, others their address.
            `addr add ${one.privateIp}/${one.subnet.cidr.bits} dev ${inside}`,
            ...(one.ipv6 === undefined ? [] : [`addr add ${one.ipv6}/128 dev ${inside} nodad`]),
            ...(first ? [`route add default via ${gateway} dev ${inside}`] : []),
            ...(first && one.ipv6 !== undefined ? [`route add ::/0 via ${ROUTER_V6} dev ${inside}`] : []),
          ],
          commands6: [],
          rules: "",
        },
      ],
    };
  }

  /** Takes it away: with one end of the wire the other goes, too, and its routes. */
  detach(one: WiredInterface): NamespaceChange {
    const device = deviceName(one.id);
    return {
      namespace: this.namespace,
      commands: [`rule del iif ${device} priority 200`, `link del ${device}`],
      commands6: [`rule del iif ${device} priority 200`],
      rules: withoutInterface(routed(one), this.#referenced),
    };
  }

  #routerEnd(device: string, subnet: Subnet, privateIp: string, ipv6: string | undefined): NamespaceChange {
    const rule = `rule add iif ${device} lookup ${this.#table(subnet)} priority 200`;
    return {
      namespace: this.namespace,
      commands: [
        `addr add ${routerAddress(subnet)}/32 dev ${device}`,
        `addr add ${ROUTER_V6}/64 dev ${device} nodad`,
        `route add ${privateIp}/32 dev ${device} table ${LOCAL_TABLE}`,
        ...(ipv6 === undefined ? [] : [`route add ${ipv6}/128 dev ${device} table ${LOCAL_TABLE}`]),
        rule,
      ],
      commands6: [rule],
      rules: "",
    };
  }

  #table(subnet: Subnet): number {
    return FIRST_SUBNET_TABLE + this.#subnets.indexOf(subnet);
  }

  #route({ destination, target }: Route, table: number): readonly string[] {
    const to = `route add ${destination.text}`;
    switch (target.kind) {
      case "internet":
      case "egress-only":
        return [
          destination.ip.isV4
            ? `${to} via ${INTERNET_ROUTER} dev internet onlink table ${table}`
            : `${to} via ${INTERNET_ROUTER_V6} dev internet table ${table}`,
        ];
      case "nat": {
        const gateway = this.#model.natGateways.find(({ id }) => id === target.id);
        if (gateway === undefined) return [];
        return [`${to} via ${gateway.privateIp.text} dev ${deviceName(gateway.id)} onlink table ${table}`];
      }
      case "interface": {
        const through = this.#model.interfaces.find(({ id }) => id === target.id);
        if (through === undefined) return [];
        return [`${to} via ${through.privateIp.text} dev ${deviceName(through.id)} onlink table ${table}`];
      }
    }
  }
}

/** Nitro instances call them ens5, ens6, … */
const instanceDevice = (deviceIndex: number): string => `ens${5 + deviceIndex}`;

/** Of the router's end of a wire: Linux keeps device names to 15 characters. */
const deviceName = (id: string): string => `${id.split("-")[0]?.slice(0, 3)}${id.slice(-11)}`;

/** AWS gives a subnet's router the first address after the network's own. */
const routerAddress = ({ cidr }: Subnet): string => nthAddress(cidr, 1).text;

function linkBetween(one: string, device: string, other: string, otherDevice: string): LinkSpec {
  return {
    ends: [
      { namespace: one, device },
      { namespace: other, device: otherDevice },
    ],
    delayMs: 0,
  };
}

function routed(one: WiredInterface): RoutedInterface {
  const { id, privateIp, ipv6, groups, sourceDestCheck } = one;
  return { device: deviceName(id), privateIp, ipv6, groups, sourceDestCheck };
}

/** Endpoint-dependent: another port for every destination, and nothing comes in that nobody asked for. */
const natGatewayRules = (inside: Prefix): string => `table inet lab {
  chain input {
    type filter hook input priority filter; policy drop;
    ct state { established, related } accept
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state { established, related } accept
    ip saddr ${inside.text} accept
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr ${inside.text} masquerade fully-random
  }
}
`;
