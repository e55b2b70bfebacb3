/**
 * The frames of a map stream: a length and a body, JSON or one Zstandard frame of it.
 *
 *      0        4
 *     +--------+------------------------------------------+
 *     | length | JSON, or Zstandard frame (RFC 8878)      |     length is LITTLE-endian
 *     +--------+------------------------------------------+
 *
 * Decompression is passed in. To compress we write stored blocks only, which every decoder reads and no tables are needed for:
 *
 *      0             4      5               9        12
 *     +-------------+------+---------------+--------+-----------+     block header: length · 8 + last, little-endian
 *     | 28 B5 2F FD | 0xA0 | content size  | header | raw bytes | …   0xA0: single segment, 4-byte size, no checksum
 *     +-------------+------+---------------+--------+-----------+
 */
import { concat, viewOf } from "../../base/bytes.ts";

/** Far above any map (1,000 nodes take about 1 MiB); below what would fill a small machine's memory. */
export const MAX_MAP_FRAME = 64 * 1024 * 1024;

const LENGTH_SIZE = 4;
const ZSTD_MAGIC = Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd);
const SINGLE_SEGMENT = 0x20;
const SIZE_OF_4_BYTES = 0x80;
/** RFC 8878 section 3.1.1.2.4. */
const MAX_BLOCK = 128 * 1024;
const NOTHING = new Uint8Array(0);

export function encodeMapFrame(body: Uint8Array): Uint8Array {
  const length = new Uint8Array(LENGTH_SIZE);
  viewOf(length).setUint32(0, body.length, true);
  return concat(length, body);
}

/** Cuts the body of a map stream into frames, however the bytes arrive. */
export class MapFrameReader {
  readonly #parts: Uint8Array[] = [];
  #length = 0;
  #tooLong = false;

  push(bytes: Uint8Array): void {
    if (this.#tooLong || bytes.length === 0) return;
    this.#parts.push(bytes);
    this.#length += bytes.length;
  }

  /** The body of the next frame, or "too-long" which ends the stream. */
  poll(): Uint8Array | "too-long" | undefined {
    if (this.#tooLong) return "too-long";
    if (this.#length < LENGTH_SIZE) return undefined;
    if ((this.#parts[0]?.length ?? 0) < LENGTH_SIZE) this.#join();
    const size = viewOf(this.#parts[0] ?? NOTHING).getUint32(0, true);
    if (size > MAX_MAP_FRAME) {
      this.#tooLong = true;
      this.#parts.length = 0;
      return "too-long";
    }
    const end = LENGTH_SIZE + size;
    if (this.#length < end) return undefined;
    const all = this.#join();
    const rest = all.subarray(end);
    this.#parts.length = 0;
    if (rest.length > 0) this.#parts.push(rest);
    this.#length = rest.length;
    return all.subarray(LENGTH_SIZE, end);
  }

  #join(): Uint8Array {
    const all = this.#parts.length === 1 ? (this.#parts[0] ?? NOTHING) : concat(...this.#parts);
    this.#parts.length = 0;
    this.#parts.push(all);
    return all;
  }
}

/** Whether a frame's body is compressed; JSON begins with a brace. */
export function isZstd(body: Uint8Array): boolean {
  return ZSTD_MAGIC.every((byte, i) => body[i] === byte);
}

/** Wraps bytes into a valid Zstandard frame without compressing them. */
export function zstdStored(content: Uint8Array): Uint8Array {
  const parts: Uint8Array[] = [ZSTD_MAGIC, zstdSize(content.length)];
  let at = 0;
  do {
    const block = content.subarray(at, at + MAX_BLOCK);
    at += MAX_BLOCK;
    const header = block.length * 8 + (at >= content.length ? 1 : 0);
    parts.push(Uint8Array.of(header & 0xff, (header >> 8) & 0xff, header >> 16), block);
  } while (at < content.length);
  return concat(...parts);
}

/** The frame header descriptor and the content size: one byte up to 255, otherwise four. */
function zstdSize(length: number): Uint8Array {
  if (length < 256) return Uint8Array.of(SINGLE_SEGMENT, length);
  const out = new Uint8Array(5);
  out[0] = SINGLE_SEGMENT | SIZE_OF_4_BYTES;
  viewOf(out).setUint32(1, length, true);
  return out;
}
