/** Costs that no load shows: a lookup among many peers, and what stays on the heap. */
import { Prefix } from "../agent/src/base/address.ts";
import { PrefixTable } from "../agent/src/core/ip/prefix-table.ts";

const LOOKUPS = 1_000_000;
const ROUNDS = 5;

/** Of the table that the data plane asks for a flow's first packet; the median of some rounds. */
export function lookupNanos(peers: number): number {
  const table = new PrefixTable<number>();
  const addresses = new Uint8Array(peers * 4);
  for (let i = 0; i < peers; i++) {
    addresses.set([10, 100 + (i >> 16), (i >> 8) & 255, i & 255], i * 4);
    table.set(Prefix.parse(`10.${100 + (i >> 16)}.${(i >> 8) & 255}.${i & 255}/32`), i);
  }
  const rounds = Array.from({ length: ROUNDS }, () => {
    let found = 0;
    const began = performance.now();
    for (let i = 0, at = 0; i < LOOKUPS; i++) {
      // A stride that is no divisor: neither in order, nor the same again and again.
      at = (at + 7_919) % peers;
      if (table.lookupBytes(addresses, at * 4, 4) !== undefined) found++;
    }
    if (found !== LOOKUPS) throw new Error("a peer was not found");
    return ((performance.now() - began) * 1e6) / LOOKUPS;
  });
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1] ?? NaN;
}

/** MB, from what Node said with `--trace-gc`: of each of its threads, after its last collection. */
export function heapAfterCollection(lines: readonly string[]): number {
  const heaps = new Map<string, number>();
  for (const line of lines) {
    const [, thread, after] = /^\[\d+:(0x[0-9a-f]+)\].* -> ([\d.]+) \(/.exec(line) ?? [];
    if (thread !== undefined) heaps.set(thread, Number(after));
  }
  return [...heaps.values()].reduce((total, heap) => total + heap, 0);
}
