/**
 * A session: the two keys of one finished handshake, their counters, and the slots in which a peer keeps them.
 *
 * A pair is always replaced before it ends, and packets of the older one are still under way then:
 * so pairs that no longer send go on receiving until they expire.
 */
import { viewOf } from "../../base/bytes.ts";
import { after, type Instant, type Millis, seconds } from "../../base/time.ts";
import type { Suite } from "../../crypto/suite.ts";
import { LocalCounters, type SessionCounters } from "./counters.ts";
import { encodeTransport, type Transport } from "./messages.ts";
import type { TransportKeys } from "./noise.ts";

/** The paper, section 6.1: a pair can not be used from here on, in either direction. */
export const REJECT_AFTER_TIME: Millis = seconds(180);
/** The paper: its initiator replaces a pair from here on. */
export const REKEY_AFTER_TIME: Millis = seconds(120);
/** The paper: packets are padded to a multiple of this. */
const PADDING = 16;
/** One more than the paper's: when both sides rekey at once, the pair before is two handshakes back. */
const PREVIOUS_KEPT = 2;

export interface KeypairOptions {
  readonly suite: Suite;
  readonly keys: TransportKeys;
  readonly isInitiator: boolean;
  /** The peer puts this one into its messages to us. */
  readonly localIndex: number;
  readonly remoteIndex: number;
  readonly createdAt: Instant;
  readonly replayWindow: number;
  /** @default 0n */
  readonly firstCounter?: bigint;
  /** Shared with others that use the same keys. @default its own */
  readonly counters?: SessionCounters | undefined;
}

/** Why a transport message was refused. */
export type Refusal = "expired" | "replay" | "unauthenticated";

export class Keypair {
  readonly isInitiator: boolean;
  readonly localIndex: number;
  readonly createdAt: Instant;
  readonly #suite: Suite;
  readonly #keys: TransportKeys;
  readonly #remoteIndex: number;
  readonly #counters: SessionCounters;
  /** Four zero bytes, then the counter. One for all packets: no primitive keeps it. */
  readonly #nonce = new Uint8Array(12);
  readonly #nonceView = viewOf(this.#nonce);

  constructor(options: KeypairOptions) {
    this.isInitiator = options.isInitiator;
    this.localIndex = options.localIndex;
    this.createdAt = options.createdAt;
    this.#suite = options.suite;
    this.#keys = options.keys;
    this.#remoteIndex = options.remoteIndex;
    this.#counters = options.counters ?? new LocalCounters(options.replayWindow, options.firstCounter);
  }

  get expiresAt(): Instant {
    return after(this.createdAt, REJECT_AFTER_TIME);
  }

  canSend(now: Instant): boolean {
    return now < this.expiresAt && !this.#counters.exhausted;
  }

  /** Whether it is time for its initiator to replace it. */
  isOld(now: Instant): boolean {
    return this.#counters.worn || (this.isInitiator && now >= after(this.createdAt, REKEY_AFTER_TIME));
  }

  /** A whole transport message. Ask `canSend` first. `mtu`: padding never makes the packet longer than this. */
  seal(packet: Uint8Array, mtu: number): Uint8Array {
    const counter = this.#counters.next();
    const sealed = this.#suite.aeadSeal(this.#keys.send, this.#nonceOf(counter), pad(packet, mtu));
    return encodeTransport({ receiver: this.#remoteIndex, counter, sealed });
  }

  /** The packet with its padding. Nothing is remembered of a message that is refused. */
  open(message: Transport, now: Instant): Uint8Array | Refusal {
    if (now >= this.expiresAt) return "expired";
    if (!this.#counters.isFresh(message.counter)) return "replay";
    const packet = this.#suite.aeadOpen(this.#keys.receive, this.#nonceOf(message.counter), message.sealed);
    if (packet === undefined) return "unauthenticated";
    return this.#counters.mark(message.counter) ? packet : "replay";
  }

  /** Overwrites the keys. */
  wipe(): void {
    this.#keys.send.fill(0);
    this.#keys.receive.fill(0);
  }

  toJSON(): string {
    return "[session keys]";
  }

  #nonceOf(counter: bigint): Uint8Array {
    this.#nonceView.setBigUint64(4, counter, true);
    return this.#nonce;
  }
}

/**
 * The slots (the paper, section 6.1; wireguard-go). An initiator may send as soon as it has the pair. A
 * responder keeps the pair as `next` until the first packet under it proves that the initiator has it too.
 */
export class Keypairs {
  #current: Keypair | undefined;
  #next: Keypair | undefined;
  #previous: Keypair[] = [];

  get current(): Keypair | undefined {
    return this.#current;
  }

  /** The pair to send with at `now`. */
  usable(now: Instant): Keypair | undefined {
    return this.#current?.canSend(now) === true ? this.#current : undefined;
  }

  /** Takes the pair of a finished handshake. Returns those that fell out. */
  install(keypair: Keypair): readonly Keypair[] {
    if (!keypair.isInitiator) {
      const dropped = this.#retire(this.#next);
      this.#next = keypair;
      return dropped;
    }
    const dropped = this.#retire(this.#current, this.#next);
    this.#current = keypair;
    this.#next = undefined;
    return dropped;
  }

  isNext(keypair: Keypair): boolean {
    return keypair === this.#next;
  }

  /** The next pair has proved itself: it becomes the current one. Returns those that fell out. */
  confirmNext(): readonly Keypair[] {
    const dropped = this.#retire(this.#current);
    this.#current = this.#next;
    this.#next = undefined;
    return dropped;
  }

  /** Removes and returns the pairs that can not be used any more. */
  expire(now: Instant): readonly Keypair[] {
    const expired = this.#all().filter((keypair) => now >= keypair.expiresAt);
    if (expired.length === 0) return expired;
    const keep = (keypair: Keypair | undefined): Keypair | undefined =>
      keypair !== undefined && expired.includes(keypair) ? undefined : keypair;
    this.#current = keep(this.#current);
    this.#next = keep(this.#next);
    this.#previous = this.#previous.filter((keypair) => !expired.includes(keypair));
    return expired;
  }

  /** The pairs that may be received with, but one that has not proved itself. */
  get proven(): readonly Keypair[] {
    return this.#all().filter((keypair) => keypair !== this.#next);
  }

  /** When `expire` next finds one. */
  nextExpiry(): Instant | undefined {
    let first: Instant | undefined;
    for (const { expiresAt } of this.#all()) if (first === undefined || expiresAt < first) first = expiresAt;
    return first;
  }

  /** Removes and returns all. */
  clear(): readonly Keypair[] {
    const all = this.#all();
    this.#current = undefined;
    this.#next = undefined;
    this.#previous = [];
    return all;
  }

  #retire(...retired: readonly (Keypair | undefined)[]): readonly Keypair[] {
    const previous = [...retired.filter((keypair) => keypair !== undefined), ...this.#previous];
    this.#previous = previous.slice(0, PREVIOUS_KEPT);
    return previous.slice(PREVIOUS_KEPT);
  }

  #all(): Keypair[] {
    return [this.#current, this.#next, ...this.#previous].filter((keypair) => keypair !== undefined);
  }
}

function pad(packet: Uint8Array, mtu: number): Uint8Array {
  const length = paddedLength(packet.length, mtu);
  if (length === packet.length) return packet;
  const padded = new Uint8Array(length);
  padded.set(packet);
  return padded;
}

function paddedLength(length: number, mtu: number): number {
  return Math.max(length, Math.min(mtu, Math.ceil(length / PADDING) * PADDING));
}
