/**
 * What the kernel is to be told so that the tunnel is answered by the ingress interface and exit traffic leaves by the egress.
 *
 *     5100  packets made here, from the ingress address        ─▶ table 51: by the ingress interface
 *     5101  packets made here, UDP from the tunnel's port      ─▶ table 51
 *     5102  packets made here by the agent's user (at wish)    ─▶ table 51
 *     all others, and all that is forwarded                    ─▶ main table: by the egress
 *
 * Each of them says `iif lo`, "made here": a forwarded packet whose source port is the tunnel's would leave by the wrong
 * interface. One that is forwarded counts as made by user 0, so the agent is to have a user of its own.
 */
import type { Facts, ForwardingSettings } from "./facts.ts";
import { type Ingress, type Layout, layoutOf } from "./layout.ts";
import { packetFilter } from "./packet-filter.ts";
import type { ExitReason } from "./reasons.ts";
import { advertisedWays, exitWays, type Way } from "./ways.ts";

export interface KernelLine {
  readonly isV4: boolean;
  /** Without the verb, such as "pref 5100 iif lo from 10.0.0.10 lookup 51". */
  readonly text: string;
}

export interface Sysctl {
  /** Below /proc/sys. */
  readonly path: string;
  readonly value: string;
  /** Only where it is this now. */
  readonly onlyFrom?: string;
}

/** A question to the kernel, with the device that the answer must name. */
export interface RouteCheck {
  readonly question: string;
  readonly device: string;
  readonly reason: ExitReason;
}

export interface ForwardingPlan {
  readonly layout: Layout | undefined;
  /** Whether exit traffic is let through. */
  readonly open: boolean;
  readonly reasons: readonly ExitReason[];
  /** In the order in which they are set. */
  readonly sysctls: readonly Sysctl[];
  readonly addresses: readonly string[];
  readonly routes: readonly KernelLine[];
  readonly rules: readonly KernelLine[];
  readonly checks: readonly RouteCheck[];
  /** By which devices what comes out of the tunnel goes on. */
  readonly ways: readonly Way[];
  readonly nft: string;
}

/** @param known what was found out otherwise: a wrong address, a route that leads elsewhere */
export function planForwarding(
  facts: Facts,
  settings: ForwardingSettings,
  known: readonly ExitReason[] = [],
): ForwardingPlan {
  const layout = layoutOf(facts, settings);
  if (layout.kind === "unusable") {
    const nothing = { sysctls: [], addresses: [], routes: [], rules: [], checks: [], ways: [] };
    const nft = packetFilter(settings, undefined, false);
    return { layout: undefined, open: false, reasons: [layout.reason, ...known], ...nothing, nft };
  }
  const open = !known.some(({ closesExit }) => closesExit);
  const split = layout.kind === "split";
  return {
    layout,
    open,
    reasons: known,
    sysctls: sysctls(facts, settings, layout),
    addresses: split
      ? layout.ingress.missingAddresses.map(
          ({ ip, bits }) => `${ip.text}/${bits} dev ${layout.ingress.device}`,
        )
      : [],
    routes: split ? routes(layout.ingress, settings) : [],
    rules: split ? rules(layout, settings) : [],
    checks: checks(facts, layout, settings),
    ways: [...exitWays(settings, layout), ...advertisedWays(facts, settings)],
    nft: packetFilter(settings, layout, open),
  };
}

/** Priorities that are ours, counted from the first one's. */
export const RULE_OFFSETS = [-1, 0, 1, 2, 3] as const;
/** Above every other route's: only when the ingress interface is gone does it decide. */
const LAST_METRIC = 4_278_198_272;

function rules({ ingress, egressV4 }: Layout, settings: ForwardingSettings): readonly KernelLine[] {
  const { port, otherPorts, ingressUid, ipv6, tunnel, names } = settings;
  const to = `lookup ${names.table}`;
  const pref = (offset: (typeof RULE_OFFSETS)[number]): string => `pref ${names.priority + offset}`;
  const both = (text: string): readonly KernelLine[] => [true, false].map((isV4) => ({ isV4, text }));
  const lines: KernelLine[] = [];
  for (const ip of [ingress.v4, ingress.v6]) {
    if (ip !== undefined) lines.push({ isV4: ip.isV4, text: `${pref(0)} iif lo from ${ip.text} ${to}` });
  }
  for (const one of [port, ...otherPorts]) {
    lines.push(...both(`${pref(1)} iif lo ipproto udp sport ${one} ${to}`));
  }
  if (ingressUid !== undefined) {
    lines.push(...both(`${pref(2)} iif lo uidrange ${ingressUid}-${ingressUid} ${to}`));
    // Our own probes of the egress.
    if (egressV4 !== undefined)
      lines.push({ isV4: true, text: `${pref(-1)} iif lo from ${egressV4.text} lookup main` });
  }
  // AWS has no NAT66: exit traffic over IPv6 bears the ingress interface's address, so it leaves there.
  if (ipv6 === "snat") lines.push({ isV4: false, text: `${pref(3)} iif ${tunnel} ${to}` });
  return lines.filter(({ isV4 }) => isV4 || ingress.v6 !== undefined);
}

