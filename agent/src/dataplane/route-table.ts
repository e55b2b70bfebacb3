/**
 * Which peer an address belongs to, in shared memory: one thread writes, all read.
 *
 *     header    changes (4, odd while one is made)  used entries (4)  lost prefixes (4)
 *               then how many prefixes there are of each length: IPv4 0–32, IPv6 0–128
 *     entry     what it is (4: version and length of the prefix; 0: free)  peer + 1 (4; 0 once deleted)
 *               owner + 1 (4)  owners (4)  address (16)
 *
 * An entry without an owner says to whom packets for the prefix go; one with an owner, that this peer may send from
 * it. Two routers of one subnet both may. A lookup tries the lengths that occur, the longest first.
 */
import type { Prefix } from "../base/address.ts";

const CHANGES = 0;
const USED = 1;
const LOST = 2;
const LENGTHS = 16;
const V6_LENGTHS = LENGTHS + 33;
const HEADER_SIZE = 1024;
const ENTRY_WORDS = 8;
const WHAT = 0;
const PEER = 1;
const OWNER = 2;
const OWNERS = 3;
const ADDRESS = 4;
/** A prefix takes two entries, and half of the table stays free. */
const ENTRIES_OF_PREFIX = 4;

export function routeTableSize(prefixes: number): number {
  return HEADER_SIZE + entriesFor(prefixes) * ENTRY_WORDS * 4;
}

function entriesFor(prefixes: number): number {
  return 2 ** Math.ceil(Math.log2(prefixes * ENTRIES_OF_PREFIX));
}

export class RouteTable {
  readonly #words: Int32Array;
  readonly #counts: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #mask: number;
  /** The address that is looked up, cut to a length: four words, as they lie in memory. */
  readonly #cut = new Int32Array(4);
  readonly #cutBytes = new Uint8Array(this.#cut.buffer);

  constructor(memory: ArrayBufferLike, at: number, prefixes: number) {
    const entries = entriesFor(prefixes);
    this.#counts = new Int32Array(memory, at, HEADER_SIZE / 4);
    this.#words = new Int32Array(memory, at + HEADER_SIZE, entries * ENTRY_WORDS);
    this.#bytes = new Uint8Array(memory);
    this.#mask = entries - 1;
  }

