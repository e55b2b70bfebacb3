/**
 * The beginning and the end of Poly1305 (RFC 8439, section 2.5) on OpenSSL's own state, so that of its four calls only the
 * one that reads the packet is left. The state, in bytes:
 *
 *          x86-64                 arm64                  x86-64 with AVX-512 IFMA
 *     0    h, the sum: three words of 64 bits, or …      h: three limbs of 44 bits
 *          … five limbs of 26, where …
 *    20    … this word is set     (at 24)
 *    24    r                      (at 32)                r1 * 20, r2 * 20
 *    40                                                  r: three limbs of 44 bits
 *    64                                                  all ones: no powers of r are known
 *   192    what is not used here
 *   232    the function that reads whole blocks
 *
 * Between them the call keeps powers of r, when it needs any. What the OpenSSL of the node binary has must be compared with
 * that before it is used: see `poly1305-state.ts`. The function's address lies in this memory only from `begin` to `end`, as
 * with OpenSSL's own calls, and so do key and sum.
 */

const SECRET: usize = 192;
const BLOCKS: usize = 232;
const CLAMP_LOW: u64 = 0x0ffffffc0fffffff;
const CLAMP_HIGH: u64 = 0x0ffffffc0ffffffc;
const LIMB: u64 = 0xfffffffffff;

const X64: u32 = 0;
const IFMA: u32 = 2;

let state: usize = 0;
let kind: u32 = X64;
let blocks: u64 = 0;
/** The second half of the key. */
let pad0: u64 = 0;
let pad1: u64 = 0;

/** What `end` has found. */
export let mac0: u64 = 0;
export let mac1: u64 = 0;

/** `which`: the column above, from 0. */
export function use(at: usize, which: u32, blocksLow: u32, blocksHigh: u32): void {
  state = at;
  kind = which;
  blocks = <u64>blocksLow | (<u64>blocksHigh << 32);
}

/** The key: 32 bytes. */
export function begin(k0: u64, k1: u64, k2: u64, k3: u64): void {
  const zero = i64x2.splat(0);
  v128.store(state, zero);
  v128.store(state, zero, 16);
  const low = k0 & CLAMP_LOW;
  const high = k1 & CLAMP_HIGH;
  if (kind == IFMA) {
    const r1 = ((low >> 44) | (high << 20)) & LIMB;
    const r2 = high >> 24;
    store<u64>(state, r1 * 20, 24);
    store<u64>(state, r2 * 20, 32);
    store<u64>(state, low & LIMB, 40);
    store<u64>(state, r1, 48);
    store<u64>(state, r2, 56);
    store<u64>(state, -1, 64);
  } else {
    const r = state + (kind == X64 ? 24 : 32);
    store<u64>(r, low);
    store<u64>(r, high, 8);
  }
  store<u64>(state, blocks, BLOCKS);
  pad0 = k2;
  pad1 = k3;
}

/** Brings h below 2^130 - 5 and adds the second half of the key. Leaves nothing behind but the tag. */
export function end(): void {
  let h0: u64, h1: u64, h2: u64;
  if (kind == IFMA) {
    const l1 = load<u64>(state, 8), l2 = load<u64>(state, 16);
    const low = load<u64>(state);
    h0 = low + (l1 << 44);
    const middle = (l1 >> 20) + <u64>(h0 < low);
    h1 = middle + (l2 << 24);
    h2 = (l2 >> 40) + <u64>(h1 < middle);
  } else if (load<u32>(state + (kind == X64 ? 20 : 24)) != 0) {
    const l2: u64 = load<u32>(state, 8), l4: u64 = load<u32>(state, 16);
    const low: u64 = <u64>load<u32>(state) + (<u64>load<u32>(state, 4) << 26);
    h0 = low + (l2 << 52);
    const middle: u64 = (l2 >> 12) + (<u64>load<u32>(state, 12) << 14) + <u64>(h0 < low);
    h1 = middle + (l4 << 40);
    h2 = (l4 >> 24) + <u64>(h1 < middle);
  } else {
    h0 = load<u64>(state);
    h1 = load<u64>(state, 8);
    h2 = load<u32>(state, 16);
  }
  const over = (h2 >> 2) * 5;
  h0 += over;
  let carry = <u64>(h0 < over);
  h1 += carry;
  carry = <u64>(h1 < carry);
  h2 = (h2 & 3) + carry;
  const g0 = h0 + 5;
  carry = <u64>(g0 < 5);
  const g1 = h1 + carry;
  carry = <u64>(g1 < carry);
  const larger: u64 = 0 - ((h2 + carry) >> 2);
  mac0 = (h0 ^ ((h0 ^ g0) & larger)) + pad0;
  mac1 = (h1 ^ ((h1 ^ g1) & larger)) + pad1 + <u64>(mac0 < pad0);
  wipe();
}

function wipe(): void {
  const zero = i64x2.splat(0);
  for (let at = state; at < state + SECRET; at += 64) {
    v128.store(at, zero);
    v128.store(at, zero, 16);
    v128.store(at, zero, 32);
    v128.store(at, zero, 48);
  }
  store<u64>(state, 0, BLOCKS);
  pad0 = 0;
  pad1 = 0;
}
