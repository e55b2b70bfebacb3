/**
 * The handshakes with one peer, in both roles at once: when both sides initiate in the same moment, each
 * answers the other and keeps its own, so that both finish.
 */
import type { Random } from "../../base/random.ts";
import { after, type Instant, type Millis, millis } from "../../base/time.ts";
import { MacWriter } from "./cookie.ts";
import type { CookieReply, Initiation, Response } from "./messages.ts";
import * as noise from "./noise.ts";
import { encodeTai64n, isLater, type Stamp, type StampClock, TAI64N_LENGTH } from "./tai64n.ts";

/** wireguard-go: at most 50 initiations a second from one peer. */
const INITIATION_INTERVAL: Millis = millis(20);

export interface HandshakeOptions {
  readonly identity: noise.Identity;
  readonly random: Random;
  readonly stamps: StampClock;
  readonly peerStatic: Uint8Array;
}

export type InitiationRefusal = "unauthenticated" | "stale-initiation" | "initiation-flood";

interface Pending extends noise.PendingInitiation {
  readonly index: number;
}

export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #macs: MacWriter;
  #staticShared: Uint8Array | undefined;
  #pending: Pending | undefined;
  #lastStamp: Stamp = 0;
  #greatestTimestamp = new Uint8Array(TAI64N_LENGTH);
  #lastAcceptedAt: Instant | undefined;

  constructor(options: HandshakeOptions) {
    this.#options = options;
    this.#macs = new MacWriter(options.peerStatic);
  }

  /** The index of the own initiation that waits for its response. */
  get pendingIndex(): number | undefined {
    return this.#pending?.index;
  }

  /** A new initiation; one that was pending is forgotten. `undefined` when the peer's key is no usable key. */
  initiate(index: number, now: Instant): Uint8Array | undefined {
    const { identity, random, stamps, peerStatic } = this.#options;
    const staticShared = this.#agreeStatic();
    if (staticShared === undefined) return undefined;
    const stamp = stamps.next(this.#lastStamp);
    const timestamp = encodeTai64n(stamp);
    const made = noise.initiate(identity, { sender: index, peerStatic, staticShared, timestamp }, random);
    if (made === undefined) return undefined;
    this.#lastStamp = stamp;
    this.forgetPending();
    this.#pending = { ...made.pending, index };
    this.#macs.write(made.message, now);
    return made.message;
  }

  /** Checks an initiation that names this peer. Remembers nothing of one that is refused. */
  accept(
    read: noise.ReadInitiation,
    message: Initiation,
    now: Instant,
  ): noise.ReadInitiation | InitiationRefusal {
    const staticShared = this.#agreeStatic();
    if (staticShared === undefined) return "unauthenticated";
    const opened = noise.readTimestamp(read, message, staticShared);
    if (opened === undefined) return "unauthenticated";
    if (!isLater(opened.timestamp, this.#greatestTimestamp)) return "stale-initiation";
    if (this.#lastAcceptedAt !== undefined && now < after(this.#lastAcceptedAt, INITIATION_INTERVAL)) {
      return "initiation-flood";
    }
    this.#greatestTimestamp.set(opened.timestamp);
    this.#lastAcceptedAt = now;
    return opened.read;
  }

  /** The answer to an accepted initiation. */
  respond(
    accepted: noise.ReadInitiation,
    options: noise.RespondOptions,
    now: Instant,
  ): { readonly message: Uint8Array; readonly keys: noise.TransportKeys } | undefined {
    const { identity, random } = this.#options;
    const made = noise.respond(identity.suite, accepted, options, random);
    if (made !== undefined) this.#macs.write(made.message, now);
    return made;
  }

  /** The keys, if `message` answers the pending initiation, which is then over. */
  finish(message: Response, presharedKey: Uint8Array): noise.TransportKeys | undefined {
    if (this.#pending === undefined) return undefined;
    const keys = noise.readResponse(this.#options.identity, this.#pending, message, presharedKey);
    if (keys !== undefined) this.forgetPending();
    return keys;
  }

  handleCookieReply(reply: CookieReply, now: Instant): boolean {
    return this.#macs.handleReply(reply, now);
  }

  forgetPending(): void {
    this.#pending?.ephemeral.fill(0);
    this.#pending = undefined;
  }

  forgetCookie(): void {
    this.#macs.forget();
  }

  #agreeStatic(): Uint8Array | undefined {
    const { identity, peerStatic } = this.#options;
    this.#staticShared ??= identity.privateKey.expose((secret) => identity.suite.x25519(secret, peerStatic));
    return this.#staticShared;
  }
}
