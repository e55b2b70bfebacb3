/**
 * The nftables rules of a VPC's router, which is its internet gateway, load balancer and firewall: one table, `inet lab`, whose maps
 * and chains can be added to while packets flow.
 *
 *   eip_in / eip_out   public address ↔ private address: the gateway's one-to-one translation, also between two of the same VPC
 *   from_eni / to_eni  device → the security groups of the interface behind it
 *   check_eni          device → its source/destination check
 *   lb                 a load balancer's address and port → a target; marked, so that answers go back the same way. Its
 *                      connections are tracked in a zone of their own: a target may have one with the same peer already that
 *                      leaves by another way
 */
import type { SecurityGroup, SecurityRule } from "./model/model.ts";

/** An interface as the router sees it. */
export interface RoutedInterface {
  /** The router's end of the wire. */
  readonly device: string;
  readonly privateIp: string;
  readonly ipv6: string | undefined;
  readonly groups: readonly SecurityGroup[];
  readonly sourceDestCheck: boolean;
}

export interface Translation {
  readonly privateIp: string;
  readonly publicIp: string;
}

/** A load balancer's port, and who gets its packets. */
export interface Forwarding {
  readonly protocol: "udp" | "tcp";
  readonly publicIp: string;
  readonly port: number;
  readonly target: { readonly privateIp: string; readonly port: number };
}

/** On connections that came by a load balancer. */
export const BALANCED_MARK = 0x1b;

/** https://docs.aws.amazon.com/elasticloadbalancing/latest/network/update-idle-timeout.html: of UDP; of TCP it is 350 s. */
const BALANCED_IDLE_S = 120;

export interface RouterRules {
  /** Groups that rules of others name. */
  readonly referenced: readonly string[];
  /** Subnets whose IPv6 leaves by an egress-only gateway: nobody outside may begin. */
  readonly closedV6: readonly string[];
  /** The private addresses from which load balancers ask for their targets' health. */
  readonly balancers: readonly string[];
}

export function routerRules({ referenced, closedV6, balancers }: RouterRules): string {
  const sets = referenced.map(
    (id) => `
  set ${id} { type ipv4_addr; }
  set ${id}-v6 { type ipv6_addr; }`,
  );
  const checks =
    balancers.length === 0
      ? ""
      : `
  chain output {
    type filter hook output priority filter; policy accept;
    ct state { established, related } accept
    ip saddr { ${balancers.join(", ")} } oifname vmap @to_eni
  }`;
  const closed = closedV6.map((prefix) => `    iifname "internet" ip6 daddr ${prefix} drop\n`).join("");
  return `table inet lab {
  map eip_in { type ipv4_addr : ipv4_addr; }
  map eip_out { type ipv4_addr : ipv4_addr; }
  set eip_inside { type ipv4_addr; }
  map lb_udp { type ipv4_addr . inet_service : ipv4_addr . inet_service; }
  map lb_tcp { type ipv4_addr . inet_service : ipv4_addr . inet_service; }
  set lb_ips { type ipv4_addr; }
  set lb_flows {
    type inet_proto . ipv4_addr . inet_service . ipv4_addr . inet_service
    flags dynamic, timeout; timeout ${BALANCED_IDLE_S}s
  }
  map check_eni { type ifname : verdict; }
  map checkto_eni { type ifname : verdict; }
  map from_eni { type ifname : verdict; }
  map to_eni { type ifname : verdict; }${sets.join("")}
  chain forward {
    type filter hook forward priority filter; policy drop;
    iifname vmap @check_eni
    oifname vmap @checkto_eni
    ct state { established, related } accept
    ct state invalid drop
${closed}    iifname vmap @from_eni
    oifname vmap @to_eni
    accept
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "internet" ct state != { established, related } meta l4proto != ipv6-icmp drop
  }
  chain zones {
    type filter hook prerouting priority raw; policy accept;
    iifname "internet" ip daddr @lb_ips ct zone set 1
    iifname != "internet" meta l4proto . ip saddr . th sport . ip daddr . th dport @lb_flows ct zone set 1
  }
  chain flows {
    type filter hook forward priority mangle; policy accept;
    ct mark ${BALANCED_MARK} ct direction original update @lb_flows { meta l4proto . ip daddr . th dport . ip saddr . th sport }
  }${checks}
  chain balanced {
    type filter hook prerouting priority mangle; policy accept;
    iifname != "internet" ct mark ${BALANCED_MARK} ct direction reply meta mark set ${BALANCED_MARK}
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    iifname "internet" ip daddr @lb_ips ct mark set ${BALANCED_MARK}
    iifname "internet" meta l4proto udp dnat ip to ip daddr . udp dport map @lb_udp
    iifname "internet" meta l4proto tcp dnat ip to ip daddr . tcp dport map @lb_tcp
    iifname "internet" dnat ip to ip daddr map @eip_in
    ip saddr @eip_inside dnat ip to ip daddr map @eip_in
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "internet" snat ip to ip saddr map @eip_out
    ct status dnat ip saddr @eip_inside snat ip to ip saddr map @eip_out
    oifname "internet" meta nfproto ipv4 drop
  }
}
`;
}

