/** What the worker knows of peers, sessions and the filter: the engine's decisions, in the form that a packet asks for. */
import { Prefix } from "../base/address.ts";
import { compileFilter, type PacketFilter } from "../core/filter/filter.ts";
import { PrefixTable } from "../core/ip/prefix-table.ts";
import { BASE_MTU } from "../core/path/path-mtu.ts";
import { AllowedIps } from "../core/wireguard/allowed-ips.ts";
import { ADDRESS_SIZE, type Layout } from "./memory.ts";
import type { PlaneMessage, SendTo } from "./messages.ts";
import { VerdictCache } from "./verdict-cache.ts";
import type { SessionTable } from "./session-table.ts";

const NONE = -1;

export class PeerTable {
  readonly routes = new PrefixTable<number>();
  readonly allowed = new AllowedIps<number>();
  /** Of packets that came from a peer, and of those for one. */
  readonly verdicts: VerdictCache;
  readonly outboundVerdicts: VerdictCache;
  filter: PacketFilter | undefined;
  /** For each peer: the slot to send with or -1, until when, and the length of its address. */
  readonly sendSlot: Int32Array;
  readonly sendUntil: Float64Array;
  /** 1 while the path is in doubt. */
  readonly sendDoubted: Uint8Array;
  readonly addressLength: Int32Array;
  /** How long a packet to it may be. */
  readonly mtu: Int32Array;
  /** For each slot: whose it is or -1, and until when it is received with. */
  readonly slotPeer: Int32Array;
  readonly slotUntil: Float64Array;
  readonly #slotByIndex = new Map<number, number>();
  readonly #prefixes = new Map<number, readonly Prefix[]>();
  readonly #sessions: SessionTable;
  readonly #bytes: Uint8Array;
  readonly #layout: Layout;
  #lastIndex = 0;
  #lastSlot = NONE;

  constructor(memory: ArrayBufferLike, layout: Layout, sessions: SessionTable, limits: TableLimits) {
    this.#bytes = new Uint8Array(memory);
    this.#layout = layout;
    this.#sessions = sessions;
    this.verdicts = new VerdictCache(memory);
    this.outboundVerdicts = new VerdictCache(memory);
    this.sendSlot = new Int32Array(limits.maxPeers).fill(NONE);
    this.sendDoubted = new Uint8Array(limits.maxPeers);
    this.sendUntil = new Float64Array(limits.maxPeers);
    this.addressLength = new Int32Array(limits.maxPeers);
    this.mtu = new Int32Array(limits.maxPeers).fill(BASE_MTU);
    this.slotPeer = new Int32Array(limits.maxSessions).fill(NONE);
    this.slotUntil = new Float64Array(limits.maxSessions);
  }

  /** The slot of a session that may be received with, or -1. */
  slotOf(index: number): number {
    if (index === this.#lastIndex) return this.#lastSlot;
    const slot = this.#slotByIndex.get(index) ?? NONE;
    this.#lastIndex = index;
    this.#lastSlot = slot;
    return slot;
  }

  addressAt(peer: number): number {
    return this.#layout.addresses + peer * ADDRESS_SIZE;
  }

  /** Returns a slot that is let go of, or -1. */
  apply(message: PlaneMessage): number {
    this.#lastIndex = 0;
    this.#lastSlot = this.#slotByIndex.get(0) ?? NONE;
    switch (message.kind) {
      case "peer":
        this.#setPrefixes(message.peer, message.prefixes.map(Prefix.parse));
        return NONE;
      case "remove-peer":
        this.#setPrefixes(message.peer, []);
        this.sendSlot[message.peer] = NONE;
        this.mtu[message.peer] = BASE_MTU;
        return NONE;
      case "mtu":
        this.mtu[message.peer] = message.mtu;
        return NONE;
      case "session":
        this.slotPeer[message.slot] = message.peer;
        this.slotUntil[message.slot] = message.until;
        this.#slotByIndex.set(this.#sessions.localIndex(message.slot), message.slot);
        this.#lastSlot = this.#slotByIndex.get(0) ?? NONE;
        return NONE;
      case "close-session":
        this.#close(message.slot);
        return message.slot;
      case "send":
        this.#setSend(message.peer, message.to);
        return NONE;
      case "filter":
        this.filter =
          message.rules === undefined
            ? undefined
            : compileFilter(message.rules, {
                localAddresses: message.localAddresses.map(Prefix.parse),
                previous: this.filter,
              });
        this.verdicts.clear();
        this.outboundVerdicts.clear();
        return NONE;
    }
  }

  #setPrefixes(peer: number, prefixes: readonly Prefix[]): void {
    for (const prefix of this.#prefixes.get(peer) ?? []) {
      if (this.routes.get(prefix) === peer) this.routes.delete(prefix);
    }
    for (const prefix of prefixes) this.routes.set(prefix, peer);
    if (prefixes.length > 0) {
      this.#prefixes.set(peer, prefixes);
      this.allowed.set(peer, prefixes);
    } else {
      this.#prefixes.delete(peer);
      this.allowed.delete(peer);
    }
    this.verdicts.clear();
    this.outboundVerdicts.clear();
  }

  #setSend(peer: number, to: SendTo | undefined): void {
    this.sendSlot[peer] = to?.slot ?? NONE;
    if (to === undefined) return;
    this.sendUntil[peer] = to.until;
    this.sendDoubted[peer] = to.inDoubt ? 1 : 0;
    this.addressLength[peer] = to.address.length;
    this.#bytes.set(to.address, this.addressAt(peer));
  }

  #close(slot: number): void {
    const peer = this.slotPeer[slot] ?? NONE;
    this.slotPeer[slot] = NONE;
    const index = this.#sessions.localIndex(slot);
    if (this.#slotByIndex.get(index) === slot) this.#slotByIndex.delete(index);
    this.#lastSlot = this.#slotByIndex.get(0) ?? NONE;
    if (peer !== NONE && this.sendSlot[peer] === slot) this.sendSlot[peer] = NONE;
  }
}

export interface TableLimits {
  readonly maxPeers: number;
  readonly maxSessions: number;
}
