import type { Random } from "../../agent/src/base/random.ts";

/** Counts up, so that a failing test prints ids a person can follow. */
export function countingRandom(): Random {
  let next = 0;
  return { fill: (out) => out.fill(++next & 0xff) };
}

/** A repeatable stream of bytes from a seed (mulberry32). */
export function seededRandom(seed: number): Random {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  };
  return {
    fill(out) {
      for (let i = 0; i < out.length; i++) out[i] = next() & 0xff;
    },
  };
}
