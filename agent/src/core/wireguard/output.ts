/** What the machine hands out: messages to send, events, and counts of what it dropped. */
import type { NodePublic } from "../../base/keys.ts";
import type { Path } from "../path/path.ts";

/** A WireGuard message to send. Which path to take is the owner's choice. */
export interface WireGuardTransmit {
  /** For whom. Of a cookie reply: as the relay named the sender of the message just handled, or `undefined`. */
  readonly peer: NodePublic | undefined;
  readonly kind: "initiation" | "response" | "cookie" | "data" | "keepalive";
  readonly payload: Uint8Array;
  /** The path by which the message came that this one answers: set for responses and cookie replies. */
  readonly replyTo: Path | undefined;
}

export type WireGuardEvent =
  /** An IP packet from the peer: whole, its padding removed, its source address allowed. */
  | { readonly kind: "packet"; readonly peer: NodePublic; readonly packet: Uint8Array; readonly from: Path }
  /** A message that only the peer can have made, and no replay: so `from` reaches it. `bytes` is the message's length. */
  | { readonly kind: "authenticated"; readonly peer: NodePublic; readonly from: Path; readonly bytes: number }
  /** A new session can be sent with. */
  | { readonly kind: "session"; readonly peer: NodePublic }
  /** The sessions that may be used changed: see `sessionsOf`. */
  | { readonly kind: "sessions"; readonly peer: NodePublic }
  /** The peer did not answer for 90 s: what was staged is dropped. The next packet begins anew. */
  | { readonly kind: "gave-up"; readonly peer: NodePublic };

const NONE_DROPPED = {
  /** No WireGuard message. */
  malformed: 0,
  /** A handshake message of someone who does not know our public key. */
  "bad-mac1": 0,
  /** A handshake message answered with a cookie. */
  "under-load": 0,
  /** Under load: more handshakes from one source than its share. */
  "rate-limited": 0,
  /** From or for a key that is no peer of ours. */
  "unknown-peer": 0,
  /** For a session or handshake that is over. */
  "unknown-index": 0,
  /** Damaged or forged. */
  unauthenticated: 0,
  /** An initiation that is not newer than one before: a replay, or the same one by a second path. */
  "stale-initiation": 0,
  /** An initiation within 20 ms of the one before. */
  "initiation-flood": 0,
  /** A packet under keys older than 180 s. */
  expired: 0,
  /** A packet that came before, or is too old to tell. */
  replay: 0,
  /** What a peer sent is no IP packet. */
  "not-ip": 0,
  /** A packet from an address that the peer is not allowed. */
  "wrong-source": 0,
  /** A packet to send, pushed out of the full queue by younger ones. */
  "staged-overflow": 0,
  /** A packet to send to a peer that did not answer. */
  unanswered: 0,
};

export type DropReason = keyof typeof NONE_DROPPED;

/** First in, first out; cheap for the few entries that one input makes, and for many. */
class Queue<T> {
  #items: T[] = [];
  #head = 0;

  push(item: T): void {
    this.#items.push(item);
  }

  shift(): T | undefined {
    if (this.#head >= this.#items.length) return undefined;
    const item = this.#items[this.#head++];
    if (this.#head === this.#items.length) {
      this.#items = [];
      this.#head = 0;
    }
    return item;
  }
}

export class Output {
  readonly transmits = new Queue<WireGuardTransmit>();
  readonly events = new Queue<WireGuardEvent>();
  readonly counters: Record<DropReason, number> = { ...NONE_DROPPED };

  drop(reason: DropReason, count = 1): void {
    this.counters[reason] += count;
  }
}
