/**
 * Longest-prefix match: which value belongs to an address (routes, allowed IPs, filter sources).
 *
 * A path-compressed binary trie for each family: a lookup visits at most one node for each
 * nested prefix or fork on the way, so a few hundred peers cost about ten comparisons.
 */
import type { Ip, Prefix } from "../../base/address.ts";

export class PrefixTable<T> {
  #v4: Node<T> | undefined;
  #v6: Node<T> | undefined;

  /** Replaces the value of an equal prefix. */
  set(prefix: Prefix, value: T): void {
    const leaf: Node<T> = { bytes: prefix.ip.bytes, bits: prefix.bits, entry: { value }, children: [] };
    if (prefix.ip.isV4) this.#v4 = insert(this.#v4, leaf);
    else this.#v6 = insert(this.#v6, leaf);
  }

  /** Does nothing where the very prefix is not there. */
  delete(prefix: Prefix): void {
    if (prefix.ip.isV4) this.#v4 = remove(this.#v4, prefix);
    else this.#v6 = remove(this.#v6, prefix);
  }

  /** The value of the very prefix. */
  get(prefix: Prefix): T | undefined {
    let node = prefix.ip.isV4 ? this.#v4 : this.#v6;
    while (node !== undefined && node.bits < prefix.bits) {
      node = node.children[bitAt(prefix.ip.bytes, 0, node.bits)];
    }
    if (node?.bits !== prefix.bits) return undefined;
    return commonBits(node.bytes, prefix.ip.bytes, 0, node.bits) === node.bits
      ? node.entry?.value
      : undefined;
  }

  /** The value of the longest prefix that holds `ip`. */
  lookup(ip: Ip): T | undefined {
    return this.lookupBytes(ip.bytes, 0, ip.isV4 ? 4 : 16);
  }

  /** The same for an address inside a packet, without making an object of it. */
  lookupBytes(bytes: Uint8Array, offset: number, length: 4 | 16): T | undefined {
    let node = length === 4 ? this.#v4 : this.#v6;
    let best: Entry<T> | undefined;
    while (node !== undefined && commonBits(node.bytes, bytes, offset, node.bits) === node.bits) {
      best = node.entry ?? best;
      if (node.bits === length * 8) break;
      node = node.children[bitAt(bytes, offset, node.bits)];
    }
    return best?.value;
  }
}

/** Boxed, so that a table may hold undefined and a fork is told from a prefix. */
interface Entry<T> {
  readonly value: T;
}

interface Node<T> {
  readonly bytes: Uint8Array;
  readonly bits: number;
  /** undefined at a fork that is no prefix itself. */
  readonly entry: Entry<T> | undefined;
  /** By the first bit after `bits`. */
  readonly children: readonly (Node<T> | undefined)[];
}

function insert<T>(node: Node<T> | undefined, leaf: Node<T>): Node<T> {
  if (node === undefined) return leaf;
  const common = commonBits(node.bytes, leaf.bytes, 0, Math.min(node.bits, leaf.bits));
  if (common < node.bits) {
    const above: Node<T> =
      common === leaf.bits ? leaf : { bytes: leaf.bytes, bits: common, entry: undefined, children: [] };
    const withNode = withChild(above, node);
    return above === leaf ? withNode : withChild(withNode, leaf);
  }
  if (leaf.bits === node.bits) return { ...node, entry: leaf.entry };
  return withChild(node, insert(node.children[bitAt(leaf.bytes, 0, node.bits)], leaf));
}

function remove<T>(node: Node<T> | undefined, prefix: Prefix): Node<T> | undefined {
  if (node === undefined || node.bits > prefix.bits) return node;
  if (commonBits(node.bytes, prefix.ip.bytes, 0, node.bits) < node.bits) return node;
  if (node.bits === prefix.bits) return pruned({ ...node, entry: undefined });
  const side = bitAt(prefix.ip.bytes, 0, node.bits);
  const child = remove(node.children[side], prefix);
  const children = side === 0 ? [child, node.children[1]] : [node.children[0], child];
  return pruned({ ...node, children });
}

/** A node without a value stays only where two ways part. */
function pruned<T>(node: Node<T>): Node<T> | undefined {
  const [left, right] = node.children;
  if (node.entry !== undefined || (left !== undefined && right !== undefined)) return node;
  return left ?? right;
}

function withChild<T>(node: Node<T>, child: Node<T>): Node<T> {
  const [left, right] = node.children;
  const children = bitAt(child.bytes, 0, node.bits) === 0 ? [child, right] : [left, child];
  return { ...node, children };
}

/** How many of the first `limit` bits are equal; `b` is read from `offset` on. */
function commonBits(a: Uint8Array, b: Uint8Array, offset: number, limit: number): number {
  for (let i = 0; i * 8 < limit; i++) {
    const difference = (a[i] ?? 0) ^ (b[offset + i] ?? 0);
    if (difference !== 0) return Math.min(limit, i * 8 + Math.clz32(difference) - 24);
  }
  return limit;
}

function bitAt(bytes: Uint8Array, offset: number, bit: number): number {
  return ((bytes[offset + (bit >> 3)] ?? 0) >> (7 - (bit & 7))) & 1;
}