  /** Whether there were more prefixes than fit: then an address that is not found says nothing. */
  get isIncomplete(): boolean {
    return Atomics.load(this.#counts, LOST) > 0;
  }

  /** Whom a packet to the address at `at` is for, or -1. */
  lookup(at: number, length: 4 | 16): number {
    return this.#steady(() => this.#longest(at, length, -1));
  }

  /** Whether `peer` may send from the address at `at`: whether the longest prefix that holds it is one of the peer's. */
  mayHaveSent(peer: number, at: number, length: 4 | 16): boolean {
    return this.#steady(() => this.#longest(at, length, peer)) === peer;
  }

  /** Only for the one that writes: what `peer` is routed by and may send from. */
  set(peer: number, prefixes: readonly Prefix[], former: readonly Prefix[]): void {
    Atomics.add(this.#counts, CHANGES, 1);
    for (const prefix of former) this.#remove(peer, prefix);
    for (const prefix of prefixes) this.#add(peer, prefix);
    Atomics.add(this.#counts, CHANGES, 1);
  }

  /** Asks again as long as somebody writes. */
  #steady(ask: () => number): number {
    for (;;) {
      const before = Atomics.load(this.#counts, CHANGES);
      if ((before & 1) !== 0) continue;
      const found = ask();
      if (Atomics.load(this.#counts, CHANGES) === before) return found;
    }
  }

  #longest(at: number, length: 4 | 16, owner: number): number {
    const counts = this.#counts;
    const first = length === 4 ? LENGTHS : V6_LENGTHS;
    for (let bits = length * 8; bits >= 0; bits--) {
      if ((counts[first + bits] ?? 0) === 0) continue;
      this.#cutTo(this.#bytes, at, length, bits);
      const what = whatOf(length, bits);
      const entry = this.#find(what, 0);
      if (entry < 0) continue;
      if (owner < 0) return (this.#words[entry + PEER] ?? 0) - 1;
      return this.#find(what, owner + 1) < 0 ? -1 : owner;
    }
    return -1;
  }

  #cutTo(bytes: Uint8Array, at: number, length: number, bits: number): void {
    const cut = this.#cutBytes;
    for (let i = 0; i < 16; i++) {
      const kept = Math.max(0, Math.min(8, bits - 8 * i));
      cut[i] = i < length ? (bytes[at + i] ?? 0) & (0xff00 >> kept) : 0;
    }
  }

  /** The word where the entry of the cut address begins, or -1. */
  #find(what: number, owner: number): number {
    const words = this.#words;
    for (let i = this.#hash(what, owner); ; i = (i + 1) & this.#mask) {
      const entry = i * ENTRY_WORDS;
      const found = words[entry + WHAT] ?? 0;
      if (found === 0) return -1;
      if (found === what && words[entry + OWNER] === owner && this.#holdsCut(entry))
        return words[entry + PEER] === 0 ? -1 : entry;
    }
  }

  #holdsCut(entry: number): boolean {
    for (let i = 0; i < 4; i++) if (this.#words[entry + ADDRESS + i] !== this.#cut[i]) return false;
    return true;
  }

  #hash(what: number, owner: number): number {
    let hash = Math.imul(what ^ Math.imul(owner, 0x27d4eb2f), 0x9e3779b1);
    for (const word of this.#cut) hash = Math.imul(hash ^ word ^ (hash >>> 15), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) & this.#mask;
  }

  #add(peer: number, { ip, bits }: Prefix): void {
    const length = ip.isV4 ? 4 : 16;
    this.#cutTo(ip.bytes, 0, length, bits);
    const what = whatOf(length, bits);
    const isNew = this.#find(what, 0) < 0;
    const added = this.#put(what, 0, peer) && this.#put(what, peer + 1, peer);
    const counts = this.#counts;
    if (!added) counts[LOST] = (counts[LOST] ?? 0) + 1;
    const route = this.#find(what, 0);
    if (route < 0) return;
    this.#words[route + OWNERS] = (isNew ? 0 : (this.#words[route + OWNERS] ?? 0)) + 1;
    const at = (length === 4 ? LENGTHS : V6_LENGTHS) + bits;
    if (isNew) counts[at] = (counts[at] ?? 0) + 1;
  }

  #put(what: number, owner: number, peer: number): boolean {
    const [words, counts] = [this.#words, this.#counts];
    for (let i = this.#hash(what, owner); ; i = (i + 1) & this.#mask) {
      const entry = i * ENTRY_WORDS;
      const isFree = words[entry + WHAT] === 0;
      if (isFree && (counts[USED] ?? 0) > this.#mask * 0.9) return false;
      if (
        !isFree &&
        !(words[entry + WHAT] === what && words[entry + OWNER] === owner && this.#holdsCut(entry))
      )
        continue;
      if (isFree) counts[USED] = (counts[USED] ?? 0) + 1;
      words[entry + WHAT] = what;
      words[entry + OWNER] = owner;
      words.set(this.#cut, entry + ADDRESS);
      words[entry + PEER] = peer + 1;
      return true;
    }
  }

  #remove(peer: number, { ip, bits }: Prefix): void {
    const length = ip.isV4 ? 4 : 16;
    this.#cutTo(ip.bytes, 0, length, bits);
    const what = whatOf(length, bits);
    const owned = this.#find(what, peer + 1);
    if (owned >= 0) this.#words[owned + PEER] = 0;
    const route = this.#find(what, 0);
    if (route < 0) return;
    const owners = (this.#words[route + OWNERS] ?? 0) - 1;
    this.#words[route + OWNERS] = owners;
    if (owners > 0 && this.#words[route + PEER] !== peer + 1) return;
    this.#words[route + PEER] = owners > 0 ? this.#otherOwner(what) : 0;
    if (owners > 0) return;
    const at = (length === 4 ? LENGTHS : V6_LENGTHS) + bits;
    this.#counts[at] = (this.#counts[at] ?? 0) - 1;
    this.#sweep();
  }

  /** Another peer with the very same prefix, + 1. Slow and rare. */
  #otherOwner(what: number): number {
    const words = this.#words;
    for (let entry = 0; entry < words.length; entry += ENTRY_WORDS) {
      const isRival = words[entry + WHAT] === what && (words[entry + OWNER] ?? 0) > 0;
      if (isRival && words[entry + PEER] !== 0 && this.#holdsCut(entry)) return words[entry + PEER] ?? 0;
    }
    return 0;
  }

  /** Entries that were deleted stay in the way of others: when many are used, the table is made anew. */
  #sweep(): void {
    if ((this.#counts[USED] ?? 0) < this.#mask / 2) return;
    const words = this.#words;
    const kept: Int32Array[] = [];
    for (let entry = 0; entry < words.length; entry += ENTRY_WORDS) {
      if ((words[entry + PEER] ?? 0) !== 0) kept.push(words.slice(entry, entry + ENTRY_WORDS));
    }
    words.fill(0);
    this.#counts[USED] = 0;
    for (const old of kept) {
      this.#cut.set(old.subarray(ADDRESS));
      this.#put(old[WHAT] ?? 0, old[OWNER] ?? 0, (old[PEER] ?? 0) - 1);
      const moved = this.#find(old[WHAT] ?? 0, old[OWNER] ?? 0);
      if (moved >= 0) words[moved + OWNERS] = old[OWNERS] ?? 0;
    }
  }
}

function whatOf(length: 4 | 16, bits: number): number {
  return ((length << 8) | bits) + 1;
}