/** What an interface that appears adds. */
export function interfaceRules(one: RoutedInterface, referenced: readonly string[]): string {
  const { device } = one;
  const lines = [
    ...["check", "checkto", "from", "to"].map((chain) => `add chain inet lab ${chain}-${device}`),
    ...guard(one),
    ...securityRules(`from-${device}`, one, "egress", "daddr"),
    ...securityRules(`to-${device}`, one, "ingress", "saddr"),
    ...["check", "checkto", "from", "to"].map(
      (chain) => `add element inet lab ${chain}_eni { "${device}" : jump ${chain}-${device} }`,
    ),
    ...members("add", one, referenced),
  ];
  return `${lines.join("\n")}\n`;
}

/** What takes away all that `interfaceRules` added. */
export function withoutInterface(one: RoutedInterface, referenced: readonly string[]): string {
  const { device } = one;
  const lines = [
    ...["check", "checkto", "from", "to"].map(
      (chain) => `delete element inet lab ${chain}_eni { "${device}" }`,
    ),
    ...["check", "checkto", "from", "to"].flatMap((chain) => [
      `flush chain inet lab ${chain}-${device}`,
      `delete chain inet lab ${chain}-${device}`,
    ]),
    ...members("delete", one, referenced),
  ];
  return `${lines.join("\n")}\n`;
}

export function translationRules(change: "add" | "delete", { privateIp, publicIp }: Translation): string {
  const [inward, outward] =
    change === "add" ? [`${publicIp} : ${privateIp}`, `${privateIp} : ${publicIp}`] : [publicIp, privateIp];
  return `${change} element inet lab eip_in { ${inward} }\n${change} element inet lab eip_out { ${outward} }\n${change} element inet lab eip_inside { ${privateIp} }\n`;
}

/** All ports of all load balancers at once; those without a target drop what comes. */
export function balancerRules(forwardings: readonly Forwarding[], publicIps: readonly string[]): string {
  const elements = (protocol: Forwarding["protocol"]): string =>
    forwardings
      .filter((one) => one.protocol === protocol)
      .map((one) => `${one.publicIp} . ${one.port} : ${one.target.privateIp} . ${one.target.port}`)
      .map((element) => `add element inet lab lb_${protocol} { ${element} }\n`)
      .join("");
  return [
    "flush map inet lab lb_udp\nflush map inet lab lb_tcp\nflush set inet lab lb_ips\n",
    publicIps.length === 0 ? "" : `add element inet lab lb_ips { ${publicIps.join(", ")} }\n`,
    elements("udp"),
    elements("tcp"),
  ].join("");
}

/** The groups that rules of others name as peers. */
export function referencedGroups(groups: readonly SecurityGroup[]): readonly string[] {
  const peers = groups.flatMap(({ ingress, egress }) => [...ingress, ...egress]).map(({ peer }) => peer);
  return [...new Set(peers.flatMap((peer) => (peer.kind === "group" ? [peer.id] : [])))];
}

/** AWS drops what bears another's address, both ways. */
function guard({ device, privateIp, ipv6, sourceDestCheck }: RoutedInterface): readonly string[] {
  if (!sourceDestCheck) return [];
  const own = (end: "saddr" | "daddr"): string[] => [
    `ip ${end} ${privateIp} return`,
    ...(ipv6 === undefined ? [] : [`ip6 ${end} ${ipv6} return`]),
    "drop",
  ];
  return [
    ...own("saddr").map((rule) => `add rule inet lab check-${device} ${rule}`),
    ...own("daddr").map((rule) => `add rule inet lab checkto-${device} ${rule}`),
  ];
}

function securityRules(
  chain: string,
  { groups }: RoutedInterface,
  direction: "ingress" | "egress",
  end: "saddr" | "daddr",
): readonly string[] {
  const allowed = groups.flatMap((group) => group[direction].flatMap((rule) => securityMatches(rule, end)));
  return [...allowed.map((match) => `${match} return`), "drop"].map(
    (rule) => `add rule inet lab ${chain} ${rule}`,
  );
}

function securityMatches(rule: SecurityRule, end: "saddr" | "daddr"): readonly string[] {
  return peerMatches(rule, end).map((peer) => {
    if (rule.protocol === "all") return peer;
    if (rule.ports === undefined) return `${peer} meta l4proto ${PROTOCOL[rule.protocol] ?? rule.protocol}`;
    const { from, to } = rule.ports;
    return `${peer} ${rule.protocol} dport ${from === to ? from : `${from}-${to}`}`;
  });
}

/** AWS's name → nftables'. */
const PROTOCOL: Readonly<Record<string, string>> = { icmpv6: "ipv6-icmp" };

function peerMatches({ peer }: SecurityRule, end: "saddr" | "daddr"): readonly string[] {
  if (peer.kind === "group") return [`ip ${end} @${peer.id}`, `ip6 ${end} @${peer.id}-v6`];
  const { prefix } = peer;
  if (prefix.isDefault) return [`meta nfproto ${prefix.ip.isV4 ? "ipv4" : "ipv6"}`];
  return [`${prefix.ip.isV4 ? "ip" : "ip6"} ${end} ${prefix.text}`];
}

function members(
  change: "add" | "delete",
  { groups, privateIp, ipv6 }: RoutedInterface,
  referenced: readonly string[],
): readonly string[] {
  return groups
    .filter(({ id }) => referenced.includes(id))
    .flatMap(({ id }) => [
      `${change} element inet lab ${id} { ${privateIp} }`,
      ...(ipv6 === undefined ? [] : [`${change} element inet lab ${id}-v6 { ${ipv6} }`]),
    ]);
}
