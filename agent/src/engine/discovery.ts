/**
 * Disco between this node and the peers of its map: whom a message is from, what it changes about the peer's
 * paths, and what it is answered. Sends nothing itself: what it seals is the caller's to send.
 */
import type { IpPort } from "../base/address.ts";
import type { DiscoPrivate, DiscoPublic, NodePublic } from "../base/keys.ts";
import type { Random } from "../base/random.ts";
import type { Instant } from "../base/time.ts";
import type { DiscoMessage } from "../core/disco/message.ts";
import { addressOf, type Path } from "../core/path/path.ts";
import type { Suite } from "../crypto/suite.ts";
import { DiscoExchange } from "./disco-exchange.ts";
import type { PeerBook } from "./peer-book.ts";
import type { Peer } from "./peer.ts";

export interface DiscoveryOptions {
  readonly suite: Suite;
  readonly random: Random;
  readonly discoKey: DiscoPrivate;
  /** Of this node: pings say it. */
  readonly nodeKey: NodePublic;
  readonly peers: PeerBook;
}

export interface HeardDisco {
  readonly peer: Peer;
  /** Sealed, for the way it came. */
  readonly answer: Uint8Array | undefined;
  /** Where it asks to be pinged, and pings us from. */
  readonly calls?: readonly IpPort[];
}

/** Sealed, without padding (disco). */
const PING_LENGTH = 124;
const [V4_HEADERS, V6_HEADERS] = [20 + 8, 40 + 8];

/** A datagram to or from `address` with IP and UDP around it. */
function wireSizeOf({ ip }: IpPort, length: number): number {
  return length + (ip.isV4 ? V4_HEADERS : V6_HEADERS);
}

export class Discovery {
  readonly #exchange: DiscoExchange;
  readonly #nodeKey: NodePublic;
  readonly #peers: PeerBook;

  constructor({ suite, random, discoKey, nodeKey, peers }: DiscoveryOptions) {
    this.#exchange = new DiscoExchange(suite, random, discoKey);
    this.#nodeKey = nodeKey;
    this.#peers = peers;
  }

  get publicKey(): DiscoPublic {
    return this.#exchange.publicKey;
  }

  /**
   * `undefined` where it is from no peer, not authentic, or nothing that we take part in.
   * @param source the sender that a relay names; a datagram has none
   */
  handle(
    packet: Uint8Array,
    from: Path,
    source: NodePublic | undefined,
    now: Instant,
  ): HeardDisco | undefined {
    const received = this.#exchange.open(packet, (sender) => this.#peers.hasDisco(sender));
    if (received === undefined) return undefined;
    const { sender, message } = received;
    const peer = this.#peers.byDisco(
      sender,
      source ?? (message.kind === "ping" ? message.nodeKey : undefined),
    );
    if (peer === undefined) return undefined;
    switch (message.kind) {
      case "ping": {
        const answer = this.#seal(peer, { kind: "pong", txId: message.txId, source: addressOf(from) });
        const wireSize =
          from.kind === "direct" && message.padding > 0 ? wireSizeOf(from.to, packet.length) : 0;
        peer.withPaths((paths) => paths.handlePing(from, now, wireSize), now);
        return { peer, answer };
      }
      case "pong":
        peer.withPaths((paths) => paths.handlePong(message.txId, now), now);
        return { peer, answer: undefined };
      case "call-me-maybe":
        if (from.kind !== "relay" || source === undefined) return undefined;
        peer.withPaths((paths) => paths.handleCallMeMaybe(message.endpoints, now), now);
        return { peer, answer: undefined, calls: message.endpoints };
      default:
        return undefined; // peer relays: we report a capability version that is never asked to take part
    }
  }

  /** `undefined` where the peer has no usable disco key; so below. */
  sealPing(peer: Peer, txId: Uint8Array, padding = 0): Uint8Array | undefined {
    return this.#seal(peer, { kind: "ping", txId, nodeKey: this.#nodeKey, padding });
  }

  /** One that is as long as a packet of `wireSize` on its way to `to`. */
  sealPaddedPing(peer: Peer, txId: Uint8Array, to: IpPort, wireSize: number): Uint8Array | undefined {
    return this.sealPing(peer, txId, Math.max(1, wireSize - wireSizeOf(to, PING_LENGTH)));
  }

  /** Asks the peer to try these. */
  sealCall(peer: Peer, endpoints: readonly IpPort[]): Uint8Array | undefined {
    return this.#seal(peer, { kind: "call-me-maybe", endpoints });
  }

  /** A disco key is gone. */
  forget(key: DiscoPublic): void {
    this.#exchange.forget(key);
  }

  #seal({ node }: Peer, message: DiscoMessage): Uint8Array | undefined {
    return node.discoKey === undefined ? undefined : this.#exchange.seal(node.discoKey, message);
  }
}
