/**
 * What the kernel is told while an exit node is used: everything goes into the tunnel or nowhere.
 *
 * Two walls, of which each alone would do for most programs. Routes: a last route "unreachable" behind those into the
 * tunnel. And a table of nftables, since the kernel sends without a route where a socket is bound to a device, and to
 * the broadcast and multicast addresses of a link. Both outlive the process, so that its death opens nothing.
 *
 *     rule +50   DHCP                       → main        the lease must be renewed
 *     rule +55   forwarded from the tunnel  → main        as a router for others, not as a client
 *     rule +60   everything                 → table       peers, default → tunnel, "throw" for networks that are allowed
 *     rule +62   DNS                        → table + 1   no "throw": names are asked for through the tunnel
 */
import type { Ip, Prefix } from "../base/address.ts";

export interface ExitRouting {
  /** Local networks that may be spoken to beside the tunnel. */
  readonly allowed: readonly Prefix[];
  /** All networks that this machine is part of. No exit node reaches the DNS servers in them. */
  readonly local: readonly Prefix[];
  /** Reached instead of DNS servers in local and private networks; the first of each family is used. */
  readonly dns: readonly Ip[];
}

/** Which numbers and names are ours. */
export interface ExitNumbers {
  readonly device: string;
  readonly table: number;
  /** Of the router's first rule. */
  readonly priority: number;
  readonly mark: number;
  readonly markMask: number;
}

/** A line for `ip`; a rule does not show its family. */
export interface ExitSetting {
  readonly family: "v4" | "v6";
  /** Whether the device must have IPv6. */
  readonly onDevice: boolean;
  readonly text: string;
  readonly kind: "route" | "rule";
}

/** Behind every other route. */
const LAST_METRIC = 0xff000000;
const DEFAULTS = { v4: "0.0.0.0/0", v6: "::/0" } as const;
const FAMILIES = ["v4", "v6"] as const;
/** The client's and the server's port (RFC 2131, RFC 8415). */
const DHCP = { v4: "sport 68 dport 67", v6: "sport 546 dport 547" } as const;
const MULTICAST = ["224.0.0.0/4", "255.255.255.255/32", "ff00::/8"];

export function blockSettings({ table }: ExitNumbers): readonly ExitSetting[] {
  return FAMILIES.map((family) => lastRoute(family, table));
}

export function exitSettings(numbers: ExitNumbers, exit: ExitRouting): readonly ExitSetting[] {
  const { device, priority, table } = numbers;
  const settings = FAMILIES.flatMap((family): ExitSetting[] => [
    { family, onDevice: false, kind: "rule", text: dhcpRule(family, priority) },
    { family, onDevice: false, kind: "rule", text: forwardedRule(device, priority) },
  ]);
  if (exit.allowed.length === 0) return settings;
  const throws = [...exit.allowed.map(({ text }) => text), ...MULTICAST].map((text): ExitSetting => ({
    family: familyOf(text),
    onDevice: false,
    kind: "route",
    text: `throw ${text} table ${table}`,
  }));
  const dns = FAMILIES.flatMap((family): ExitSetting[] => [
    lastRoute(family, table + 1),
    {
      family,
      onDevice: true,
      kind: "route",
      text: `${DEFAULTS[family]} dev ${device} table ${table + 1}`,
    },
    ...dnsRules(priority, table).map((text): ExitSetting => ({
      family,
      onDevice: false,
      kind: "rule",
      text,
    })),
  ]);
  return [...settings, ...dns, ...throws];
}

/** Every rule that `exitSettings` may have set, for taking back what a process that was killed left. */
export function exitRuleTexts(
  { device, priority, table }: ExitNumbers,
  family: "v4" | "v6",
): readonly string[] {
  return [dhcpRule(family, priority), forwardedRule(device, priority), ...dnsRules(priority, table)];
}

function lastRoute(family: "v4" | "v6", table: number): ExitSetting {
  const text = `unreachable ${DEFAULTS[family]} metric ${LAST_METRIC} table ${table}`;
  return { family, onDevice: false, kind: "route", text };
}

function dhcpRule(family: "v4" | "v6", priority: number): string {
  return `pref ${priority + 50} ipproto udp ${DHCP[family]} lookup main`;
}

function forwardedRule(device: string, priority: number): string {
  return `pref ${priority + 55} iif ${device} lookup main`;
}

