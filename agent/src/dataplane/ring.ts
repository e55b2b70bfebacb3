/**
 * A queue of records in shared memory, from one thread to one other, without locks.
 *
 *     record    size (4, this header included)  kind (4)  a (4)  b (4)  bytes, up to a multiple of 16
 *
 * A record never wraps around: where it would, one of kind 0 fills the rest. When the ring is full the writer
 * drops and counts; it never waits.
 */
import type { RingPlace } from "./memory.ts";

const HEADER = 16;
const FILLER = 0;
/** From this kind on a record waits until the reader is woken for another. */
const FIRST_LAZY = 10;
const READ_FROM_WRITTEN = 16;

export class RingWriter {
  dropped = 0;
  /** How many records were added that the reader should be woken for. */
  urgent = 0;
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #written: number;
  readonly #at: number;
  readonly #size: number;
  #next = 0;

  constructor(memory: ArrayBufferLike, control: number, { at, size, words }: RingPlace) {
    this.#bytes = new Uint8Array(memory);
    this.#words = new Int32Array(memory);
    this.#written = control / 4 + words;
    this.#at = at;
    this.#size = size;
  }

  /**
   * Adds a record with the `length` bytes of the memory at `from`, and behind them those of `more`. Returns
   * false when there is no room.
   */
  push(kind: number, a: number, b: number, from: number, length: number, more = 0, moreLength = 0): boolean {
    const at = this.#reserve(HEADER + length + moreLength);
    if (at < 0) return false;
    this.#header(at, HEADER + length + moreLength, kind, a, b);
    if (kind < FIRST_LAZY) this.urgent++;
    if (length > 0) this.#bytes.copyWithin(at + HEADER, from, from + length);
    if (moreLength > 0) this.#bytes.copyWithin(at + HEADER + length, more, more + moreLength);
    this.#commit();
    return true;
  }

  /** Adds a record with these bytes, which lie elsewhere. */
  pushBytes(kind: number, bytes: Uint8Array): boolean {
    const at = this.#reserve(HEADER + bytes.length);
    if (at < 0) return false;
    this.#header(at, HEADER + bytes.length, kind, 0, 0);
    this.#bytes.set(bytes, at + HEADER);
    this.#commit();
    return true;
  }

  /** Where the next record begins, or -1 where there is no room for `length` bytes. */
  #reserve(length: number): number {
    const size = (length + 15) & ~15;
    const written = Atomics.load(this.#words, this.#written);
    const used = (written - Atomics.load(this.#words, this.#written + READ_FROM_WRITTEN)) >>> 0;
    const offset = written & (this.#size - 1);
    const rest = this.#size - offset;
    const filler = rest < size ? rest : 0;
    if (used + filler + size > this.#size) {
      this.dropped++;
      return -1;
    }
    if (filler > 0) this.#header(this.#at + offset, filler, FILLER, 0, 0);
    this.#next = (written + filler + size) | 0;
    return this.#at + (filler > 0 ? 0 : offset);
  }

  #commit(): void {
    Atomics.store(this.#words, this.#written, this.#next);
  }

  #header(at: number, size: number, kind: number, a: number, b: number): void {
    const word = at / 4;
    this.#words[word] = size;
    this.#words[word + 1] = kind;
    this.#words[word + 2] = a;
    this.#words[word + 3] = b;
  }
}

/** `bytes` is a copy, which belongs to the receiver. */
export type ReadRecord = (kind: number, a: number, b: number, bytes: Uint8Array) => void;

export class RingReader {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #read: number;
  readonly #at: number;
  readonly #size: number;
  /** The record that `next` has found: its bytes lie at `at`. */
  kind = 0;
  a = 0;
  b = 0;
  at = 0;
  length = 0;

  constructor(memory: ArrayBufferLike, control: number, { at, size, words }: RingPlace) {
    this.#bytes = new Uint8Array(memory);
    this.#words = new Int32Array(memory);
    this.#read = control / 4 + words + READ_FROM_WRITTEN;
    this.#at = at;
    this.#size = size;
  }

  get isEmpty(): boolean {
    return (
      Atomics.load(this.#words, this.#read) === Atomics.load(this.#words, this.#read - READ_FROM_WRITTEN)
    );
  }

  /** Reads at most `limit` records. */
  drain(limit: number, receive: ReadRecord): void {
    for (let count = 0; count < limit && this.next(); count++) {
      const { kind, a, b, at, length } = this;
      const bytes = new Uint8Array(length);
      if (length > 0) bytes.set(this.#bytes.subarray(at, at + length));
      this.advance();
      receive(kind, a, b, bytes);
    }
  }

  /** Whether there is another record; what it holds is told until `advance`. */
  next(): boolean {
    for (; !this.isEmpty; this.advance()) {
      const read = Atomics.load(this.#words, this.#read);
      const at = this.#at + (read & (this.#size - 1));
      const word = at / 4;
      this.kind = this.#words[word + 1] ?? 0;
      this.a = this.#words[word + 2] ?? 0;
      this.b = this.#words[word + 3] ?? 0;
      this.at = at + HEADER;
      this.length = (this.#words[word] ?? 0) - HEADER;
      if (this.kind !== FILLER) return true;
    }
    return false;
  }

  /** Gives the record's room back. */
  advance(): void {
    const read = Atomics.load(this.#words, this.#read);
    Atomics.store(this.#words, this.#read, (read + ((this.length + HEADER + 15) & ~15)) | 0);
  }
}
