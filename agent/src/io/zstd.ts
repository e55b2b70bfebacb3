import { decompress } from "fzstd";
import * as zlib from "node:zlib";

type Decompress = (bytes: Uint8Array, options: { maxOutputLength: number }) => Uint8Array;

/** Node has it from 22.15 on. */
const builtIn = (zlib as { readonly zstdDecompressSync?: Decompress }).zstdDecompressSync;

/** Decompresses one Zstandard frame. `undefined` when it is damaged or holds more than `limit` bytes. */
export function zstdDecompress(bytes: Uint8Array, limit: number): Uint8Array | undefined {
  try {
    if (builtIn !== undefined) return builtIn(bytes, { maxOutputLength: limit });
    const content = decompress(bytes);
    return content.length > limit ? undefined : content;
  } catch {
    return undefined;
  }
}
