/**
 * Our table of nftables, as the text that `nft -f -` takes: what may go from the tunnel where, and by whose address.
 *
 *     tunnel ─▶ prerouting ─▶ forward ─┬─ outward: advertised? ─▶ carried ─▶ postrouting: masquerade
 *               IPv6 refused           │           own network ─▶ refused
 *                                      │           egress      ─▶ carried ─▶ postrouting: masquerade
 *                                      │           anything else ─▶ dropped
 *                                      └─ homeward: answers only ─▶ tunnel
 *
 * The text replaces the whole table in one transaction. An accept in it ends only our chains: other tables still have their
 * say (foreign-firewalls.ts). What the connection tracking does not know would not be translated, so it is dropped.
 */
import type { Prefix } from "../../base/address.ts";
import { disjoint, type Layout } from "./layout.ts";
import type { ForwardingSettings } from "./facts.ts";

/** @param layout `undefined`: nothing is forwarded, save what is dropped anyway */
export function packetFilter(
  settings: ForwardingSettings,
  layout: Layout | undefined,
  open: boolean,
): string {
  const { names } = settings;
  const table = `table inet ${names.nftTable}`;
  const chains = layout === undefined ? closedChains(settings) : openChains(settings, layout, open);
  return [table, `delete ${table}`, `${table} {`, ...chains.map((line) => `  ${line}`), "}", ""].join("\n");
}

export function withoutPacketFilter(nftTable: string): string {
  return `table inet ${nftTable}\ndelete table inet ${nftTable}\n`;
}

/** Bits of the packet's mark that say "carried for a device"; Tailscale uses the same. Routing is over when they are set. */
const CARRIED = "0x40000";
const MARK_MASK = "0xff0000";
const OTHER_BITS = "0xff00ffff";
/** Before the chains of others, whose priority is 0 (filter) and 100 (source NAT). */
const FILTER_PRIORITY = -5;
const NAT_PRIORITY = 95;
/** Where a device's own port is the tunnel's: an answer to it must not be taken for the tunnel's, or the reverse. */
const OTHER_PORTS = "49152-65535";

/** Instance metadata and other link-local services; the IPv6 form of EC2's metadata. */
const NEVER_V4 = ["169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255/32"];
const NEVER_V6 = ["fe80::/10", "fd00:ec2::/32", "ff00::/8", "::1/128"];

function closedChains({ tunnel }: ForwardingSettings): readonly string[] {
  return chain("forward", `type filter hook forward priority ${FILTER_PRIORITY}; policy accept;`, [
    `iifname "${tunnel}" counter drop`,
    `oifname "${tunnel}" ct state established,related accept`,
    `oifname "${tunnel}" counter drop`,
  ]);
}

function openChains(settings: ForwardingSettings, layout: Layout, open: boolean): readonly string[] {
  const { tunnel, ipv6 } = settings;
  const advertised = disjoint(settings.advertised);
  const from = `iifname "${tunnel}"`;
  return [
    ...set("advertised4", "ipv4_addr", texts(advertised, true)),
    ...set("advertised6", "ipv6_addr", texts(advertised, false)),
    ...set("never4", "ipv4_addr", NEVER_V4),
    ...set("never6", "ipv6_addr", NEVER_V6),
    ...set("own4", "ipv4_addr", texts(layout.own, true)),
    ...set("own6", "ipv6_addr", texts(layout.own, false)),
    ...(ipv6 === "block" ? refuseV6(from) : []),
    ...chain("input", `type filter hook input priority ${FILTER_PRIORITY}; policy accept;`, [
      `${from} jump inward`,
    ]),
    ...chain("inward", undefined, [
      "ip daddr @advertised4 accept",
      "ip6 daddr @advertised6 accept",
      "ip daddr @own4 counter reject with icmpx admin-prohibited",
      "ip6 daddr @own6 counter reject with icmpx admin-prohibited",
    ]),
    ...chain("forward", `type filter hook forward priority ${FILTER_PRIORITY}; policy accept;`, [
      `${from} jump outward`,
      `oifname "${tunnel}" jump homeward`,
    ]),
    ...chain("outward", undefined, [
      `oifname "${tunnel}" counter drop`,
      "ip daddr @never4 counter drop",
      "ip6 daddr @never6 counter drop",
      "ip daddr @advertised4 goto carried",
      "ip6 daddr @advertised6 goto carried",
      "ip daddr @own4 counter reject with icmpx admin-prohibited",
      "ip6 daddr @own6 counter reject with icmpx admin-prohibited",
      ...(open && settings.exit ? exitRules(settings, layout) : []),
      "counter drop",
    ]),
    ...chain("carried", undefined, [
      "ct state invalid,untracked counter drop",
      CLAMP,
      `meta mark set meta mark & ${OTHER_BITS} | ${CARRIED}`,
      "counter accept",
    ]),
    ...chain("homeward", undefined, [CLAMP, "ct state established,related counter accept", "counter drop"]),
    ...chain(
      "postrouting",
      `type nat hook postrouting priority ${NAT_PRIORITY}; policy accept;`,
      natRules(settings, layout),
    ),
  ];
}

/** To what the narrower of the two ways takes; it never raises. */
const CLAMP = "tcp flags syn / syn,rst tcp option maxseg size set rt mtu";

function exitRules({ ipv6 }: ForwardingSettings, layout: Layout): readonly string[] {
  return [
    `meta nfproto ipv4 oifname "${layout.egress}" goto carried`,
    ...(ipv6 === "snat" && layout.ingress.v6 !== undefined
      ? [`meta nfproto ipv6 oifname "${layout.ingress.device}" goto carried`]
      : []),
  ];
}

function natRules({ port, otherPorts }: ForwardingSettings, { ingress }: Layout): readonly string[] {
  const carried = `meta mark & ${MARK_MASK} == ${CARRIED}`;
  const ports = [port, ...otherPorts].join(", ");
  const v6 = ingress.v6 === undefined ? "masquerade" : `snat ip6 to ${ingress.v6.text}`;
  return [
    `${carried} udp sport { ${ports} } masquerade to :${OTHER_PORTS} random`,
    ...(ingress.v6 === undefined ? [] : [`${carried} meta nfproto ipv6 oifname "${ingress.device}" ${v6}`]),
    `${carried} masquerade`,
  ];
}

/** Before routing, as this machine forwards no IPv6 then. A device hears at once that there is no way, and takes IPv4. */
function refuseV6(from: string): readonly string[] {
  return chain("prerouting", `type filter hook prerouting priority ${FILTER_PRIORITY}; policy accept;`, [
    `${from} meta nfproto ipv6 jump refuse6`,
  ]).concat(
    chain("refuse6", undefined, [
      "fib daddr type { local, multicast } accept",
      "ip6 daddr @advertised6 accept",
      "counter reject with icmpv6 no-route",
    ]),
  );
}

function chain(name: string, hook: string | undefined, rules: readonly string[]): readonly string[] {
  const lines = hook === undefined ? rules : [hook, ...rules];
  return [`chain ${name} {`, ...lines.map((line) => `  ${line}`), "}"];
}

function set(name: string, type: string, elements: readonly string[]): readonly string[] {
  const list = elements.length === 0 ? "" : ` elements = { ${elements.join(", ")} };`;
  return [`set ${name} { type ${type}; flags interval;${list} }`];
}

function texts(prefixes: readonly Prefix[], isV4: boolean): readonly string[] {
  return prefixes.filter(({ ip }) => ip.isV4 === isV4).map(({ text }) => text);
}
