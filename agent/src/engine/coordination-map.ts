/** How the coordination server writes its nodes into the map, and the smallest message that tells of a change. */
import type { Prefix } from "../base/address.ts";
import { formatRfc3339 } from "../base/rfc3339.ts";
import type { WallTime } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import { preferredDerp, routableIps } from "../core/control/messages.ts";
import type { CoordinationNode } from "./coordination-state.ts";

/** What the map says of a node beside its own record. */
export interface NodeView {
  readonly domain: string;
  readonly online: boolean;
  readonly expired: boolean;
  /** Approved and offered, default routes among them. */
  readonly routes: readonly Prefix[];
  /** Those of `routes` that this node carries now; with several routers for a route only one does. */
  readonly primaryRoutes: readonly Prefix[];
  /** Whether the relay map has this region. */
  readonly hasRegion: (region: number) => boolean;
}

/** A node as all others see it. */
export function nodeJson(node: CoordinationNode, view: NodeView): JsonObject {
  const addresses = [`${node.ipv4.text}/32`, `${node.ipv6.text}/128`];
  const primary = view.primaryRoutes.map((route) => route.text);
  const defaults = view.routes.filter((route) => route.isDefault).map((route) => route.text);
  const preferred = preferredDerp(node.hostinfo);
  const region = view.hasRegion(preferred) ? preferred : 0;
  return {
    ID: node.id,
    StableID: `n${node.id}`,
    Name: `${node.label}.${view.domain}.`,
    User: node.user,
    Key: node.key.text,
    ...(node.keyExpiry === undefined ? {} : { KeyExpiry: formatRfc3339(node.keyExpiry) }),
    Machine: node.machine.text,
    ...(node.discoKey === undefined ? {} : { DiscoKey: node.discoKey.text }),
    Addresses: addresses,
    AllowedIPs: [...addresses, ...defaults, ...primary],
    ...(node.endpoints.length === 0
      ? {}
      : { Endpoints: node.endpoints.map(({ endpoint }) => endpoint.text) }),
    ...(region === 0 ? {} : { DERP: `127.3.3.40:${region}`, HomeDERP: region }),
    Hostinfo: hostinfoForPeers(node),
    Created: formatRfc3339(node.created),
    Cap: node.cap,
    ...(node.tags.length === 0 ? {} : { Tags: node.tags }),
    ...(primary.length === 0 ? {} : { PrimaryRoutes: primary }),
    Online: view.online,
    ...(view.online ? {} : { LastSeen: formatRfc3339(node.lastSeen) }),
    MachineAuthorized: true,
    ...(view.expired ? { Expired: true } : {}),
  };
}

/** What a node offers that is also approved. */
export function approvedRoutes(
  node: CoordinationNode,
  isApproved: (route: Prefix) => boolean,
): readonly Prefix[] {
  const seen = new Set<string>();
  return routableIps(node.hostinfo).filter((route) => {
    if (seen.has(route.text) || !isApproved(route)) return false;
    seen.add(route.text);
    return true;
  });
}

/** A change of one node: `undefined` before is new, `undefined` after is gone. */
export interface NodeChange {
  readonly id: number;
  readonly before: JsonObject | undefined;
  readonly after: JsonObject | undefined;
}

/** The part of a map message that tells of the changes; without any it is empty. */
export function changesJson(changes: readonly NodeChange[], now: WallTime): JsonObject {
  const removed: number[] = [];
  const changed: JsonObject[] = [];
  const patches: JsonObject[] = [];
  const online: Record<string, boolean> = {};
  for (const { id, before, after } of changes) {
    if (after === undefined) {
      if (before !== undefined) removed.push(id);
      continue;
    }
    const patch = before === undefined ? undefined : patchJson(id, before, after);
    if (patch === undefined) changed.push(after);
    else if (onlyOnline(patch)) online[String(id)] = true;
    else if (Object.keys(patch).length > 1) patches.push(patch);
  }
  const message = {
    ...(removed.length === 0 ? {} : { PeersRemoved: removed }),
    ...(changed.length === 0 ? {} : { PeersChanged: changed }),
    ...(Object.keys(online).length === 0 ? {} : { OnlineChange: online }),
    ...(patches.length === 0 ? {} : { PeersChangedPatch: patches }),
  };
  return Object.keys(message).length === 0 ? message : { ...message, ControlTime: formatRfc3339(now) };
}

/** Whether the node itself must hear of a change: what it told us itself it knows. */
export function concernsSelf(change: NodeChange): boolean {
  const { before = {}, after = {} } = change;
  return differing(before, after).some((key) => !OWN_NEWS.has(key));
}

const OWN_NEWS: ReadonlySet<string> = new Set([
  "DiscoKey",
  "Endpoints",
  "DERP",
  "HomeDERP",
  "Hostinfo",
  "Cap",
  "Online",
  "LastSeen",
]);

/** Fields of a node that a patch can carry, by the patch's name for them. */
const PATCHABLE: ReadonlyMap<string, string> = new Map([
  ["Key", "Key"],
  ["KeyExpiry", "KeyExpiry"],
  ["DiscoKey", "DiscoKey"],
  ["Endpoints", "Endpoints"],
  ["HomeDERP", "DERPRegion"],
  ["Cap", "Cap"],
  ["Online", "Online"],
  ["LastSeen", "LastSeen"],
]);
/** These go without saying: DERP follows HomeDERP, and LastSeen is moot once a node is online. */
const IMPLIED: ReadonlySet<string> = new Set(["DERP"]);

/** `undefined` when a patch can not say it, such as a field that goes away. */
function patchJson(id: number, before: JsonObject, after: JsonObject): JsonObject | undefined {
  const patch: Record<string, unknown> = { NodeID: id };
  for (const key of differing(before, after)) {
    if (IMPLIED.has(key) || (key === "LastSeen" && after["Online"] === true)) continue;
    const name = PATCHABLE.get(key);
    if (name === undefined || after[key] === undefined) return undefined;
    patch[name] = after[key];
  }
  return patch;
}

function onlyOnline(patch: JsonObject): boolean {
  return Object.keys(patch).length === 2 && patch["Online"] === true;
}

function differing(a: JsonObject, b: JsonObject): readonly string[] {
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...keys].filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]));
}

/** Peers need no network report (which changes often), no log ID, and not what the node wished for. */
function hostinfoForPeers(node: CoordinationNode): JsonObject {
  const { NetInfo: _report, BackendLogID: _log, RequestTags: _tags, ...rest } = node.hostinfo;
  return rest;
}
