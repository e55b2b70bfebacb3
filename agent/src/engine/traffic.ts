/** How much went which way since the engine began: sealed messages of WireGuard, keepalives and handshakes among them. */
import type { NodePublic } from "../base/keys.ts";
import type { Instant } from "../base/time.ts";
import type { Path } from "../core/path/path.ts";

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

  noteSent(way: Way, packets: number, bytes: number): void {
    add(this.sent[way], packets, bytes);
  }

  noteReceived(way: Way, packets: number, bytes: number): void {
    add(this.received[way], packets, bytes);
  }

  noteMove(to: Path | undefined): void {
    this.moves[to?.kind ?? "none"]++;
  }

  /** @param at when the last one with this peer was completed */
  noteHandshake(peer: NodePublic, at: Instant | undefined): void {
    if (at === undefined || this.#handshakeAt.get(peer.text) === at) return;
    this.#handshakeAt.set(peer.text, at);
    this.handshakes++;
  }

  forget(peer: NodePublic): void {
    this.#handshakeAt.delete(peer.text);
  }
}

function none(): Amount {
  return { packets: 0, bytes: 0 };
}

function add(to: Amount, packets: number, bytes: number): void {
  to.packets += packets;
  to.bytes += bytes;
}