function routes(ingress: Ingress, { names }: ForwardingSettings): readonly KernelLine[] {
  const { device, subnets, gatewayV4, gatewayV6, v6 } = ingress;
  const to = `dev ${device} table ${names.table}`;
  const lines: KernelLine[] = [
    ...subnets.map(({ text, ip }) => ({ isV4: ip.isV4, text: `${text} ${to}` })),
    ...[gatewayV4, gatewayV6]
      .filter((ip) => ip !== undefined)
      .map((ip) => ({ isV4: ip.isV4, text: `default via ${ip.text} ${to}` })),
    ...[true, false].map((isV4) => ({
      isV4,
      text: `unreachable default table ${names.table} metric ${LAST_METRIC}`,
    })),
  ];
  return lines.filter(({ isV4 }) => isV4 || v6 !== undefined);
}

/**
 * Forwarding by interface, not for the whole machine, where the kernel can: IPv4. With reverse path filtering set to 1 the
 * kernel drops what comes in by the ingress, since the main table leads elsewhere; 2 asks only whether there is a way back.
 */
function sysctls(facts: Facts, settings: ForwardingSettings, layout: Layout): readonly Sysctl[] {
  const { tunnel, advertised, ipv6, exit } = settings;
  const near = advertisedWays(facts, settings).filter(({ isV4 }) => isV4);
  const [ingress, egress] = [layout.ingress.device, layout.egress];
  const forwarding = new Set([
    ...(exit ? [tunnel, egress] : []),
    ...(advertised.length > 0 ? [tunnel, egress, ...near.map(({ device }) => device)] : []),
  ]);
  const needsV6 = (exit && ipv6 === "snat") || advertised.some(({ ip }) => !ip.isV4);
  return [
    ...[...new Set([tunnel, egress, ingress])].map((name) => ({
      path: `net/ipv4/conf/${name}/rp_filter`,
      value: "2",
    })),
    ...[...forwarding].map((name) => ({ path: `net/ipv4/conf/${name}/forwarding`, value: "1" })),
    ...(needsV6 ? forwardingV6(facts, tunnel) : []),
  ];
}

/** A machine that forwards IPv6 forgets the routers that it has heard of, unless told otherwise first. */
function forwardingV6({ links }: Facts, tunnel: string): readonly Sysctl[] {
  return [
    ...links
      .filter(({ name }) => name !== "lo" && name !== tunnel)
      .map(({ name }) => ({ path: `net/ipv6/conf/${name}/accept_ra`, value: "2", onlyFrom: "1" })),
    { path: "net/ipv6/conf/all/forwarding", value: "1" },
  ];
}

/** Any address of the internet; of the ranges for examples (RFC 5737, RFC 9637), so that nothing real is meant. */
const [SOMEWHERE, SOMEWHERE_V6] = ["192.0.2.1", "3fff::1"];
/** Any device of the mesh; this one itself would be no answer. */
const ANYONE = ["100.127.255.254", "100.127.255.253"];
const ANYONE_V6 = ["fd7a:115c:a1e0::ffff:fffe", "fd7a:115c:a1e0::ffff:fffd"];

function checks(facts: Facts, layout: Layout, settings: ForwardingSettings): readonly RouteCheck[] {
  const { ingress } = layout;
  const taken = new Set(facts.links.flatMap(({ addresses }) => addresses.map(({ ip }) => ip.text)));
  const list = exitWays(settings, layout).map(({ device, isV4, what }) => {
    const someone = (isV4 ? ANYONE : ANYONE_V6).find((text) => !taken.has(text));
    const question = `${isV4 ? SOMEWHERE : SOMEWHERE_V6} from ${someone} iif ${settings.tunnel}`;
    const text = `${isV4 ? "Exit traffic" : what} would not leave by ${device}: see \`ip route get ${question}\`.`;
    // The packet filter lets IPv6 out there or nowhere; IPv4 is closed, too, as what has led it elsewhere is not known.
    return { question, device, reason: lostRoutes(text, isV4) };
  });
  if (layout.kind !== "split") return list;
  const hasV6 = ingress.v6 !== undefined && ingress.gatewayV6 !== undefined;
  const questions = [
    ...(ingress.v4 === undefined ? [] : [`${SOMEWHERE} from ${ingress.v4.text}`]),
    `${SOMEWHERE} ipproto udp sport ${settings.port}`,
    ...(hasV6 ? [`${SOMEWHERE_V6} from ${ingress.v6.text}`] : []),
    ...(hasV6 ? [`${SOMEWHERE_V6} ipproto udp sport ${settings.port}`] : []),
  ];
  return list.concat(
    questions.map((question) => {
      const text = `The tunnel would not answer by ${ingress.device}: see \`ip route get ${question}\` and \`ip rule\`.`;
      return { question, device: ingress.device, reason: lostRoutes(text, false) };
    }),
  );
}

function lostRoutes(text: string, closesExit: boolean): ExitReason {
  return { code: "routes-lost", text, closesExit };
}
