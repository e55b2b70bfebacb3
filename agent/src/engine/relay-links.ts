/**
 * The connections to relays: one to our home region for as long as we run, and one to each
 * region that a peer calls home for as long as packets go there.
 *
 * Owns the DERP machines and decides when to dial and hang up; the sockets are the shell's.
 * What is sent before a connection is up waits for it, within bounds.
 */
import type { NodePrivate, NodePublic } from "../base/keys.ts";
import { randomFraction, type Random } from "../base/random.ts";
import { after, earliest, type Instant, type Millis, millis, seconds, since } from "../base/time.ts";
import { DerpClient } from "../core/derp/client.ts";
import type { RegionId } from "../core/path/path.ts";
import type { Suite } from "../crypto/suite.ts";

/** A connection to a foreign region is closed after this long without our writing to it (magicsock). */
const IDLE_LIMIT: Millis = seconds(60);
/** Packets that wait for a connection; a burst beyond it loses its oldest. */
const MAX_WAITING = 256;
/** Reconnecting: the first try is at once, then doubling up to this (with jitter). */
const MAX_BACKOFF: Millis = seconds(5);
const FIRST_BACKOFF: Millis = millis(100);

export type RelayEvent =
  | { readonly kind: "dial"; readonly region: RegionId }
  | { readonly kind: "hang-up"; readonly region: RegionId }
  | { readonly kind: "up"; readonly region: RegionId }
  | { readonly kind: "down"; readonly region: RegionId; readonly why: string }
  | {
      readonly kind: "packet";
      readonly region: RegionId;
      readonly from: NodePublic;
      readonly packet: Uint8Array;
    };

interface Waiting {
  readonly to: NodePublic;
  readonly packet: Uint8Array;
}

interface Link {
  readonly region: RegionId;
  state: "down" | "dialing" | "open";
  client: DerpClient | undefined;
  ready: boolean;
  waiting: Waiting[];
  wroteAt: Instant;
  heardAt: Instant | undefined;
  dialAt: Instant | undefined;
  failures: number;
}

export interface RelayBytes {
  readonly region: RegionId;
  readonly bytes: Uint8Array;
}

export class RelayLinks {
  readonly #suite: Suite;
  readonly #random: Random;
  readonly #nodeKey: NodePrivate;
  readonly #links = new Map<RegionId, Link>();
  readonly #events: RelayEvent[] = [];
  /** Which region a peer last spoke to us through: where to answer one whose home we don't know. */
  readonly #reverse = new Map<string, RegionId>();
  #home: RegionId | undefined;
  dropped = 0;

  constructor(suite: Suite, random: Random, nodeKey: NodePrivate) {
    this.#suite = suite;
    this.#random = random;
    this.#nodeKey = nodeKey;
  }

  get home(): RegionId | undefined {
    return this.#home;
  }

  /** Whether the connection to our home region is up. */
  get homeUp(): boolean {
    return this.#home !== undefined && this.#links.get(this.#home)?.ready === true;
  }

