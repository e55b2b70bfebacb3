/**
 * The sessions that the engine and the workers share: each has its keys, the counter of messages sent and the
 * replay window in one slot of the shared memory.
 *
 *     0  index that we chose     4  index that the peer chose
 *     8  messages sent          12  greatest counter received + 1
 *    16  peer + 1, 0: for the engine alone            24  until when it is received with (float)
 *    64  key to send            96  key to receive
 *   128  replay window: 32-bit words, each for 16 counters
 *
 * Both sides count with atomic operations, so no nonce is used twice and no packet is let in twice, whoever
 * gets there first. A word of the window holds which 16 counters it stands for (high half: the turn of the
 * ring) and which of them came (low half), so that it changes in one step.
 *
 * Counters here have 32 bits. A session that has sent 2^31 messages is replaced (WireGuard's limit is 2^60), and
 * greater ones that a peer may use are the engine's alone.
 */
import type { OpenedSession, SessionCounters, SessionStore } from "../core/wireguard/counters.ts";
import { DEFAULT_REPLAY_WINDOW, ReplayWindow } from "../core/wireguard/replay.ts";

const LOCAL_INDEX = 0;
const REMOTE_INDEX = 1;
const SENT = 2;
const GREATEST = 3;
const PEER = 4;
const UNTIL = 24;
const SEND_KEY = 64;
const RECEIVE_KEY = 96;
const RING = 128;
/** One more than the window needs. */
const RING_WORDS = DEFAULT_REPLAY_WINDOW / 16 + 1;
export const SESSION_SIZE: number = Math.ceil((RING + RING_WORDS * 4) / 64) * 64;

/** Ours: the engine begins a new session long before the 32 bits are used up. */
const WORN_AFTER = 2 ** 31;
const EXHAUSTED_AFTER = 2 ** 32 - 2 ** 20;
const LOW_COUNTERS = 2n ** 32n;

/** One thread's view of the table. */
export class SessionTable {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #floats: Float64Array;
  readonly #at: number;

  /** `at`: where the table begins in `memory`. */
  constructor(memory: ArrayBufferLike, at: number) {
    this.#bytes = new Uint8Array(memory);
    this.#words = new Int32Array(memory);
    this.#floats = new Float64Array(memory);
    this.#at = at;
  }

  write(slot: number, { keys, localIndex, remoteIndex }: OpenedSession): void {
    const at = this.#at + slot * SESSION_SIZE;
    this.#bytes.fill(0, at, at + SESSION_SIZE);
    this.#words[at / 4 + LOCAL_INDEX] = localIndex;
    this.#words[at / 4 + REMOTE_INDEX] = remoteIndex;
    this.#bytes.set(keys.send, at + SEND_KEY);
    this.#bytes.set(keys.receive, at + RECEIVE_KEY);
  }

  wipe(slot: number): void {
    const at = this.#at + slot * SESSION_SIZE;
    this.#bytes.fill(0, at + SEND_KEY, at + RING);
  }

