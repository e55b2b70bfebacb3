/**
 * What a worker knows of peers, sessions and the filter: the engine's decisions, in the form that a packet asks for.
 * They lie in shared memory; here is one thread's view of them.
 *
 *     peer     changes (4, odd while one is made)  slot to send with + 1 (4; 0: none)  until (8, float)
 *              flags (4)  length of its address (4)  longest packet (4; 0: 1,280)  1: it roams (4)  address (28)
 *
 * The engine counts its changes (the epoch). A worker takes the count over when it wakes, forgets what it knew of an
 * older one, and so uses nothing that was taken back before it woke.
 */
import { Prefix } from "../base/address.ts";
import { compileFilter, type FilterRuleJson, type PacketFilter } from "../core/filter/filter.ts";
import { BASE_MTU } from "../core/path/path-mtu.ts";
import { ADDRESS_SIZE, Control, type Layout, PEER_SIZE, seenWord } from "./memory.ts";
import { RouteTable } from "./route-table.ts";
import { SessionIndex, type SessionTable } from "./session-table.ts";
import { SharedFlows } from "./shared-flows.ts";
import { VerdictCache } from "./verdict-cache.ts";

/** Words of a peer's line. */
export const PeerWord = {
  changes: 0,
  slot: 1,
  flags: 4,
  addressLength: 5,
  mtu: 6,
  roams: 7,
  address: 8,
} as const;
export const PEER_UNTIL = 8;
/** The path is in doubt: copies go to the engine. */
export const IN_DOUBT = 1;
/** Sealed messages go to the engine, which sends them. */
export const BY_ENGINE = 2;

const WORDS = PEER_SIZE / 4;
/** Nobody's number. */
const NONE = -1;

/** What lies in the memory beside the filter's rules. */
export interface FilterText {
  readonly rules: readonly FilterRuleJson[];
  readonly localAddresses: readonly string[];
  readonly excluded: readonly string[];
}

export class PeerTable {
  readonly routes: RouteTable;
  /** Of packets that came from a peer, and of those for one. */
  readonly verdicts: VerdictCache;
  readonly outboundVerdicts: VerdictCache;
  /** `undefined`: the engine judges. */
  filter: PacketFilter | undefined;
  /** Of the peer that was looked at last: with which slot to send or -1, until when, and how. */
  peer = NONE;
  sendSlot = NONE;
  sendUntil = 0;
  isInDoubt = false;
  isByEngine = false;
  addressLength = 0;
  mtu: number = BASE_MTU;
  readonly #sessions: SessionTable;
  readonly #index: SessionIndex;
  readonly #flows: SharedFlows;
  readonly #bytes: Uint8Array;
  readonly #control: Int32Array;
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #layout: Layout;
  #epoch = 0;
  #rules = 0;
  #filterChanges = 0;
  #lastIndex = 0;
  #lastSlot = NONE;

  constructor(memory: ArrayBufferLike, layout: Layout, sessions: SessionTable, limits: TableLimits) {
    this.#bytes = new Uint8Array(memory);
    this.#control = new Int32Array(memory, layout.control);
    this.#words = new Int32Array(memory, layout.peers, limits.maxPeers * WORDS);
    this.#floats = new Float64Array(memory, layout.peers, limits.maxPeers * (PEER_SIZE / 8));
    this.#layout = layout;
    this.#sessions = sessions;
    this.#index = new SessionIndex(memory, layout.indexes, limits.maxSessions);
    this.#flows = new SharedFlows(memory, layout.flowTable);
    this.routes = new RouteTable(memory, layout.routes, layout.prefixes);
    this.verdicts = new VerdictCache(memory);
    this.outboundVerdicts = new VerdictCache(memory);
  }

  /** Before a wait: nothing of the tables is used until `enter`. */
  leave(): void {
    Atomics.store(this.#control, seenWord(this.#layout), 0);
  }

  /** After a wait: what changed meanwhile counts from now on. */
  enter(): void {
    const control = this.#control;
    let epoch: number;
    do {
      epoch = Atomics.load(control, Control.epoch);
      Atomics.store(control, seenWord(this.#layout), epoch);
    } while (Atomics.load(control, Control.epoch) !== epoch);
    if (epoch === this.#epoch) return;
    this.#epoch = epoch;
    this.peer = NONE;
    this.#lastSlot = NONE;
    this.#lastIndex = 0;
    const rules = Atomics.load(control, Control.rules);
    if (rules === this.#rules) return;
    this.#rules = rules;
    this.#takeFilter();
    this.verdicts.clear();
    this.outboundVerdicts.clear();
  }

  /** The slot of a session that may be received with at `now`, or -1. */
  slotOf(index: number): number {
    if (index === this.#lastIndex && this.#lastSlot >= 0) return this.#lastSlot;
    const slot = this.#index.find(index);
    if (slot < 0 || this.#sessions.localIndex(slot) !== index) return NONE;
    this.#lastIndex = index;
    this.#lastSlot = slot;
    return slot;
  }

  /** Fills in how to send to `peer`, its address in the lane's `target`. */
  look(peer: number): void {
    if (peer === this.peer) return;
    const at = peer * WORDS;
    const words = this.#words;
    for (;;) {
      const changes = Atomics.load(words, at + PeerWord.changes);
      if ((changes & 1) !== 0) continue;
      this.#copy(at);
      if (Atomics.load(words, at + PeerWord.changes) === changes) break;
    }
    this.peer = peer;
  }

  mtuOf(peer: number): number {
    return this.#words[peer * WORDS + PeerWord.mtu] || BASE_MTU;
  }

  #copy(at: number): void {
    const words = this.#words;
    const flags = Atomics.load(words, at + PeerWord.flags);
    this.sendSlot = Atomics.load(words, at + PeerWord.slot) - 1;
    this.sendUntil = this.#floats[at / 2 + PEER_UNTIL / 8] ?? 0;
    this.isInDoubt = (flags & IN_DOUBT) !== 0;
    this.isByEngine = (flags & BY_ENGINE) !== 0;
    this.addressLength = Atomics.load(words, at + PeerWord.addressLength);
    this.mtu = Atomics.load(words, at + PeerWord.mtu) || BASE_MTU;
    const address = this.#layout.peers + (at + PeerWord.address) * 4;
    this.#bytes.copyWithin(this.#layout.target, address, address + ADDRESS_SIZE - 4);
  }

  /** One that is being written counts as a change of its own, which comes with the next epoch. */
  #takeFilter(): void {
    const control = this.#control;
    const changes = Atomics.load(control, Control.filter);
    if (changes === this.#filterChanges || (changes & 1) !== 0) return;
    const length = Atomics.load(control, Control.filterLength);
    const text = new TextDecoder().decode(
      this.#bytes.slice(this.#layout.filter, this.#layout.filter + Math.max(0, length)),
    );
    if (Atomics.load(control, Control.filter) !== changes) return;
    this.#filterChanges = changes;
    this.filter = length <= 0 ? undefined : compile(JSON.parse(text) as FilterText, this.#flows);
  }
}

function compile({ rules, ...text }: FilterText, flows: SharedFlows): PacketFilter {
  const [localAddresses, excluded] = [text.localAddresses.map(Prefix.parse), text.excluded.map(Prefix.parse)];
  return compileFilter(rules, { localAddresses, excluded, flows });
}

export interface TableLimits {
  readonly maxPeers: number;
  readonly maxSessions: number;
}
