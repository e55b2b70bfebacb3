/** Where randomness comes from. Tests pass a seeded one. */
export interface Random {
  fill(out: Uint8Array): void;
}

export function randomBytes(random: Random, length: number): Uint8Array {
  const out = new Uint8Array(length);
  random.fill(out);
  return out;
}

/** A number in [0, 1) with 32 bits of randomness: for jitter, never for keys. */
export function randomFraction(random: Random): number {
  const [a = 0, b = 0, c = 0, d = 0] = randomBytes(random, 4);
  return (a * 0x1000000 + b * 0x10000 + c * 0x100 + d) / 0x1_0000_0000;
}
