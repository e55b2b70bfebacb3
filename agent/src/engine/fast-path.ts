/**
 * What the engine leaves to a data plane: packets of peers that have a session. Those with a proven direct path pass by
 * themselves; of others it seals the packets and leaves the sending to the engine, which knows the ways.
 *
 * The engine decides and says so; whatever the data plane has not been told of, or can not handle, comes back
 * to the engine as if there were none.
 */
import type { IpPort, Prefix } from "../base/address.ts";
import type { NodePublic } from "../base/keys.ts";
import type { FilterRuleJson } from "../core/filter/filter.ts";
import type { FlowStore } from "../core/filter/flow-table.ts";
import { BASE_MTU } from "../core/path/path-mtu.ts";
import type { SessionStore } from "../core/wireguard/counters.ts";
import type { UsableSession } from "../core/wireguard/peer.ts";

export type Decision =
  /** A peer's addresses: whose packets it gets, and what it may send from. */
  | {
      readonly kind: "peer";
      readonly peer: NodePublic;
      readonly prefixes: readonly Prefix[];
      /** Whether its packets go where it was last heard, so that the engine has to know. @default false */
      readonly roams?: boolean | undefined;
    }
  | { readonly kind: "forget"; readonly peer: NodePublic }
  /** All sessions that its messages may come in. */
  | { readonly kind: "receive"; readonly peer: NodePublic; readonly sessions: readonly UsableSession[] }
  /** Where its packets go and in which session; `undefined`: the engine seals and sends them. */
  | { readonly kind: "send"; readonly peer: NodePublic; readonly to: SendTo | undefined }
  /** How long a packet to the peer may be; until this is said, 1,280 bytes. Longer ones are the engine's. */
  | { readonly kind: "mtu"; readonly peer: NodePublic; readonly mtu: number }
  | {
      readonly kind: "filter";
      readonly rules: readonly FilterRuleJson[];
      readonly localAddresses: readonly Prefix[];
      /** See `FilterOptions`. */
      readonly excluded: readonly Prefix[];
    };

export interface SendTo {
  /** `undefined`: the engine sends what was sealed. */
  readonly address: IpPort | undefined;
  readonly session: UsableSession;
  /** The engine wants copies, to send them by the relay as well. */
  readonly inDoubt: boolean;
}

/** The decisions not yet told; those that change nothing are left out. */
export class Decisions {
  readonly sessions: SessionStore;
  readonly #queue: Decision[] = [];
  readonly #sending = new Map<string, SendTo>();
  readonly #mtus = new Map<string, number>();

  constructor(sessions: SessionStore) {
    this.sessions = sessions;
  }

  push(decision: Decision): void {
    if (decision.kind === "forget") {
      this.#sending.delete(decision.peer.text);
      this.#mtus.delete(decision.peer.text);
    }
    this.#queue.push(decision);
  }

  mtu(peer: NodePublic, mtu: number): void {
    if (mtu === (this.#mtus.get(peer.text) ?? BASE_MTU)) return;
    this.#mtus.set(peer.text, mtu);
    this.#queue.push({ kind: "mtu", peer, mtu });
  }

  send(
    peer: NodePublic,
    path: { readonly address: IpPort; readonly inDoubt: boolean } | undefined,
    session: UsableSession | undefined,
  ): void {
    const former = this.#sending.get(peer.text);
    if (session === undefined) {
      if (former === undefined) return;
      this.#sending.delete(peer.text);
      this.#queue.push({ kind: "send", peer, to: undefined });
      return;
    }
    const { address, inDoubt = false } = path ?? { address: undefined };
    const isSamePath =
      former !== undefined && former.address?.text === address?.text && former.inDoubt === inDoubt;
    if (isSamePath && former.session.localIndex === session.localIndex) return;
    const to = { address, inDoubt, session };
    this.#sending.set(peer.text, to);
    this.#queue.push({ kind: "send", peer, to });
  }

  poll(): Decision | undefined {
    return this.#queue.shift();
  }
}

/** What a data plane offers to whoever drives the engine. */
export interface FastPath {
  readonly sessions: SessionStore;
  /** The flows that either side has opened. */
  readonly flows: FlowStore;
  decide(decision: Decision): void;
  /** Opens a message that came by a relay. Returns false where it is not of a session that was told. */
  openRelayed(message: Uint8Array): boolean;
  /** Hands over what has arrived already: before the engine judges that something did not come. */
  hear(): void;
  /** Called with what the engine has to know; replaces the former one. */
  onPassed(receive: FastPathReceiver): void;
}

/** The engine's side of it: methods of the node, with the time filled in. */
export interface FastPathReceiver {
  passed(peer: NodePublic, traffic: Passed): void;
  /** A message that went out directly; it may have to be sent again by the relay. */
  sent(peer: NodePublic, message: Uint8Array): void;
  /** Messages that were sealed for a peer, to be sent. */
  sealed(peer: NodePublic, messages: readonly Uint8Array[]): void;
  /** A peer of those that roam proved its key from an address that is not the one it is sent to. */
  roamed(peer: NodePublic, from: IpPort): void;
  /** A packet that came out of a peer's session, to be judged and answered here. */
  opened(peer: NodePublic, packet: Uint8Array): void;
}

export interface Passed {
  readonly sentPackets: number;
  readonly sentBytes: number;
  readonly sentData: boolean;
  readonly receivedPackets: number;
  readonly receivedBytes: number;
  readonly receivedData: boolean;
  readonly sentLast: boolean;
}
