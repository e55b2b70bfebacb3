/** Costs that no load shows: a lookup among many peers, and what stays on the heap. */
import { Prefix } from "../agent/src/base/address.ts";
import { RouteTable, routeTableSize } from "../agent/src/dataplane/route-table.ts";

const LOOKUPS = 1_000_000;
const ROUNDS = 5;

/** Of the table that a thread asks for a flow's first packet; the median of some rounds. */
export function lookupNanos(peers: number): number {
  const memory = new ArrayBuffer(routeTableSize(peers) + peers * 4);
  const table = new RouteTable(memory, peers * 4, peers);
  const addresses = new Uint8Array(memory, 0, peers * 4);
  for (let i = 0; i < peers; i++) {
    const [high, middle, low] = [100 + (i >> 16), (i >> 8) & 255, i & 255];
    addresses.set([10, high, middle, low], i * 4);
    table.set(i, [Prefix.parse(`10.${high}.${middle}.${low}/32`)], []);
  }
  const rounds = Array.from({ length: ROUNDS }, () => {
    let found = 0;
    const began = performance.now();
    for (let i = 0, at = 0; i < LOOKUPS; i++) {
      // A stride that is no divisor: neither in order, nor the same again and again.
      at = (at + 7_919) % peers;
      if (table.lookup(at * 4, 4) === at) found++;
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
