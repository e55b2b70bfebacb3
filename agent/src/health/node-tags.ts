/**
 * The values of the health tags: what a node says of itself, and what a reader may believe of it.
 *
 * A reader believes nothing it can not read: tags can be written by other hands, by an older agent, or by one that died hours
 * ago. Then the path is `unknown`, and why is said beside it.
 */
import { HEALTHY, type HealthTagKey, PRESENT_ON_EVERY_NODE } from "../../../constructs/health-tags.ts";
import { IpPort } from "../base/address.ts";
import { formatRfc3339, parseRfc3339 } from "../base/rfc3339.ts";
import { type Millis, millis, minutes, type WallTime } from "../base/time.ts";
import type { HealthProblem, HealthReason } from "./reasons.ts";
import type { PeerJson, StatusJson } from "./status-json.ts";

/** Instances that have this tag are nodes. */
export const NODE_TAG: HealthTagKey = PRESENT_ON_EVERY_NODE;
/** Writers say so at least this often. */
export const HEARTBEAT: Millis = minutes(5);
/** What is older than three heartbeats is not believed. */
const STALE_AFTER: Millis = millis(3 * HEARTBEAT);
/** A node's clock may be this far ahead of the reader's. */
const CLOCK_SKEW: Millis = HEARTBEAT;

export type NodeTags = Readonly<Record<HealthTagKey, string>>;
/** All but the time, which is the moment of writing. */
export type NodeState = Omit<NodeTags, "sallyport:updated">;

/** @param problems worst first */
export function nodeState(
  status: StatusJson,
  problems: readonly HealthProblem[],
  egress: string | undefined,
): NodeState {
  const active = Object.values(status.Peer ?? {}).filter((peer) => peer.Active);
  const direct = active.filter((peer) => wayOf(peer) === "direct");
  return {
    "sallyport:path": pathOf(status, active, problems),
    "sallyport:health": reasonOf(status) ?? problems[0]?.reason ?? HEALTHY,
    "sallyport:peers": `${direct.length}/${active.length} direct`,
    "sallyport:endpoint": endpointOf(status),
    "sallyport:relay": status.Self?.Relay ? code(status.Self.Relay) : "none",
    "sallyport:egress": egress ?? (status.Self?.ExitNodeOption === true ? "unknown" : "none"),
    "sallyport:version": status.Version,
  };
}

/** What an instance says that serves others and has no tunnel. */
export interface ServerFacts {
  readonly version: string;
  /** Where clients reach it, if that is known by address. */
  readonly endpoint: IpPort | undefined;
  /** The code of its own region, where it is a relay. */
  readonly relay: string | undefined;
  /** Worst first. */
  readonly problems: readonly HealthProblem[];
}

/** A server has no paths of its own. */
export function serverState({ version, endpoint, relay, problems }: ServerFacts): NodeState {
  return {
    "sallyport:path": "idle",
    "sallyport:health": problems[0]?.reason ?? HEALTHY,
    "sallyport:peers": "0/0 direct",
    "sallyport:endpoint": endpoint?.text ?? "unknown",
    "sallyport:relay": relay === undefined ? "none" : code(relay),
    "sallyport:egress": "none",
    "sallyport:version": version,
  };
}

/** What an agent leaves behind that ends in order. */
export function lastState(state: NodeState): NodeState {
  const reason: HealthReason = "stopped";
  return {
    ...state,
    "sallyport:path": "unknown",
    "sallyport:health": reason,
    "sallyport:peers": "0/0 direct",
  };
}

/** The values as they are sent. @throws never */
export function tagsOf(state: NodeState, at: WallTime): NodeTags {
  return { ...state, "sallyport:updated": formatRfc3339(at).replace(/\.\d+/, "") };
}

/** What a reader knows of a node. */
export interface NodeReport {
  /** "unknown" where there is a `doubt`. */
  readonly path: string;
  /** "ok", a reason, or "unknown". */
  readonly health: string;
  readonly peers: { readonly direct: number; readonly active: number } | undefined;
  readonly endpoint: string | undefined;
  readonly relay: string | undefined;
  readonly egress: string | undefined;
  readonly version: string | undefined;
  readonly updated: WallTime | undefined;
  /** Since it was written; never negative. */
  readonly age: Millis | undefined;
  /** Why path and health are not believed. */
  readonly doubt: Doubt | undefined;
}

/** `stale`: not written for three heartbeats. `clock`: written in the future. `malformed`: not in the tags' grammar. */
export type Doubt = "stale" | "clock" | "malformed";