function dnsRules(priority: number, table: number): readonly string[] {
  return ["udp", "tcp"].map((proto) => `pref ${priority + 62} ipproto ${proto} dport 53 lookup ${table + 1}`);
}

export function guardName(device: string): string {
  return `sallyport-client-${device.replaceAll(/[^\w-]/g, "_")}`;
}

/** Networks in which an exit node's own resolvers may be, and this machine's not (RFC 1918, 3927, 4193, 4291). */
const PRIVATE = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

/**
 * The table of nftables, for `nft -f`: it takes the place of the former one at once.
 * @param routes that lead into the tunnel; DNS servers there stay as they are
 */
export function guardText(numbers: ExitNumbers, exit: ExitRouting, routes: readonly Prefix[]): string {
  const { device, mark, markMask } = numbers;
  const isOwn = `meta mark & ${hex(markMask)} == ${hex(mark)}`;
  const table = `inet ${guardName(device)}`;
  const tunneled = routes.filter((route) => !route.isDefault).map(({ text }) => text);
  const redirected = [...PRIVATE, ...exit.local.map(({ text }) => text)];
  const lines = [
    `table ${table} {}`,
    `delete table ${table}`,
    `table ${table} {`,
    "  chain output {",
    "    type filter hook output priority 10; policy accept;",
    `    oifname { "lo", "${device}" } accept`,
    `    ${isOwn} accept`,
    "    udp sport 68 udp dport 67 accept",
    "    udp sport 546 udp dport 547 accept",
    `    icmpv6 type { ${NEIGHBOUR_DISCOVERY} } accept`,
    ...allowances(exit.allowed),
    "    fib daddr type { broadcast, multicast } counter drop",
    "    counter reject with icmpx admin-prohibited",
    "  }",
    "  chain names {",
    "    type nat hook output priority -100; policy accept;",
    `    oifname "lo" accept`,
    `    ${isOwn} accept`,
    ...daddrLines(tunneled, "accept"),
    ...exit.dns.slice(0, 8).flatMap((ip, i, all) => redirectLines(ip, all.slice(0, i), redirected)),
    "  }",
    // The way back of our own packets, where the kernel checks by which device a sender would be reached.
    "  chain outward {",
    "    type filter hook output priority -150; policy accept;",
    `    ${isOwn} ct mark set meta mark`,
    "  }",
    "  chain inward {",
    "    type filter hook prerouting priority -150; policy accept;",
    `    iifname != "${device}" ct mark & ${hex(markMask)} == ${hex(mark)} meta mark set ct mark`,
    "  }",
    "}",
  ];
  return `${lines.join("\n")}\n`;
}

/** Removes the table, also where there is none. */
export function guardRemoval(device: string): string {
  const table = `inet ${guardName(device)}`;
  return `table ${table} {}\ndelete table ${table}\n`;
}

/** RFC 4861, and MLD (RFC 3810), without which switches do not pass it on. */
const NEIGHBOUR_DISCOVERY =
  "nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, mld-listener-report, mld2-listener-report, mld-listener-done";

function allowances(allowed: readonly Prefix[]): readonly string[] {
  if (allowed.length === 0) return [];
  const networks = [...allowed.map(({ text }) => text), ...MULTICAST];
  return ["    meta l4proto { tcp, udp } th dport 53 reject", ...daddrLines(networks, "accept")].concat(
    "    fib daddr type broadcast accept",
  );
}

function redirectLines(to: Ip, before: readonly Ip[], networks: readonly string[]): readonly string[] {
  if (before.some((other) => other.isV4 === to.isV4)) return [];
  const same = networks.filter((text) => !text.includes(":") === to.isV4);
  const target = to.isV4 ? `ip to ${to.text}` : `ip6 to ${to.text}`;
  return ["udp", "tcp"].flatMap((proto) => daddrLines(same, `${proto} dport 53 dnat ${target}`));
}

function daddrLines(networks: readonly string[], verdict: string): readonly string[] {
  return FAMILIES.flatMap((family) => {
    const same = networks.filter((text) => familyOf(text) === family);
    const keyword = family === "v4" ? "ip" : "ip6";
    return same.map((text) => `    ${keyword} daddr ${text} ${verdict}`);
  });
}

function familyOf(text: string): "v4" | "v6" {
  return text.includes(":") ? "v6" : "v4";
}

function hex(number: number): string {
  return `0x${number.toString(16)}`;
}
