/**
 * ChaCha20 and Poly1305 (RFC 8439) in AssemblyScript: the way to seal where OpenSSL's own can not be reached.
 *
 * ChaCha20 makes four blocks at a time, one in each lane of sixteen vectors. Poly1305 works on limbs of 26 bits, two
 * blocks at a time: the even and the odd ones have a sum each, multiplied by the square of the key.
 */

// ChaCha20

const BLOCKS: u32 = 256;

let scratch: usize = 0;

/** `at`: 256 bytes to work in. */
export function init(at: usize): void {
  scratch = at;
}

@inline
function turn16(d: v128, a: v128): v128 {
  const x = v128.xor(d, a);
  return v128.shuffle<u8>(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
}

@inline
function turn12(b: v128, c: v128): v128 {
  const x = v128.xor(b, c);
  return v128.or(i32x4.shl(x, 12), i32x4.shr_u(x, 20));
}

@inline
function turn8(d: v128, a: v128): v128 {
  const x = v128.xor(d, a);
  return v128.shuffle<u8>(x, x, 3, 0, 1, 2, 7, 4, 5, 6, 11, 8, 9, 10, 15, 12, 13, 14);
}

@inline
function turn7(b: v128, c: v128): v128 {
  const x = v128.xor(b, c);
  return v128.or(i32x4.shl(x, 7), i32x4.shr_u(x, 25));
}

/**
 * XORs `length` bytes with the key stream, from block 0 on. `nonce`: 32-bit block number, which is not looked at, then
 * the 12 bytes.
 */
export function chacha20(out: usize, input: usize, length: u32, key: usize, nonce: usize): void {
  let block: u32 = 0;
  while (length >= BLOCKS) {
    fourBlocks(out, input, key, nonce, block);
    out += BLOCKS;
    input += BLOCKS;
    length -= BLOCKS;
    block += 4;
  }
  if (length == 0) return;
  memory.copy(scratch, input, length);
  fourBlocks(scratch, scratch, key, nonce, block);
  memory.copy(out, scratch, length);
}

function fourBlocks(out: usize, input: usize, key: usize, nonce: usize, block: u32): void {
  const k0 = v128.load_splat<u32>(key, 0);
  const k1 = v128.load_splat<u32>(key, 4);
  const k2 = v128.load_splat<u32>(key, 8);
  const k3 = v128.load_splat<u32>(key, 12);
  const k4 = v128.load_splat<u32>(key, 16);
  const k5 = v128.load_splat<u32>(key, 20);
  const k6 = v128.load_splat<u32>(key, 24);
  const k7 = v128.load_splat<u32>(key, 28);
  const counters = i32x4.add(i32x4.splat(block), i32x4(0, 1, 2, 3));
  const n0 = v128.load_splat<u32>(nonce, 4);
  const n1 = v128.load_splat<u32>(nonce, 8);
  const n2 = v128.load_splat<u32>(nonce, 12);
  let x0 = i32x4.splat(0x61707865), x1 = i32x4.splat(0x3320646e), x2 = i32x4.splat(0x79622d32), x3 = i32x4.splat(0x6b206574);
  let x4 = k0, x5 = k1, x6 = k2, x7 = k3, x8 = k4, x9 = k5, x10 = k6, x11 = k7;
  let x12 = counters, x13 = n0, x14 = n1, x15 = n2;
  for (let round = 0; round < 10; round++) {
    x0 = i32x4.add(x0, x4); x12 = turn16(x12, x0); x8 = i32x4.add(x8, x12); x4 = turn12(x4, x8);
    x0 = i32x4.add(x0, x4); x12 = turn8(x12, x0); x8 = i32x4.add(x8, x12); x4 = turn7(x4, x8);
    x1 = i32x4.add(x1, x5); x13 = turn16(x13, x1); x9 = i32x4.add(x9, x13); x5 = turn12(x5, x9);
    x1 = i32x4.add(x1, x5); x13 = turn8(x13, x1); x9 = i32x4.add(x9, x13); x5 = turn7(x5, x9);
    x2 = i32x4.add(x2, x6); x14 = turn16(x14, x2); x10 = i32x4.add(x10, x14); x6 = turn12(x6, x10);
    x2 = i32x4.add(x2, x6); x14 = turn8(x14, x2); x10 = i32x4.add(x10, x14); x6 = turn7(x6, x10);
    x3 = i32x4.add(x3, x7); x15 = turn16(x15, x3); x11 = i32x4.add(x11, x15); x7 = turn12(x7, x11);
    x3 = i32x4.add(x3, x7); x15 = turn8(x15, x3); x11 = i32x4.add(x11, x15); x7 = turn7(x7, x11);
    x0 = i32x4.add(x0, x5); x15 = turn16(x15, x0); x10 = i32x4.add(x10, x15); x5 = turn12(x5, x10);
    x0 = i32x4.add(x0, x5); x15 = turn8(x15, x0); x10 = i32x4.add(x10, x15); x5 = turn7(x5, x10);
    x1 = i32x4.add(x1, x6); x12 = turn16(x12, x1); x11 = i32x4.add(x11, x12); x6 = turn12(x6, x11);
    x1 = i32x4.add(x1, x6); x12 = turn8(x12, x1); x11 = i32x4.add(x11, x12); x6 = turn7(x6, x11);
    x2 = i32x4.add(x2, x7); x13 = turn16(x13, x2); x8 = i32x4.add(x8, x13); x7 = turn12(x7, x8);
    x2 = i32x4.add(x2, x7); x13 = turn8(x13, x2); x8 = i32x4.add(x8, x13); x7 = turn7(x7, x8);
    x3 = i32x4.add(x3, x4); x14 = turn16(x14, x3); x9 = i32x4.add(x9, x14); x4 = turn12(x4, x9);
    x3 = i32x4.add(x3, x4); x14 = turn8(x14, x3); x9 = i32x4.add(x9, x14); x4 = turn7(x4, x9);
  }
  x0 = i32x4.add(x0, i32x4.splat(0x61707865)); x1 = i32x4.add(x1, i32x4.splat(0x3320646e));
  x2 = i32x4.add(x2, i32x4.splat(0x79622d32)); x3 = i32x4.add(x3, i32x4.splat(0x6b206574));
  put(out, input, x0, x1, x2, x3);
  put(out + 16, input + 16, i32x4.add(x4, k0), i32x4.add(x5, k1), i32x4.add(x6, k2), i32x4.add(x7, k3));
  put(out + 32, input + 32, i32x4.add(x8, k4), i32x4.add(x9, k5), i32x4.add(x10, k6), i32x4.add(x11, k7));
  put(out + 48, input + 48, i32x4.add(x12, counters), i32x4.add(x13, n0), i32x4.add(x14, n1), i32x4.add(x15, n2));
}

/** Four words of each of the four blocks. */
@inline
function put(out: usize, input: usize, a: v128, b: v128, c: v128, d: v128): void {
  const ab = v128.shuffle<u32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<u32>(c, d, 0, 4, 1, 5);
  const ab2 = v128.shuffle<u32>(a, b, 2, 6, 3, 7);
  const cd2 = v128.shuffle<u32>(c, d, 2, 6, 3, 7);
  v128.store(out, v128.xor(v128.load(input), v128.shuffle<u64>(ab, cd, 0, 2)));
  v128.store(out, v128.xor(v128.load(input, 64), v128.shuffle<u64>(ab, cd, 1, 3)), 64);
  v128.store(out, v128.xor(v128.load(input, 128), v128.shuffle<u64>(ab2, cd2, 0, 2)), 128);
  v128.store(out, v128.xor(v128.load(input, 192), v128.shuffle<u64>(ab2, cd2, 1, 3)), 192);
}

// Poly1305

const LIMB: u64 = 0x3ffffff;
/** 2^128 in the topmost limb. */
const TOP: u64 = 1 << 24;

let r0: u64 = 0, r1: u64 = 0, r2: u64 = 0, r3: u64 = 0, r4: u64 = 0;
let h0: u64 = 0, h1: u64 = 0, h2: u64 = 0, h3: u64 = 0, h4: u64 = 0;

/** The tag, at `tag`, of the `length` bytes at `at`, a multiple of 16. `key`: 32 bytes. */
export function poly1305(key: usize, at: usize, length: u32, tag: usize): void {
  r0 = load<u32>(key) & 0x3ffffff;
  r1 = (load<u32>(key, 3) >> 2) & 0x3ffff03;
  r2 = (load<u32>(key, 6) >> 4) & 0x3ffc0ff;
  r3 = (load<u32>(key, 9) >> 6) & 0x3f03fff;
  r4 = (load<u32>(key, 12) >> 8) & 0x00fffff;
  h0 = 0;
  h1 = 0;
  h2 = 0;
  h3 = 0;
  h4 = 0;
  const end = at + length;
  if (length >= 64) at = pairs(at, end);
  while (at < end) {
    h0 += load<u32>(at) & LIMB;
    h1 += (load<u32>(at, 3) >> 2) & LIMB;
    h2 += (load<u32>(at, 6) >> 4) & LIMB;
    h3 += load<u32>(at, 9) >> 6;
    h4 += (load<u32>(at, 12) >> 8) | TOP;
    multiply();
    at += 16;
  }
  finish(key, tag);
}

/** h = h * r mod 2^130 - 5, with limbs that may be a little larger than 26 bits. */
function multiply(): void {
  const s1 = r1 * 5, s2 = r2 * 5, s3 = r3 * 5, s4 = r4 * 5;
  const d0 = h0 * r0 + h1 * s4 + h2 * s3 + h3 * s2 + h4 * s1;
  let d1 = h0 * r1 + h1 * r0 + h2 * s4 + h3 * s3 + h4 * s2;
  let d2 = h0 * r2 + h1 * r1 + h2 * r0 + h3 * s4 + h4 * s3;
  let d3 = h0 * r3 + h1 * r2 + h2 * r1 + h3 * r0 + h4 * s4;
  let d4 = h0 * r4 + h1 * r3 + h2 * r2 + h3 * r1 + h4 * r0;
  d1 += d0 >> 26;
  d2 += d1 >> 26;
  d3 += d2 >> 26;
  d4 += d3 >> 26;
  const low = (d0 & LIMB) + (d4 >> 26) * 5;
  h0 = low & LIMB;
  h1 = (d1 & LIMB) + (low >> 26);
  h2 = d2 & LIMB;
  h3 = d3 & LIMB;
  h4 = d4 & LIMB;
}

/** The low 32 bits of both numbers, side by side. */
@inline
function packed(x: v128): v128 {
  return v128.shuffle<u32>(x, x, 0, 2, 0, 2);
}

@inline
function times(x: v128, y: v128): v128 {
  return i64x2.extmul_low_i32x4_u(x, y);
}

/** Takes all pairs of blocks between `at` and `end`, leaves their sum in h, and returns where the rest begins. */
function pairs(at: usize, end: usize): usize {
  h0 = r0;
  h1 = r1;
  h2 = r2;
  h3 = r3;
  h4 = r4;
  multiply();
  let q0 = i32x4.splat(<u32>h0), q1 = i32x4.splat(<u32>h1), q2 = i32x4.splat(<u32>h2);
  let q3 = i32x4.splat(<u32>h3), q4 = i32x4.splat(<u32>h4);
  const five = i32x4.splat(5);
  let s1 = i32x4.mul(q1, five), s2 = i32x4.mul(q2, five), s3 = i32x4.mul(q3, five), s4 = i32x4.mul(q4, five);
  const limb = i64x2.splat(LIMB);
  const top = i64x2.splat(TOP);
  const zero = i64x2.splat(0);
  let a0 = zero, a1 = zero, a2 = zero, a3 = zero, a4 = zero;
  while (at + 32 <= end) {
    if (at + 64 > end) {
      // The last pair: the odd block is one power behind the even one.
      q0 = i32x4.replace_lane(q0, 1, <u32>r0);
      q1 = i32x4.replace_lane(q1, 1, <u32>r1);
      q2 = i32x4.replace_lane(q2, 1, <u32>r2);
      q3 = i32x4.replace_lane(q3, 1, <u32>r3);
      q4 = i32x4.replace_lane(q4, 1, <u32>r4);
      s1 = i32x4.mul(q1, five);
      s2 = i32x4.mul(q2, five);
      s3 = i32x4.mul(q3, five);
      s4 = i32x4.mul(q4, five);
    }
    const even = v128.load(at);
    const odd = v128.load(at, 16);
    const low = v128.shuffle<u64>(even, odd, 0, 2);
    const high = v128.shuffle<u64>(even, odd, 1, 3);
    const p0 = packed(i64x2.add(a0, v128.and(low, limb)));
    const p1 = packed(i64x2.add(a1, v128.and(i64x2.shr_u(low, 26), limb)));
    const p2 = packed(i64x2.add(a2, v128.and(v128.or(i64x2.shr_u(low, 52), i64x2.shl(high, 12)), limb)));
    const p3 = packed(i64x2.add(a3, v128.and(i64x2.shr_u(high, 14), limb)));
    const p4 = packed(i64x2.add(a4, v128.or(i64x2.shr_u(high, 40), top)));
    const d0 = sum5(times(p0, q0), times(p1, s4), times(p2, s3), times(p3, s2), times(p4, s1));
    let d1 = sum5(times(p0, q1), times(p1, q0), times(p2, s4), times(p3, s3), times(p4, s2));
    let d2 = sum5(times(p0, q2), times(p1, q1), times(p2, q0), times(p3, s4), times(p4, s3));
    let d3 = sum5(times(p0, q3), times(p1, q2), times(p2, q1), times(p3, q0), times(p4, s4));
    let d4 = sum5(times(p0, q4), times(p1, q3), times(p2, q2), times(p3, q1), times(p4, q0));
    d1 = i64x2.add(d1, i64x2.shr_u(d0, 26));
    d2 = i64x2.add(d2, i64x2.shr_u(d1, 26));
    d3 = i64x2.add(d3, i64x2.shr_u(d2, 26));
    d4 = i64x2.add(d4, i64x2.shr_u(d3, 26));
    const over = i64x2.shr_u(d4, 26);
    a0 = i64x2.add(v128.and(d0, limb), i64x2.add(over, i64x2.shl(over, 2)));
    a1 = i64x2.add(v128.and(d1, limb), i64x2.shr_u(a0, 26));
    a0 = v128.and(a0, limb);
    a2 = v128.and(d2, limb);
    a3 = v128.and(d3, limb);
    a4 = v128.and(d4, limb);
    at += 32;
  }
  h0 = both(a0);
  h1 = both(a1);
  h2 = both(a2);
  h3 = both(a3);
  h4 = both(a4);
  return at;
}

@inline
function sum5(a: v128, b: v128, c: v128, d: v128, e: v128): v128 {
  return i64x2.add(i64x2.add(i64x2.add(a, b), i64x2.add(c, d)), e);
}

@inline
function both(x: v128): u64 {
  return i64x2.extract_lane(x, 0) + i64x2.extract_lane(x, 1);
}

/** Brings h below 2^130 - 5, adds the second half of the key, and writes the tag. */
function finish(key: usize, tag: usize): void {
  carry();
  carry();
  const g0 = h0 + 5;
  const g1 = h1 + (g0 >> 26);
  const g2 = h2 + (g1 >> 26);
  const g3 = h3 + (g2 >> 26);
  const g4 = h4 + (g3 >> 26);
  const isLarger = g4 >> 26 != 0;
  const f0 = isLarger ? g0 & LIMB : h0;
  const f1 = isLarger ? g1 & LIMB : h1;
  const f2 = isLarger ? g2 & LIMB : h2;
  const f3 = isLarger ? g3 & LIMB : h3;
  const f4 = isLarger ? g4 & LIMB : h4;
  const pad = load<u64>(key, 16);
  const low = (f0 | (f1 << 26) | (f2 << 52)) + pad;
  const high = ((f2 >> 12) | (f3 << 14) | (f4 << 40)) + load<u64>(key, 24) + (low < pad ? 1 : 0);
  store<u64>(tag, low);
  store<u64>(tag, high, 8);
}

function carry(): void {
  h1 += h0 >> 26;
  h0 &= LIMB;
  h2 += h1 >> 26;
  h1 &= LIMB;
  h3 += h2 >> 26;
  h2 &= LIMB;
  h4 += h3 >> 26;
  h3 &= LIMB;
  h0 += (h4 >> 26) * 5;
  h4 &= LIMB;
}
