/**
 * The network map: everything the coordination server has told, folded from the messages of its stream.
 *
 * Each change makes a new frozen object, so that a reader compares by identity and never sees half an update.
 */
import { type Millis, minutes, type WallTime, wallTime } from "../../base/time.ts";
import { type DerpMap, emptyDerpMap, parseDerpMap } from "../path/derp-map.ts";
import type { FilterRuleJson, MapNode, MapUpdate, PeerPatch, UserProfile } from "./map-response.ts";

export type { FilterRuleJson, MapNode, UserProfile } from "./map-response.ts";

export interface NetMap {
  readonly self: MapNode;
  /** Sorted by id; never oneself. */
  readonly peers: readonly MapNode[];
  readonly derpMap: DerpMap;
  /** `undefined`: none received yet, which denies everything. */
  readonly packetFilter: readonly FilterRuleJson[] | undefined;
  readonly domain: string;
  readonly users: ReadonlyMap<number, UserProfile>;
  /** What follows the host's label in names, without the final dot. */
  readonly magicDnsSuffix: string;
}

/** tailcfg: the server's clock is believed for expiry when the two differ by more. */
const CLOCK_TOLERANCE: Millis = minutes(1);

export class NetMapFolder {
  readonly #peers = new Map<number, MapNode>();
  readonly #filters = new Map<string, readonly FilterRuleJson[]>();
  readonly #users = new Map<number, UserProfile>();
  #self: MapNode | undefined;
  #derpMap: DerpMap = emptyDerpMap;
  #domain = "";
  #filterKnown = false;
  #first = true;
  /** The server's clock minus ours. */
  #clockOffset = 0;

  /** A new map poll: its first message is complete again; until it comes the old map stays. */
  beginPoll(): void {
    this.#first = true;
  }

  /** The new map, `undefined` when nothing changed, or "no-node" when a poll began without one, which ends it. */
  apply(update: MapUpdate, now: WallTime): NetMap | "no-node" | undefined {
    this.#readClock(update, now);
    if (update.keepAlive) return undefined;
    if (this.#first && update.node === undefined) return "no-node";
    if (this.#first) this.#startOver();
    this.#first = false;
    this.#self = update.node ?? this.#self;
    this.#foldPeers(update, wallTime(now + this.#clockOffset));
    this.#foldRest(update);
    return this.current(now);
  }

  /** The map as of `now`: peers whose keys have expired since then are marked. */
  current(now: WallTime): NetMap | undefined {
    const self = this.#self;
    if (self === undefined) return undefined;
    const serverNow = wallTime(now + this.#clockOffset);
    const peers = [...this.#peers.values()].filter((peer) => peer.id !== self.id);
    peers.sort((a, b) => a.id - b.id);
    return Object.freeze({
      self: asOf(self, serverNow),
      peers: Object.freeze(peers.map((peer) => asOf(peer, serverNow))),
      derpMap: this.#derpMap,
      packetFilter: this.#filterKnown ? this.#filter() : undefined,
      domain: this.#domain,
      users: new Map(this.#users),
      magicDnsSuffix: suffixOf(self.name),
    });
  }

  /** How long until the next key expires, if any does. */
  untilExpiry(now: WallTime): Millis | undefined {
    const serverNow = now + this.#clockOffset;
    const expiries = [this.#self, ...this.#peers.values()]
      .map((node) => node?.keyExpiry ?? 0)
      .filter((expiry) => expiry > serverNow);
    return expiries.length === 0 ? undefined : ((Math.min(...expiries) - serverNow) as Millis);
  }

  #startOver(): void {
    this.#peers.clear();
    this.#filters.clear();
    this.#filterKnown = false;
  }

  #readClock(update: MapUpdate, now: WallTime): void {
    if (update.controlTime === undefined) return;
    const offset = update.controlTime - now;
    this.#clockOffset = Math.abs(offset) > CLOCK_TOLERANCE ? offset : 0;
  }

  /** The order is the protocol's: a complete list replaces all; otherwise removed, changed, seen, online, patches. */
  #foldPeers(update: MapUpdate, serverNow: WallTime): void {
    if (update.peers !== undefined && update.peers.length > 0) {
      this.#peers.clear();
      for (const peer of update.peers) this.#put(peer);
    } else {
      for (const id of update.peersRemoved) this.#peers.delete(id);
      for (const peer of update.peersChanged) this.#put(peer);
    }
    for (const [id, seen] of update.seenChange) {
      this.#change(id, (peer) => ({ ...peer, lastSeen: seen ? serverNow : undefined }));
    }
    for (const [id, online] of update.onlineChange) this.#change(id, (peer) => ({ ...peer, online }));
    if (update.peers !== undefined && update.peers.length > 0) return;
    for (const patch of update.patches) this.#change(patch.id, (peer) => patched(peer, patch));
  }

  #put(peer: MapNode): void {
    this.#peers.set(peer.id, Object.freeze(peer));
  }

  #change(id: number, change: (peer: MapNode) => MapNode): void {
    const peer = this.#peers.get(id);
    if (peer !== undefined) this.#put(change(peer));
  }

  #foldRest(update: MapUpdate): void {
    if (update.derpMap !== undefined) this.#derpMap = parseDerpMap(update.derpMap, this.#derpMap);
    if (update.domain !== undefined) this.#domain = update.domain;
    for (const user of update.users) this.#users.set(user.id, Object.freeze(user));
    if (update.packetFilters.size === 0) return;
    this.#filterKnown = true;
    if (update.packetFilters.has("*")) this.#filters.clear();
    for (const [name, rules] of update.packetFilters) {
      if (rules === undefined) this.#filters.delete(name);
      else this.#filters.set(name, rules);
    }
  }

  #filter(): readonly FilterRuleJson[] {
    const names = [...this.#filters.keys()].sort();
    return Object.freeze(names.flatMap((name) => this.#filters.get(name) ?? []));
  }
}

/** Both default routes: the node offers to carry all traffic. */
export function offersExitNode(node: MapNode): boolean {
  return node.allowedIps.filter((prefix) => prefix.isDefault).length === 2;
}

function patched(peer: MapNode, patch: PeerPatch): MapNode {
  return {
    ...peer,
    key: patch.key ?? peer.key,
    discoKey: patch.discoKey ?? peer.discoKey,
    endpoints: patch.endpoints ?? peer.endpoints,
    homeRegion: patch.homeRegion ?? peer.homeRegion,
    cap: patch.cap ?? peer.cap,
    online: patch.online ?? peer.online,
    lastSeen: patch.lastSeen ?? peer.lastSeen,
    keyExpiry: patch.keyExpiry ?? peer.keyExpiry,
  };
}

function asOf(node: MapNode, serverNow: WallTime): MapNode {
  if (node.expired || node.keyExpiry === undefined || node.keyExpiry > serverNow) return node;
  return Object.freeze({ ...node, expired: true });
}

function suffixOf(name: string): string {
  const dot = name.indexOf(".");
  return dot < 0 ? "" : name.slice(dot + 1).replace(/\.$/, "");
}
