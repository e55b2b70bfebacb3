/**
 * Cuts a byte stream into frames.
 *
 * A frame that lies whole in one chunk is handed out as a view of that chunk, so nothing is
 * copied; only a frame that spans chunks is put together. Frames of unknown types are passed
 * over without being kept, whatever their length.
 */
import { HEADER_LENGTH, isKnownType } from "./frame.ts";

export interface RawFrame {
  readonly type: number;
  /** Header and body, as they came. */
  readonly bytes: Uint8Array;
  readonly body: Uint8Array;
}

export class FrameReader {
  /** The longest body that is taken. */
  limit: number;
  /** Frames passed over because their type is not known. */
  skipped = 0;
  #chunk: Uint8Array = NOTHING;
  #offset = 0;
  readonly #header = new Uint8Array(HEADER_LENGTH);
  #headerFilled = 0;
  /** A frame that began in an earlier chunk, and how much of it is there. */
  #partial: Uint8Array | undefined;
  #filled = 0;
  #toSkip = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Takes the next bytes of the stream. Before the following ones, call `next` until it returns nothing. */
  feed(chunk: Uint8Array): void {
    this.#chunk = chunk;
    this.#offset = 0;
  }

  /** @returns undefined when more bytes are needed; "too-large" is the end: the stream can not be followed */
  next(): RawFrame | "too-large" | undefined {
    for (;;) {
      if (this.#toSkip > 0 && !this.#skip()) return undefined;
      if (this.#partial !== undefined) return this.#fill(this.#partial);
      const available = this.#chunk.length - this.#offset;
      if (available === 0) return undefined;
      if (this.#headerFilled > 0 || available < HEADER_LENGTH) {
        if (!this.#collectHeader()) return undefined;
        const begun = this.#begin(this.#header, 0);
        if (begun === "too-large") return begun;
        if (begun !== undefined) this.#startPartial(begun);
        continue;
      }
      const length = this.#begin(this.#chunk, this.#offset);
      if (length === "too-large") return length;
      if (length === undefined) {
        this.#offset += HEADER_LENGTH;
        continue;
      }
      if (length <= available) return this.#take(length);
      this.#header.set(this.#chunk.subarray(this.#offset, this.#offset + HEADER_LENGTH));
      this.#offset += HEADER_LENGTH;
      this.#startPartial(length);
    }
  }

  /** Reads a header: the length of the whole frame, or undefined when it is one to pass over. */
  #begin(bytes: Uint8Array, at: number): number | "too-large" | undefined {
    const length = u32At(bytes, at + 1);
    if (!isKnownType(bytes[at] ?? 0)) {
      this.skipped++;
      this.#toSkip = length;
      return undefined;
    }
    return length > this.limit ? "too-large" : HEADER_LENGTH + length;
  }

  #take(length: number): RawFrame {
    const bytes = this.#chunk.subarray(this.#offset, this.#offset + length);
    this.#offset += length;
    return rawFrame(bytes);
  }

  /** @returns whether the five bytes are together */
  #collectHeader(): boolean {
    while (this.#headerFilled < HEADER_LENGTH && this.#offset < this.#chunk.length) {
      this.#header[this.#headerFilled++] = this.#chunk[this.#offset++] ?? 0;
    }
    if (this.#headerFilled < HEADER_LENGTH) return false;
    this.#headerFilled = 0;
    return true;
  }

  #startPartial(length: number): void {
    this.#partial = new Uint8Array(length);
    this.#partial.set(this.#header);
    this.#filled = HEADER_LENGTH;
  }

  #fill(partial: Uint8Array): RawFrame | undefined {
    const end = Math.min(this.#chunk.length, this.#offset + partial.length - this.#filled);
    partial.set(this.#chunk.subarray(this.#offset, end), this.#filled);
    this.#filled += end - this.#offset;
    this.#offset = end;
    if (this.#filled < partial.length) return undefined;
    this.#partial = undefined;
    return rawFrame(partial);
  }

  /** @returns whether all of it is passed */
  #skip(): boolean {
    const passed = Math.min(this.#toSkip, this.#chunk.length - this.#offset);
    this.#toSkip -= passed;
    this.#offset += passed;
    return this.#toSkip === 0;
  }
}

const NOTHING = new Uint8Array(0);

function u32At(bytes: Uint8Array, at: number): number {
  const high = ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  return high * 0x1_0000 + (((bytes[at + 2] ?? 0) << 8) | (bytes[at + 3] ?? 0));
}

function rawFrame(bytes: Uint8Array): RawFrame {
  return { type: bytes[0] ?? 0, bytes, body: bytes.subarray(HEADER_LENGTH) };
}
