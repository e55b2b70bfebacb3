/** The peers of the network map, found by node key, by disco key and by the addresses routed to them. */
import type { Prefix } from "../base/address.ts";
import type { DiscoPublic, NodePublic } from "../base/keys.ts";
import type { MapNode } from "../core/control/net-map.ts";
import { addressLength, destinationOffset, type Packet } from "../core/ip/packet.ts";
import { PrefixTable } from "../core/ip/prefix-table.ts";
import { acceptedRoutes, ownAddressesOnly, type Peer, type RouteWishes } from "./peer.ts";

export class PeerBook {
  readonly #byKey = new Map<string, Peer>();
  readonly #byDisco = new Map<string, Set<Peer>>();
  readonly #routes = new PrefixTable<Peer>();
  /** Which of the peers' offers are used; it counts from the next `put` or `reroute` on. */
  wishes: RouteWishes = ownAddressesOnly;

  get all(): Iterable<Peer> {
    return this.#byKey.values();
  }

  byKey(key: NodePublic): Peer | undefined {
    return this.#byKey.get(key.text);
  }

  hasDisco(key: DiscoPublic): boolean {
    return this.#byDisco.has(key.text);
  }

  /** The peer with this disco key; `named` decides where several nodes claim it. */
  byDisco(key: DiscoPublic, named: NodePublic | undefined): Peer | undefined {
    const peers = this.#byDisco.get(key.text);
    if (peers === undefined) return undefined;
    if (named !== undefined) return [...peers].find(({ node }) => node.key.text === named.text);
    const [only] = peers;
    return peers.size === 1 ? only : undefined;
  }

  /** Whom a packet from the device is for. */
  byDestination(packet: Packet): Peer | undefined {
    return this.#routes.lookupBytes(packet.bytes, destinationOffset(packet), addressLength(packet));
  }

  /** Adds a peer, or takes over what the map now says of it. Returns what the map said before. */
  put(peer: Peer, node: MapNode): MapNode | undefined {
    const former = this.#byKey.has(node.key.text) ? peer.node : undefined;
    if (former !== undefined) this.#unindex(peer);
    this.#byKey.set(node.key.text, peer);
    peer.node = node;
    this.#route(peer);
    if (node.discoKey !== undefined) {
      const peers = this.#byDisco.get(node.discoKey.text) ?? new Set();
      this.#byDisco.set(node.discoKey.text, peers.add(peer));
    }
    return former;
  }

  /** Routes to every peer as the wishes now say. Returns those for which that changed something. */
  reroute(): readonly Peer[] {
    return [...this.#byKey.values()].filter((peer) => {
      const before = peer.routes.join();
      this.#unroute(peer);
      this.#route(peer);
      return peer.routes.join() !== before;
    });
  }

  /** Removes the peers whose keys `isPresent` denies, and returns them. */
  retain(isPresent: (key: NodePublic) => boolean): readonly Peer[] {
    const gone = [...this.#byKey.values()].filter(({ node }) => !isPresent(node.key));
    for (const peer of gone) {
      this.#unindex(peer);
      this.#byKey.delete(peer.node.key.text);
    }
    return gone;
  }

  #unindex(peer: Peer): void {
    this.#unroute(peer);
    const disco = peer.node.discoKey?.text ?? "";
    const peers = this.#byDisco.get(disco);
    peers?.delete(peer);
    if (peers?.size === 0) this.#byDisco.delete(disco);
  }

  #route(peer: Peer): void {
    peer.routes = peer.node.expired ? [] : acceptedRoutes(peer.node, this.wishes);
    for (const prefix of peer.routes) this.#routes.set(prefix, peer);
  }

  /** Where another peer offers the same, it takes over. */
  #unroute(peer: Peer): void {
    for (const prefix of peer.routes) {
      if (this.#routes.get(prefix) !== peer) continue;
      const heir = prefix.isHost ? undefined : this.#otherWith(prefix, peer);
      if (heir === undefined) this.#routes.delete(prefix);
      else this.#routes.set(prefix, heir);
    }
    peer.routes = [];
  }

  #otherWith({ text }: Prefix, peer: Peer): Peer | undefined {
    const offers = (other: Peer): boolean => other.routes.some((prefix) => prefix.text === text);
    return [...this.#byKey.values()].find((other) => other !== peer && offers(other));
  }
}
