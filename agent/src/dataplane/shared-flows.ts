/**
 * The UDP and SCTP flows that this node opened, in shared memory: every thread notes what it sends and asks about what
 * it receives. The plain form of it is `core/filter/flow-table.ts`.
 *
 *     entry (64 bytes)   state (4: odd while it is written)  last use (4)  protocol and family (4)  own port, peer's (4)
 *                        own address (16)  peer's address (16)
 *
 * Each flow belongs to one row of eight entries, of which the least recently used is given up.
 */
import type { FlowStore } from "../core/filter/flow-table.ts";
import { addressLength, destinationOffset, type Packet, sourceOffset } from "../core/ip/packet.ts";

const ROWS = 256;
const WAYS = 8;
const ENTRY_WORDS = 16;
const STATE = 0;
const USE = 1;
/** The first word of the key. */
const KEY = 4;
const KEY_WORDS = 10;

/** The last line counts uses. */
export const FLOWS_SIZE: number = ROWS * WAYS * ENTRY_WORDS * 4 + 64;

export class SharedFlows implements FlowStore {
  readonly #words: Int32Array;
  /** Of the flow in question. */
  readonly #key = new Int32Array(KEY_WORDS);
  readonly #keyBytes = new Uint8Array(this.#key.buffer);

  constructor(memory: ArrayBufferLike, at: number) {
    this.#words = new Int32Array(memory, at, FLOWS_SIZE / 4);
  }

  note(packet: Packet): void {
    this.#setKey(packet, sourceOffset(packet), destinationOffset(packet), 0, 2);
    const row = this.#row();
    const known = this.#find(row);
    if (known >= 0) {
      this.#touch(known);
      return;
    }
    let oldest = row;
    const now = this.#tick();
    for (let entry = row; entry < row + WAYS * ENTRY_WORDS; entry += ENTRY_WORDS) {
      if (this.#age(entry, now) > this.#age(oldest, now)) oldest = entry;
    }
    this.#write(oldest, now);
  }

  isAnswer(packet: Packet): boolean {
    this.#setKey(packet, destinationOffset(packet), sourceOffset(packet), 2, 0);
    const found = this.#find(this.#row());
    if (found < 0) return false;
    this.#touch(found);
    return true;
  }

  #setKey(packet: Packet, own: number, peer: number, ownPort: number, peerPort: number): void {
    const { bytes, payloadAt } = packet;
    const length = addressLength(packet);
    const key = this.#keyBytes;
    key.fill(0);
    this.#key[0] = packet.protocol | (packet.version << 8);
    key.set(bytes.subarray(payloadAt + ownPort, payloadAt + ownPort + 2), 4);
    key.set(bytes.subarray(payloadAt + peerPort, payloadAt + peerPort + 2), 6);
    key.set(bytes.subarray(own, own + length), 8);
    key.set(bytes.subarray(peer, peer + length), 24);
  }

  #row(): number {
    let hash = 0;
    for (const word of this.#key) hash = Math.imul(hash ^ word ^ (hash >>> 15), 0x85ebca6b);
    return ((hash ^ (hash >>> 13)) & (ROWS - 1)) * WAYS * ENTRY_WORDS;
  }

  /** The entry of the row that holds the key, or -1. One that is being written holds none. */
  #find(row: number): number {
    for (let entry = row; entry < row + WAYS * ENTRY_WORDS; entry += ENTRY_WORDS) {
      const state = Atomics.load(this.#words, entry + STATE);
      if (state === 0 || (state & 1) !== 0 || !this.#holds(entry)) continue;
      if (Atomics.load(this.#words, entry + STATE) === state) return entry;
    }
    return -1;
  }

  #holds(entry: number): boolean {
    for (let i = 0; i < KEY_WORDS; i++)
      if (Atomics.load(this.#words, entry + KEY + i) !== this.#key[i]) return false;
    return true;
  }

  /** Somebody else may be writing there: then this flow is noted with its next packet. */
  #write(entry: number, now: number): void {
    const words = this.#words;
    const state = Atomics.load(words, entry + STATE);
    if ((state & 1) !== 0 || Atomics.compareExchange(words, entry + STATE, state, state + 1) !== state)
      return;
    for (let i = 0; i < KEY_WORDS; i++) Atomics.store(words, entry + KEY + i, this.#key[i] ?? 0);
    Atomics.store(words, entry + USE, now);
    Atomics.store(words, entry + STATE, (state + 2) | 0);
  }

  #touch(entry: number): void {
    Atomics.store(this.#words, entry + USE, this.#tick());
  }

  #tick(): number {
    return Atomics.add(this.#words, ROWS * WAYS * ENTRY_WORDS, 1);
  }

  /** Free ones are the oldest of all. */
  #age(entry: number, now: number): number {
    if (Atomics.load(this.#words, entry + STATE) === 0) return Number.POSITIVE_INFINITY;
    return (now - Atomics.load(this.#words, entry + USE)) >>> 0;
  }
}
