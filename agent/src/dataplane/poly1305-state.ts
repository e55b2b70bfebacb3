/**
 * Whether the state of the node binary's Poly1305 is one that `wasm/openssl-poly1305.as` knows, so that a message takes one
 * call instead of three. Other versions, processors and builds have others: there nothing is taken for granted, and OpenSSL's
 * own calls stay.
 */
import type { RawChaCha } from "../io/ffi/openssl.ts";
import type { Layout, Packets, SharedMemory } from "./memory.ts";

interface Place {
  readonly memory: SharedMemory;
  readonly layout: Layout;
  readonly packets: Packets;
  /** Of offset 0. */
  readonly base: number;
}

/** Of `struct poly1305_context` in OpenSSL's crypto/poly1305.h. */
const STATE_LENGTH = 248;
/** The second half of the key, which ours keeps elsewhere. */
const PAD = [192, 208] as const;
/** The function that reads, and behind it the one that ends, which ours does not need. */
const BLOCKS = 232;
const END = 240;
const KINDS = [0, 1, 2];

const KEY_LENGTH = 32;
const TAG_LENGTH = 16;
/** Keys and messages at the edges, and others; see `fill`. */
const ROUNDS = [1, 2, 3, 4, 5, 6, 7, 8];
/** Around where OpenSSL begins with vectors, odd and even numbers of blocks, and a long packet. */
const TRIED_BLOCKS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 81, 90, 563];

/** Looks at it, tries it, and makes `packets` use it. Works in the areas where packets will be read. */
export function knowsPoly1305State(raw: RawChaCha, place: Place): boolean {
  return kindOfPoly1305State(raw, place) !== undefined && givesSameTags(raw, place);
}

/** Which state it is by its beginning alone, as numbered in `openssl-poly1305.as`; `packets` uses it then. */
export function kindOfPoly1305State(raw: RawChaCha, place: Place): number | undefined {
  if (raw.stateLength !== STATE_LENGTH) return undefined;
  const { layout, memory, packets, base } = place;
  const { cipherState: at, read: key } = layout;
  const state = new Uint8Array(memory.buffer, at, STATE_LENGTH);
  const words = new DataView(memory.buffer, at, STATE_LENGTH);
  const begunBy = (begin: () => void): Uint8Array => {
    state.fill(0);
    begin();
    const begun = state.slice();
    state.fill(0);
    begun.fill(0, ...PAD);
    return begun.fill(0, END);
  };
  return KINDS.find((kind) =>
    ROUNDS.every((round) => {
      fill(new Uint8Array(memory.buffer, key, KEY_LENGTH), round);
      let [low, high] = [0, 0];
      const theirs = begunBy(() => {
        raw.poly1305Init(base + at, base + key);
        [low, high] = [words.getUint32(BLOCKS, true), words.getUint32(BLOCKS + 4, true)];
      });
      // Where it is another one for another key, the states differ.
      if (round === ROUNDS[0]) packets.useMac(at, kind, low, high);
      const ours = begunBy(() => packets.openMac(key));
      return low !== 0 && ours.every((byte, i) => byte === theirs[i]);
    }),
  );
}

/** Compares with OpenSSL's own beginning and end. */
function givesSameTags(raw: RawChaCha, { layout, memory, packets, base }: Place): boolean {
  const bytes = new Uint8Array(memory.buffer);
  const { cipherState: state, read: key, tag } = layout;
  const text = key + 64;
  const longest = Math.max(...TRIED_BLOCKS) * TAG_LENGTH;
  const tagOf = (end: () => void): Uint8Array => {
    end();
    return bytes.slice(tag, tag + TAG_LENGTH);
  };
  const works = ROUNDS.every((round) => {
    fill(bytes.subarray(key, key + KEY_LENGTH), round);
    fill(bytes.subarray(text, text + longest), round % 3 === 1 ? 1 : round);
    return TRIED_BLOCKS.every((blocks) => {
      const length = blocks * TAG_LENGTH;
      const theirs = tagOf(() => {
        raw.poly1305Init(base + state, base + key);
        raw.poly1305Update(base + state, base + text, length);
        raw.poly1305Final(base + state, base + tag);
      });
      const ours = tagOf(() => {
        packets.openMac(key);
        raw.poly1305Update(base + state, base + text, length);
        packets.closeMac(tag);
      });
      return ours.every((byte, i) => byte === theirs[i]);
    });
  });
  bytes.fill(0, key, text + longest);
  return works;
}

/** All ones, all zeroes, a single one; then bytes without a pattern (xorshift, G. Marsaglia). */
function fill(bytes: Uint8Array, round: number): void {
  let x = 0x9e3779b9 ^ round;
  for (let i = 0; i < bytes.length; i++) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes[i] = round === 1 ? 0xff : round === 2 ? 0 : round === 3 ? Number(i === 0) : x;
  }
}
