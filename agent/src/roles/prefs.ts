/** What the user asked for: how a request of `up` or `set` changes it, and what of it can not be. */
import { Ip, Prefix } from "../base/address.ts";
import { UsageError } from "../base/errors.ts";
import { type AcceptingFirewall, acceptingFirewalls } from "../core/exit/foreign-firewalls.ts";
import type { PrefsRequest } from "../health/local-backend.ts";
import type { DaemonPrefs } from "../io/state-store.ts";

/** `exitNode` of someone who takes the nearest. */
export const AUTO = "auto";

/** What the request leaves out stays as it was. @throws UsageError */
export function changedPrefs(former: DaemonPrefs, request: Partial<PrefsRequest>): DaemonPrefs {
  const prefs: DaemonPrefs = {
    ...former,
    hostname: request.hostname ?? former.hostname,
    advertiseExitNode: request.advertiseExitNode ?? former.advertiseExitNode,
    advertiseRoutes: request.advertiseRoutes ?? former.advertiseRoutes,
    forwardAccept: request.forwardAccept ?? former.forwardAccept,
    acceptRoutes: request.acceptRoutes ?? former.acceptRoutes,
    exitNode: request.exitNode === undefined ? former.exitNode : request.exitNode || undefined,
    exitNodeAllowLanAccess: request.exitNodeAllowLanAccess ?? former.exitNodeAllowLanAccess,
    exitNodeDns: request.exitNodeDns ?? former.exitNodeDns,
  };
  for (const route of prefs.advertiseRoutes) checkRoute(route);
  for (const server of prefs.exitNodeDns) checkServer(server);
  acceptingFirewallsOf(prefs);
  if (prefs.advertiseExitNode && prefs.exitNode !== undefined) {
    throw new UsageError(
      "exit-node-both",
      "a node that offers to be an exit node can not use one: give --exit-node= or --no-advertise-exit-node, too",
    );
  }
  return prefs;
}

/** The routes of Hostinfo.RoutableIPs. */
export function routableIps({ advertiseExitNode, advertiseRoutes }: DaemonPrefs): readonly string[] {
  return [...(advertiseExitNode ? ["0.0.0.0/0", "::/0"] : []), ...advertiseRoutes];
}

/** @throws UsageError */
export function acceptingFirewallsOf({
  forwardAccept,
}: Pick<DaemonPrefs, "forwardAccept">): readonly AcceptingFirewall[] {
  return forwardAccept.map((text) => {
    const known = acceptingFirewalls.find((one) => one === text);
    if (known !== undefined) return known;
    const names = acceptingFirewalls.join(", ");
    throw new UsageError("forward-accept", `--forward-accept knows no "${text}": it takes ${names}`);
  });
}

function checkRoute(text: string): void {
  const prefix = text.includes("/") ? parsePrefix(text) : undefined;
  const remedy = "--advertise-routes takes networks such as 10.1.0.0/16, separated by commas";
  if (prefix === undefined) throw new UsageError("advertise-routes", `"${text}" is no network: ${remedy}`);
  if (prefix.isDefault) {
    throw new UsageError("advertise-routes", `${text} is all traffic: give --advertise-exit-node instead`);
  }
  if (prefix.text !== text) {
    throw new UsageError("advertise-routes", `${text} has bits behind its length: write ${prefix.text}`);
  }
}

function parsePrefix(text: string): Prefix | undefined {
  try {
    return Prefix.parse(text);
  } catch {
    return undefined;
  }
}

function checkServer(text: string): void {
  if (Ip.tryParse(text) !== undefined) return;
  throw new UsageError(
    "exit-node-dns",
    `"${text}" is no IP address: --exit-node-dns takes DNS servers' addresses`,
  );
}