  setHome(region: RegionId | undefined, now: Instant): void {
    if (region === this.#home) return;
    const former = this.#home;
    this.#home = region;
    if (former !== undefined) this.#links.get(former)?.client?.notePreferred(false);
    if (region === undefined) return;
    const link = this.#linkTo(region, now);
    link.client?.notePreferred(true);
    if (link.state === "down") this.#dial(link);
  }

  /** Sends a packet to `to` by `region`, connecting first where needed. */
  send(region: RegionId, to: NodePublic, packet: Uint8Array, now: Instant): void {
    const link = this.#linkTo(region, now);
    link.wroteAt = now;
    if (link.client !== undefined && link.state === "open") {
      link.client.send(to, packet, now);
      return;
    }
    if (link.waiting.length >= MAX_WAITING) {
      link.waiting.shift();
      this.dropped++;
    }
    link.waiting.push({ to, packet });
    if (link.state === "down" && link.dialAt === undefined) this.#dial(link);
  }

  /** The region through which this peer last reached us, while that connection is open. */
  reverseRoute(peer: NodePublic): RegionId | undefined {
    const region = this.#reverse.get(peer.text);
    return region !== undefined && this.#links.get(region)?.state === "open" ? region : undefined;
  }

  /** When a frame last came from `region`. */
  heardAt(region: RegionId): Instant | undefined {
    return this.#links.get(region)?.heardAt;
  }

  /** The shell's answer to `dial`. `serverKey` is known when the certificates told it (fast start). */
  handleOpened(region: RegionId, serverKey: NodePublic | undefined, now: Instant): void {
    const link = this.#linkTo(region, now);
    link.state = "open";
    link.client = new DerpClient(
      {
        suite: this.#suite,
        random: this.#random,
        nodeKey: this.#nodeKey,
        serverKey,
        preferred: region === this.#home,
      },
      now,
    );
    for (const { to, packet } of link.waiting) link.client.send(to, packet, now);
    link.waiting = [];
    this.#collect(link, now);
  }

  handleBytes(region: RegionId, chunk: Uint8Array, now: Instant): void {
    const link = this.#links.get(region);
    if (link?.client === undefined) return;
    link.heardAt = now;
    link.client.handleBytes(chunk, now);
    this.#collect(link, now);
  }

  handleWritable(region: RegionId, writable: boolean): void {
    this.#links.get(region)?.client?.handleWritable(writable);
  }

  /** The connection failed or ended. It is made again when it is our home's or has packets waiting. */
  handleClosed(region: RegionId, why: string, now: Instant): void {
    const link = this.#links.get(region);
    if (link === undefined || link.state === "down") return;
    link.state = "down";
    link.client = undefined;
    link.ready = false;
    for (const [peer, via] of this.#reverse) if (via === region) this.#reverse.delete(peer);
    this.#events.push({ kind: "down", region, why });
    if (region !== this.#home && link.waiting.length === 0) {
      this.#links.delete(region);
      return;
    }
    link.dialAt = after(now, this.#backoff(link.failures++));
  }

  handleTimeout(now: Instant): void {
    for (const link of this.#links.values()) {
      if (link.dialAt !== undefined && now >= link.dialAt) this.#dial(link);
      if (link.client !== undefined) {
        link.client.handleTimeout(now);
        this.#collect(link, now);
      }
      const idle = link.region !== this.#home && since(link.wroteAt, now) >= IDLE_LIMIT;
      if (idle && link.state === "open") this.#hangUp(link);
    }
  }

  pollTimeout(): Instant | undefined {
    let at: Instant | undefined;
    for (const link of this.#links.values()) {
      at = earliest(at, earliest(link.dialAt, link.client?.pollTimeout()));
      if (link.region !== this.#home && link.state === "open")
        at = earliest(at, after(link.wroteAt, IDLE_LIMIT));
    }
    return at;
  }

  pollTransmit(): RelayBytes | undefined {
    for (const { region, client } of this.#links.values()) {
      const bytes = client?.pollTransmit();
      if (bytes !== undefined) return { region, bytes };
    }
    return undefined;
  }

  pollEvent(): RelayEvent | undefined {
    return this.#events.shift();
  }

  #linkTo(region: RegionId, now: Instant): Link {
    let link = this.#links.get(region);
    if (link === undefined) {
      link = {
        region,
        state: "down",
        client: undefined,
        ready: false,
        waiting: [],
        wroteAt: now,
        heardAt: undefined,
        dialAt: undefined,
        failures: 0,
      };
      this.#links.set(region, link);
    }
    return link;
  }

  #dial(link: Link): void {
    link.dialAt = undefined;
    link.state = "dialing";
    this.#events.push({ kind: "dial", region: link.region });
  }

  #hangUp(link: Link): void {
    this.#events.push({ kind: "hang-up", region: link.region });
    this.#links.delete(link.region);
    for (const [peer, via] of this.#reverse) if (via === link.region) this.#reverse.delete(peer);
  }

  #collect(link: Link, now: Instant): void {
    const { client, region } = link;
    if (client === undefined) return;
    for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent()) {
      switch (event.kind) {
        case "ready":
          link.ready = true;
          link.failures = 0;
          this.#events.push({ kind: "up", region });
          break;
        case "packet":
          this.#reverse.set(event.from.text, region);
          this.#events.push({ kind: "packet", region, from: event.from, packet: event.packet });
          break;
        case "peer-gone":
          if (this.#reverse.get(event.peer.text) === region) this.#reverse.delete(event.peer.text);
          break;
        case "closed":
          this.#events.push({ kind: "hang-up", region });
          this.handleClosed(region, event.why, now);
          return;
        case "health":
        case "restarting":
          break;
      }
    }
  }

  #backoff(failures: number): Millis {
    const full = Math.min(MAX_BACKOFF, FIRST_BACKOFF * 2 ** failures);
    return millis(full * (0.5 + randomFraction(this.#random) / 2));
  }
}