  /** Whose session it is, for those who receive with it; -1 takes it from them. */
  assign(slot: number, peer: number, until = 0): void {
    this.#floats[(this.#at + slot * SESSION_SIZE + UNTIL) / 8] = until;
    Atomics.store(this.#words, this.#word(slot) + PEER, peer + 1);
  }

  /** -1: nobody's. */
  peer(slot: number): number {
    return (this.#words[this.#word(slot) + PEER] ?? 0) - 1;
  }

  until(slot: number): number {
    return this.#floats[(this.#at + slot * SESSION_SIZE + UNTIL) / 8] ?? 0;
  }

  localIndex(slot: number): number {
    return this.#words[this.#word(slot) + LOCAL_INDEX] ?? 0;
  }

  remoteIndex(slot: number): number {
    return this.#words[this.#word(slot) + REMOTE_INDEX] ?? 0;
  }

  sendKey(slot: number): number {
    return this.#at + slot * SESSION_SIZE + SEND_KEY;
  }

  receiveKey(slot: number): number {
    return this.#at + slot * SESSION_SIZE + RECEIVE_KEY;
  }

  sent(slot: number): number {
    return Atomics.load(this.#words, this.#word(slot) + SENT) >>> 0;
  }

  /** Takes the next `count` counters: the first of them, or -1 when there are no more. */
  reserve(slot: number, count: number): number {
    const at = this.#word(slot) + SENT;
    if (Atomics.load(this.#words, at) >>> 0 >= EXHAUSTED_AFTER) return -1;
    return Atomics.add(this.#words, at, count) >>> 0;
  }

  /** A look before the work of opening: `mark` is what decides. */
  isFresh(slot: number, counter: number): boolean {
    const words = this.#words;
    const word = this.#word(slot);
    const greatest = ((words[word + GREATEST] ?? 0) >>> 0) - 1;
    if (greatest - counter > DEFAULT_REPLAY_WINDOW) return false;
    const block = Math.floor(counter / 16);
    const turn = Math.floor(block / RING_WORDS);
    const seen = words[word + RING / 4 + (block % RING_WORDS)] ?? 0;
    return seen >>> 16 < turn || (seen >>> 16 === turn && (seen & (1 << (counter & 15))) === 0);
  }

  /** Returns false when the counter was marked before, or is too old by now. */
  mark(slot: number, counter: number): boolean {
    const word = this.#word(slot);
    const block = Math.floor(counter / 16);
    const turn = Math.floor(block / RING_WORDS);
    const at = word + RING / 4 + (block % RING_WORDS);
    const bit = 1 << (counter & 15);
    for (;;) {
      const seen = Atomics.load(this.#words, at);
      const newer = seen >>> 16 < turn;
      if (!newer && (seen >>> 16 !== turn || (seen & bit) !== 0)) return false;
      const next = newer ? (turn << 16) | bit : seen | bit;
      if (Atomics.compareExchange(this.#words, at, seen, next) === seen) break;
    }
    // Not atomic: should another side's greater one be lost, the window reaches back further for a moment.
    if (counter >= (this.#words[word + GREATEST] ?? 0) >>> 0) this.#words[word + GREATEST] = counter + 1;
    return true;
  }

  #word(slot: number): number {
    return (this.#at + slot * SESSION_SIZE) / 4;
  }
}

/**
 * Finds the slot of the session that a message names, in rows of eight: one thread writes, all read.
 *
 *     entry    index that we chose (4)  slot + 1 (4; 0: free)
 *
 * The indices are drawn at random, so a row hardly ever fills up; a session that finds no room is the engine's alone.
 */
export class SessionIndex {
  readonly #words: Int32Array;
  readonly #mask: number;

  constructor(memory: ArrayBufferLike, at: number, sessions: number) {
    this.#words = new Int32Array(memory, at, indexSize(sessions) / 4);
    this.#mask = rowsFor(sessions) - 1;
  }

  /** The slot, or -1. */
  find(index: number): number {
    const words = this.#words;
    const row = (index & this.#mask) * ROW_WORDS;
    for (let entry = row; entry < row + ROW_WORDS; entry += 2) {
      if (words[entry] === index && words[entry + 1] !== 0) return (words[entry + 1] ?? 0) - 1;
    }
    return -1;
  }

  add(index: number, slot: number): void {
    const words = this.#words;
    const row = (index & this.#mask) * ROW_WORDS;
    for (let entry = row; entry < row + ROW_WORDS; entry += 2) {
      if (words[entry + 1] !== 0) continue;
      Atomics.store(words, entry, index);
      Atomics.store(words, entry + 1, slot + 1);
      return;
    }
  }

  remove(index: number, slot: number): void {
    const words = this.#words;
    const row = (index & this.#mask) * ROW_WORDS;
    for (let entry = row; entry < row + ROW_WORDS; entry += 2) {
      if (words[entry] === index && words[entry + 1] === slot + 1) Atomics.store(words, entry + 1, 0);
    }
  }
}

const ROW_WORDS = 16;

/** Half of one entry in eight is in use at most. */
function rowsFor(sessions: number): number {
  return 2 ** Math.ceil(Math.log2(Math.max(2, sessions / 2)));
}

export function indexSize(sessions: number): number {
  return rowsFor(sessions) * ROW_WORDS * 4;
}

/** A session's counters as the engine uses them, in a slot that others use as well. */
export class SharedCounters implements SessionCounters {
  readonly slot: number;
  readonly #table: SessionTable;
  #high: ReplayWindow | undefined;

  constructor(table: SessionTable, slot: number) {
    this.#table = table;
    this.slot = slot;
  }

  get exhausted(): boolean {
    return this.#table.sent(this.slot) >= EXHAUSTED_AFTER;
  }

  get worn(): boolean {
    return this.#table.sent(this.slot) > WORN_AFTER;
  }

  next(): bigint {
    const counter = this.#table.reserve(this.slot, 1);
    if (counter < 0) throw new Error("the session has no counters left: ask exhausted first");
    return BigInt(counter);
  }

  isFresh(counter: bigint): boolean {
    if (counter < LOW_COUNTERS - 1n) return this.#table.isFresh(this.slot, Number(counter));
    return this.#highCounters().isFresh(counter);
  }

  mark(counter: bigint): boolean {
    if (counter < LOW_COUNTERS - 1n) return this.#table.mark(this.slot, Number(counter));
    this.#highCounters().mark(counter);
    return true;
  }

  #highCounters(): ReplayWindow {
    this.#high ??= new ReplayWindow(DEFAULT_REPLAY_WINDOW);
    return this.#high;
  }
}

/** Gives out the slots. A slot is free again only after the worker has confirmed that it let go of it. */
export class SharedSessions implements SessionStore {
  readonly #table: SessionTable;
  readonly #free: number[];
  readonly #byIndex = new Map<number, SharedCounters>();
  readonly #onClose: (slot: number) => void;

  constructor(table: SessionTable, count: number, onClose: (slot: number) => void) {
    this.#table = table;
    this.#free = Array.from({ length: count }, (_, i) => count - 1 - i);
    this.#onClose = onClose;
  }

  open(session: OpenedSession): SessionCounters | undefined {
    const slot = this.#free.pop();
    if (slot === undefined) return undefined;
    this.#table.write(slot, session);
    const counters = new SharedCounters(this.#table, slot);
    this.#byIndex.set(session.localIndex, counters);
    return counters;
  }

  close(localIndex: number): void {
    const counters = this.#byIndex.get(localIndex);
    if (counters === undefined) return;
    this.#byIndex.delete(localIndex);
    this.#onClose(counters.slot);
  }

  slotOf(localIndex: number): number | undefined {
    return this.#byIndex.get(localIndex)?.slot;
  }

  /** The worker does not use `slot` any more. */
  release(slot: number): void {
    this.#table.wipe(slot);
    this.#free.push(slot);
  }
}
