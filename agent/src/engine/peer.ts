import type { Prefix } from "../base/address.ts";
import type { Instant } from "../base/time.ts";
import type { MapNode } from "../core/control/net-map.ts";
import type { PeerPaths } from "../core/path/peer-paths.ts";
import type { Unproven } from "./unproven.ts";

/** What the engine holds for one peer of the network map. */
export interface Peer {
  node: MapNode;
  readonly paths: PeerPaths;
  readonly unproven: Unproven;
  /** The prefixes by which packets are routed to it. */
  routes: readonly Prefix[];
  /** When a packet was last sent to it. */
  wroteAt: Instant | undefined;
}

/**
 * The allowed IPs that a node takes from the map: single addresses. Subnets and default
 * routes are a peer's offer, used only where they were asked for.
 */
export function acceptedRoutes(node: MapNode): readonly Prefix[] {
  return node.allowedIps.filter((prefix) => prefix.isHost);
}

/** Both default routes: the peer offers to carry all traffic. */
export function offersExitNode(node: MapNode): boolean {
  return node.allowedIps.filter((prefix) => prefix.isDefault).length === 2;
}