/** Reads tags that anybody may have written. @throws never */
export function readNodeTags(tags: ReadonlyMap<string, string>, now: WallTime): NodeReport {
  const value = (key: HealthTagKey): string | undefined => {
    const text = tags.get(key);
    return text !== undefined && GRAMMAR[key].test(text) ? text : undefined;
  };
  const updated = parseRfc3339(value("sallyport:updated") ?? "");
  const path = value("sallyport:path");
  const health = value("sallyport:health");
  const doubt = path === undefined || health === undefined ? "malformed" : doubtOf(updated, now);
  const [, direct, active] = PEERS.exec(value("sallyport:peers") ?? "") ?? [];
  return {
    path: doubt === undefined ? (path ?? "unknown") : "unknown",
    health: doubt === undefined ? (health ?? "unknown") : "unknown",
    peers: active === undefined ? undefined : { direct: Number(direct), active: Number(active) },
    endpoint: value("sallyport:endpoint"),
    relay: value("sallyport:relay"),
    egress: value("sallyport:egress"),
    version: value("sallyport:version"),
    updated,
    age: updated === undefined ? undefined : millis(Math.max(0, now - updated)),
    doubt,
  };
}

function doubtOf(updated: WallTime | undefined, now: WallTime): Doubt | undefined {
  if (updated === undefined) return "malformed";
  if (updated - now > CLOCK_SKEW) return "clock";
  return now - updated > STALE_AFTER ? "stale" : undefined;
}

const PEERS = /^(\d{1,6})\/(\d{1,6}) direct$/;
const ADDRESS = /^(unknown|none|[0-9a-f.:[\]%]{2,64})$/i;

const GRAMMAR: Readonly<Record<HealthTagKey, RegExp>> = {
  "sallyport:path": /^(direct|mixed|idle|blocked|unknown|relay:[a-z0-9-]{1,32})$/,
  // A newer agent may know more reasons.
  "sallyport:health": /^[a-z][a-z0-9-]{0,39}$/,
  "sallyport:peers": PEERS,
  "sallyport:endpoint": ADDRESS,
  "sallyport:relay": /^[a-z0-9-]{1,32}$/,
  "sallyport:egress": ADDRESS,
  "sallyport:version": /^[\w.+-]{1,40}$/,
  "sallyport:updated": /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
};

/** The way of a peer's packets now; the home relay is named even while the path is direct. */
function wayOf(peer: PeerJson): string | undefined {
  if (peer.CurAddr !== "") return "direct";
  if (peer.PeerRelay !== "") return "relay:peer";
  return peer.Relay === "" ? undefined : `relay:${code(peer.Relay)}`;
}

function pathOf(status: StatusJson, active: readonly PeerJson[], problems: readonly HealthProblem[]): string {
  if (status.BackendState !== "Running") return "unknown";
  const reasons = new Set(problems.map(({ reason }) => reason));
  if (reasons.has("udp-blocked") && reasons.has("relay-lost")) return "blocked";
  if (active.length === 0) return "idle";
  const counts = new Map<string, number>();
  for (const peer of active) {
    const way = wayOf(peer);
    if (way !== undefined) counts.set(way, (counts.get(way) ?? 0) + 1);
  }
  const [most, ...others] = [...counts].sort(([a, n], [b, m]) => m - n || (a < b ? -1 : 1));
  if (most === undefined) return "blocked";
  if (others.length > 0 && counts.has("direct")) return "mixed";
  return most[0];
}

/** Why it is not up; undefined where it is. */
function reasonOf(status: StatusJson): HealthReason | undefined {
  switch (status.BackendState) {
    case "NeedsLogin":
    case "NeedsMachineAuth":
      return "needs-login";
    case "Stopped":
      return "stopped";
    case "NoState":
    case "Starting":
      return "starting";
    case "Running":
      return undefined;
  }
}

/** What peers outside can use, first what STUN saw. */
function endpointOf(status: StatusJson): string {
  const addresses = (status.Self?.Addrs ?? []).map((text) => IpPort.tryParse(text));
  const isPublic = ({ ip }: IpPort): boolean => !ip.isPrivate && !ip.isLoopback && !ip.isLinkLocal;
  return addresses.find((address) => address !== undefined && isPublic(address))?.text ?? "unknown";
}

/** A region's code comes from the coordination server: anything may be in it. */
function code(text: string): string {
  return text
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]/g, "-")
    .slice(0, 32);
}
