/** How much went which way since the engine began: sealed messages of WireGuard, keepalives and handshakes among them. */
import type { NodePublic } from "../base/keys.ts";
import type { Instant } from "../base/time.ts";
import type { Path } from "../core/path/path.ts";
import type { Passed } from "./fast-path.ts";

export type Way = Path["kind"];

export interface Amount {
  packets: number;
  bytes: number;
}

export class Traffic {
  readonly sent: Readonly<Record<Way, Amount>> = { direct: none(), relay: none() };
  readonly received: Readonly<Record<Way, Amount>> = { direct: none(), relay: none() };
  /** Moves of peers' packets from one way to another. */
  readonly moves = { direct: 0, relay: 0, none: 0 };
  /** Completed, with any peer. */
  handshakes = 0;
  readonly #handshakeAt = new Map<string, Instant>();
  /** Of each peer: what a data plane sealed and opened, and the engine moved and counted itself. */
  readonly #counted = new Map<string, { readonly sent: Amount; readonly received: Amount }>();

  noteSent(way: Way, packets: number, bytes: number): void {
    add(this.sent[way], packets, bytes);
  }

  noteReceived(way: Way, packets: number, bytes: number): void {
    add(this.received[way], packets, bytes);
  }

  noteMove(to: Path | undefined): void {
    this.moves[to?.kind ?? "none"]++;
  }

  /** Messages that a data plane sealed, and the engine sends and counts. */
  noteSealed(peer: NodePublic, packets: number, bytes: number): void {
    add(this.#countedOf(peer).sent, packets, bytes);
  }

  /** A message that came by a relay, for a data plane to open. */
  noteRelayed(peer: NodePublic, bytes: number): void {
    this.noteReceived("relay", 1, bytes);
    add(this.#countedOf(peer).received, 1, bytes);
  }

  /** What a data plane sealed and opened: all that was not counted above went directly. */
  notePassed(peer: NodePublic, passed: Passed): void {
    const { sent, received } = this.#countedOf(peer);
    moveOn(this.sent.direct, sent, passed.sentPackets, passed.sentBytes);
    moveOn(this.received.direct, received, passed.receivedPackets, passed.receivedBytes);
  }

  #countedOf(peer: NodePublic): { readonly sent: Amount; readonly received: Amount } {
    const known = this.#counted.get(peer.text) ?? { sent: none(), received: none() };
    this.#counted.set(peer.text, known);
    return known;
  }

  /** @param at when the last one with this peer was completed */
  noteHandshake(peer: NodePublic, at: Instant | undefined): void {
    if (at === undefined || this.#handshakeAt.get(peer.text) === at) return;
    this.#handshakeAt.set(peer.text, at);
    this.handshakes++;
  }

  forget(peer: NodePublic): void {
    this.#handshakeAt.delete(peer.text);
    this.#counted.delete(peer.text);
  }
}

/** Takes off `counted` what it has of the amount, and adds the rest. */
function moveOn(to: Amount, counted: Amount, packets: number, bytes: number): void {
  const here = Math.min(counted.packets, packets);
  const bytesHere = Math.min(counted.bytes, bytes);
  add(counted, -here, -bytesHere);
  add(to, packets - here, bytes - bytesHere);
}

function none(): Amount {
  return { packets: 0, bytes: 0 };
}

function add(to: Amount, packets: number, bytes: number): void {
  to.packets += packets;
  to.bytes += bytes;
}
