/**
 * What the engine holds for one peer of the network map, and how its sealed packets leave:
 * by the path in use, by both while it is in doubt, held back while a move would overtake
 * too much, and again by the relay when a direct path fell silent.
 */
import type { IpPort, Prefix } from "../base/address.ts";
import type { NodePublic } from "../base/keys.ts";
import type { Random } from "../base/random.ts";
import { earliest, type Instant, type Millis } from "../base/time.ts";
import type { MapNode } from "../core/control/net-map.ts";
import { BASE_MTU } from "../core/path/path-mtu.ts";
import { PlainPath } from "../core/path/plain-path.ts";
import { type Path, type RegionId, relay } from "../core/path/path.ts";
import { type PathTransmit, PeerPaths } from "../core/path/peer-paths.ts";
import { HoldBack } from "./hold-back.ts";
import { Unproven } from "./unproven.ts";

export type PeerAction =
  PathTransmit | { readonly kind: "send"; readonly via: Path; readonly payload: Uint8Array };

export type PeerEvent =
  | { readonly kind: "moved"; readonly to: Path | undefined }
  | { readonly kind: "pong"; readonly txId: string; readonly via: Path; readonly rtt: Millis };

export class Peer {
  readonly paths: PeerPaths;
  node: MapNode;
  /** The prefixes by which packets are routed to it. */
  routes: readonly Prefix[] = [];
  /** When a packet was last sent to it. */
  wroteAt: Instant | undefined;
  /** When its program was found to be another one, so that a new session was asked for; and when last. */
  renewal: { readonly since: Instant; at: Instant } | undefined;
  readonly #unproven = new Unproven();
  readonly #holdBack = new HoldBack();
  readonly #actions: PeerAction[] = [];
  readonly #events: PeerEvent[] = [];
  #relay: RegionId | undefined;

  constructor(node: MapNode, random: Random, tunnelMtu?: number) {
    this.node = node;
    this.paths =
      node.plain === undefined
        ? new PeerPaths(random, tunnelMtu)
        : new PlainPath(random, tunnelMtu ?? BASE_MTU, node.plain.endpoint);
  }

  /** The region by which it is reached: its home, or the one it last spoke to us through. */
  setRelay(region: RegionId | undefined): void {
    this.#relay = region;
    this.paths.setRelay(region);
  }

  /** Sends a WireGuard message by the path in use. Returns false where there is none. */
  send(kind: "handshake" | "data" | "keepalive", payload: Uint8Array, now: Instant): boolean {
    const vias = this.paths.pathsFor(kind !== "keepalive", now);
    const settled = vias.length === 1 && kind === "data";
    for (const via of vias) {
      if (via.kind === "relay") this.#holdBack.noteRelayed(now);
      else if (settled && !this.#holdBack.admit(payload, now)) continue;
      this.#actions.push({ kind: "send", via, payload });
      if (via.kind === "direct" && settled) this.#unproven.note(payload, now);
    }
    this.wroteAt = now;
    this.#collect(now);
    return vias.length > 0;
  }

  /** Where packets may be sent without asking here for each; in doubt, if copies of them are handed over. */
  settledPath(now: Instant): { readonly address: IpPort; readonly inDoubt: boolean } | undefined {
    return this.#holdBack.isSettled(now) ? this.paths.directNow(now) : undefined;
  }

  /** Packets went out to the settled address by other hands. */
  noteSent(now: Instant): void {
    this.paths.pathsFor(true, now);
    this.wroteAt = now;
    this.#collect(now);
  }

  /** One of them: kept until it is proven to have arrived, and sent by the relay while that is in doubt. */
  takeCopy(message: Uint8Array, now: Instant): void {
    const vias = this.paths.pathsFor(false, now);
    const relayed = vias.find((via) => via.kind === "relay");
    if (relayed === undefined) {
      this.#unproven.note(message, now);
      return;
    }
    this.#holdBack.noteRelayed(now);
    this.#actions.push({ kind: "send", via: relayed, payload: message });
  }

  /** Lets `use` act on the paths, then does what they want done. */
  withPaths<T>(use: (paths: PeerPaths) => T, now: Instant): T {
    const result = use(this.paths);
    this.#collect(now);
    return result;
  }

  handleTimeout(now: Instant): void {
    const due = this.paths.pollTimeout();
    if (due !== undefined && due <= now) this.paths.handleTimeout(now);
    this.#releaseHeld(now);
    this.#collect(now);
  }

  pollTimeout(): Instant | undefined {
    return earliest(this.paths.pollTimeout(), this.#holdBack.pollTimeout());
  }

  pollAction(): PeerAction | undefined {
    return this.#actions.shift();
  }

  pollEvent(): PeerEvent | undefined {
    return this.#events.shift();
  }

  #releaseHeld(now: Instant): void {
    const held = this.#holdBack.release(now);
    if (held.length === 0) return;
    const vias = this.paths.pathsFor(true, now);
    for (const payload of held) for (const via of vias) this.#actions.push({ kind: "send", via, payload });
  }

  #collect(now: Instant): void {
    for (let out = this.paths.pollTransmit(); out !== undefined; out = this.paths.pollTransmit()) {
      this.#actions.push(out);
    }
    for (let event = this.paths.pollEvent(); event !== undefined; event = this.paths.pollEvent()) {
      switch (event.kind) {
        case "pong":
          if (event.via.kind === "relay") this.#holdBack.relayRoundTrip = event.rtt;
          else this.#unproven.prove((now - event.rtt) as Instant);
          this.#events.push(event);
          break;
        case "doubt":
          this.#resend(event.since);
          break;
        case "moved":
          if (event.to?.kind === "direct") this.#holdBack.begin(now);
          this.#events.push(event);
          break;
      }
    }
  }

  /** What went out by a path that is now in doubt goes out again by the relay. */
  #resend(since: Instant): void {
    const region = this.#relay;
    if (region === undefined) return;
    for (const payload of this.#unproven.take(since)) {
      this.#actions.push({ kind: "send", via: relay(region), payload });
    }
  }
}

/** Which of the peers' offers are used: subnets and default routes are carried only where they were asked for. */
export interface RouteWishes {
  readonly subnets: boolean;
  /** The peer that carries all other traffic. */
  readonly exitNode: NodePublic | undefined;
}

export const ownAddressesOnly: RouteWishes = { subnets: false, exitNode: undefined };

/** The allowed IPs that a node takes from the map: a peer's own addresses, and what was wished for of the rest. */
export function acceptedRoutes(node: MapNode, wishes: RouteWishes): readonly Prefix[] {
  if (node.plain !== undefined) return node.allowedIps;
  const own = new Set(node.addresses.map(({ text }) => text));
  const isExit = wishes.exitNode?.text === node.key.text;
  return node.allowedIps.filter((prefix) => {
    if (own.has(prefix.text)) return true;
    if (prefix.isDefault) return isExit;
    return wishes.subnets && isSubnet(prefix);
  });
}

/** Addresses of this machine and this link, such as a cloud's metadata service, are never behind a peer. */
function isSubnet({ ip }: Prefix): boolean {
  return !ip.isLoopback && !ip.isLinkLocal && !ip.isMulticast && !ip.isUnspecified;
}
