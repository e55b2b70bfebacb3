/**
 * Whether the state of the node binary's Poly1305 is the one that `wasm/openssl-poly1305.as` knows, so that a message takes
 * one call instead of three. Other versions, processors and builds have others (with AVX-512 IFMA it counts in limbs of 44
 * bits): there nothing is taken for granted, and OpenSSL's own calls stay.
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

/** Of `struct poly1305_context` in OpenSSL's crypto/poly1305.h: two functions end it. */
const STATE_LENGTH = 248;
const PAD = 192;
const BLOCKS = 232;
const R_X64 = 24;
const R_ARM64 = 32;

const KEY_LENGTH = 32;
const TAG_LENGTH = 16;
/** Around where OpenSSL begins with vectors, odd and even numbers of blocks, and a long packet. */
const TRIED_BLOCKS = [1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 81, 90, 563];

/** Looks at it, tries it, and makes `packets` use it. Works in the areas where packets will be read. */
export function knowsPoly1305State(raw: RawChaCha, place: Place): boolean {
  const { layout, memory, packets, base } = place;
  if (raw.stateLength !== STATE_LENGTH) return false;
  const bytes = new Uint8Array(memory.buffer, layout.cipherState, STATE_LENGTH);
  const key = new Uint8Array(memory.buffer, layout.read, KEY_LENGTH);
  const states = [0x5a, 0xff].map((value) => {
    key.fill(value);
    bytes.fill(0);
    raw.poly1305Init(base + layout.cipherState, base + layout.read);
    return bytes.slice();
  });
  bytes.fill(0);
  const [first, second] = states;
  if (first === undefined || second === undefined) return false;
  const rAt = [R_X64, R_ARM64].find((at) => isAllKey(first, 0x5a, at) && isAllKey(second, 0xff, at));
  if (rAt === undefined || !sameFunctions(first, second)) return false;
  const words = new DataView(first.buffer);
  const [low, high] = [words.getUint32(BLOCKS, true), words.getUint32(BLOCKS + 4, true)];
  packets.useMac(layout.cipherState, rAt === R_ARM64 ? 1 : 0, low, high);
  return givesSameTags(raw, place);
}

/** Whether all before the functions is what is made of a key of the same bytes, and zero elsewhere. */
function isAllKey(state: Uint8Array, value: number, rAt: number): boolean {
  return state.subarray(0, BLOCKS).every((byte, i) => {
    if (i >= PAD && i < PAD + 16) return byte === value;
    const r = i - rAt;
    return byte === (r >= 0 && r < 16 ? value & clampOf(r) : 0);
  });
}

/** RFC 8439, section 2.5: which bits of r stay. */
function clampOf(index: number): number {
  if (index % 4 === 3) return 0x0f;
  return index % 4 === 0 && index > 0 ? 0xfc : 0xff;
}

function sameFunctions(a: Uint8Array, b: Uint8Array): boolean {
  const functions = a.subarray(BLOCKS);
  return functions.some((byte) => byte !== 0) && functions.every((byte, i) => byte === b[BLOCKS + i]);
}

/** Compares with OpenSSL's own beginning and end: keys at the edges and others, messages at the edges and others. */
function givesSameTags(raw: RawChaCha, { layout, memory, packets, base }: Place): boolean {
  const bytes = new Uint8Array(memory.buffer);
  const { cipherState: state, read: key, tag } = layout;
  const text = key + 64;
  const longest = Math.max(...TRIED_BLOCKS) * TAG_LENGTH;
  const tagOf = (end: () => void): Uint8Array => {
    end();
    return bytes.slice(tag, tag + TAG_LENGTH);
  };
  const works = [1, 2, 3, 4, 5, 6, 7, 8].every((round) => {
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
