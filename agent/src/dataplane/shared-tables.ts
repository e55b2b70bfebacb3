/**
 * The engine's side of the tables that all workers read: its decisions, written so that each counts as a whole or
 * not at all. One thread writes.
 */
import { Prefix } from "../base/address.ts";
import { Control, type Layout, PEER_SIZE } from "./memory.ts";
import type { PlaneMessage, SendTo } from "./messages.ts";
import {
  BY_ENGINE,
  type FilterText,
  IN_DOUBT,
  PEER_UNTIL,
  PeerWord,
  type TableLimits,
} from "./peer-table.ts";
import { RouteTable } from "./route-table.ts";
import { SessionIndex, type SessionTable } from "./session-table.ts";

const WORDS = PEER_SIZE / 4;

export class SharedTables {
  readonly #layout: Layout;
  readonly #sessions: SessionTable;
  readonly #routes: RouteTable;
  readonly #index: SessionIndex;
  readonly #bytes: Uint8Array;
  readonly #control: Int32Array;
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #prefixes = new Map<number, readonly Prefix[]>();

  constructor(memory: ArrayBufferLike, layout: Layout, sessions: SessionTable, limits: TableLimits) {
    this.#layout = layout;
    this.#sessions = sessions;
    this.#routes = new RouteTable(memory, layout.routes, layout.prefixes);
    this.#index = new SessionIndex(memory, layout.indexes, limits.maxSessions);
    this.#bytes = new Uint8Array(memory);
    this.#control = new Int32Array(memory, layout.control);
    this.#words = new Int32Array(memory, layout.peers, limits.maxPeers * WORDS);
    this.#floats = new Float64Array(memory, layout.peers, limits.maxPeers * (PEER_SIZE / 8));
  }

  /** Returns the epoch that begins with it. */
  apply(message: PlaneMessage): number {
    switch (message.kind) {
      case "peer":
        this.#setPrefixes(message.peer, message.prefixes.map(Prefix.parse));
        this.#change(
          message.peer,
          (at) => (this.#words[at + PeerWord.roams] = message.roams === true ? 1 : 0),
        );
        break;
      case "remove-peer":
        this.#setPrefixes(message.peer, []);
        this.#change(message.peer, () => this.#clear(message.peer));
        break;
      case "mtu":
        this.#change(message.peer, (at) => (this.#words[at + PeerWord.mtu] = message.mtu));
        break;
      case "session":
        this.#sessions.assign(message.slot, message.peer, message.until);
        this.#index.add(this.#sessions.localIndex(message.slot), message.slot);
        break;
      case "close-session":
        this.#close(message.slot);
        break;
      case "send":
        this.#change(message.peer, () => this.#setSend(message.peer, message.to));
        break;
      case "filter":
        this.#setFilter(message);
        break;
    }
    return this.#nextEpoch();
  }

  /** Never 0, which is for those who wait. */
  #nextEpoch(): number {
    const epoch = Atomics.add(this.#control, Control.epoch, 1) + 1;
    return epoch === 0 ? this.#nextEpoch() : epoch;
  }

  #setPrefixes(peer: number, prefixes: readonly Prefix[]): void {
    this.#routes.set(peer, prefixes, this.#prefixes.get(peer) ?? []);
    if (prefixes.length > 0) this.#prefixes.set(peer, prefixes);
    else this.#prefixes.delete(peer);
    Atomics.add(this.#control, Control.rules, 1);
  }

  /** Workers that read the peer's line meanwhile do it again. */
  #change(peer: number, act: (at: number) => void): void {
    const at = peer * WORDS;
    Atomics.add(this.#words, at + PeerWord.changes, 1);
    act(at);
    Atomics.add(this.#words, at + PeerWord.changes, 1);
  }

  #clear(peer: number): void {
    const at = peer * WORDS;
    this.#words.fill(0, at + PeerWord.slot, at + WORDS);
  }

  #setSend(peer: number, to: SendTo | undefined): void {
    const at = peer * WORDS;
    const words = this.#words;
    words[at + PeerWord.slot] = (to?.slot ?? -1) + 1;
    words.fill(0, at + PeerWord.address, at + WORDS);
    if (to === undefined) return;
    const { address, inDoubt, until } = to;
    this.#floats[at / 2 + PEER_UNTIL / 8] = until;
    words[at + PeerWord.flags] = (inDoubt ? IN_DOUBT : 0) | (address === undefined ? BY_ENGINE : 0);
    words[at + PeerWord.addressLength] = address?.length ?? 0;
    this.#bytes.set(address ?? [], this.#layout.peers + (at + PeerWord.address) * 4);
  }

  #close(slot: number): void {
    const peer = this.#sessions.peer(slot);
    this.#index.remove(this.#sessions.localIndex(slot), slot);
    this.#sessions.assign(slot, -1);
    if (peer >= 0 && this.#words[peer * WORDS + PeerWord.slot] === slot + 1)
      this.#change(peer, (at) => (this.#words[at + PeerWord.slot] = 0));
  }

  #setFilter({ rules, localAddresses, excluded }: Extract<PlaneMessage, { kind: "filter" }>): void {
    const control = this.#control;
    const filter: FilterText | undefined =
      rules === undefined ? undefined : { rules, localAddresses, excluded };
    const text = new TextEncoder().encode(filter === undefined ? "" : JSON.stringify(filter));
    const fits = text.length <= this.#layout.filterSize;
    Atomics.add(control, Control.filter, 1);
    if (fits) this.#bytes.set(text, this.#layout.filter);
    Atomics.store(control, Control.filterLength, fits ? text.length : 0);
    Atomics.add(control, Control.filter, 1);
    Atomics.add(control, Control.rules, 1);
  }
}
