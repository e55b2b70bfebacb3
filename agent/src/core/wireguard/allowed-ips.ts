/**
 * Which peer may send from which address: cryptokey routing in the receive direction (the paper, section 2).
 *
 * The longest prefix decides, so that an exit node, allowed to send from everywhere, can not speak
 * as another peer. Peers that name the very same prefix (two routers of one subnet) share it.
 */
import type { Prefix } from "../../base/address.ts";
import { viewOf } from "../../base/bytes.ts";
import { PrefixTable } from "../ip/prefix-table.ts";

const V4 = { headerLength: 20, totalLengthAt: 2, sourceAt: 12 } as const;
const V6 = { headerLength: 40, payloadLengthAt: 4, sourceAt: 8 } as const;

export class AllowedIps<Peer> {
  readonly #table = new PrefixTable<Set<Peer>>();
  readonly #owners = new Map<string, Set<Peer>>();
  readonly #prefixes = new Map<Peer, readonly Prefix[]>();

  /** Replaces what `peer` may send from. */
  set(peer: Peer, prefixes: readonly Prefix[]): void {
    this.delete(peer);
    this.#prefixes.set(peer, prefixes);
    for (const prefix of prefixes) this.#ownersOf(prefix).add(peer);
  }

  delete(peer: Peer): void {
    for (const prefix of this.#prefixes.get(peer) ?? []) {
      const owners = this.#ownersOf(prefix);
      owners.delete(peer);
      if (owners.size > 0) continue;
      this.#owners.delete(prefix.text);
      this.#table.delete(prefix);
    }
    this.#prefixes.delete(peer);
  }

  /** Whether the source address of `packet`, from `packetLength`, belongs to `peer`. */
  mayHaveSent(peer: Peer, packet: Uint8Array): boolean {
    const owners = isV4(packet)
      ? this.#table.lookupBytes(packet, V4.sourceAt, 4)
      : this.#table.lookupBytes(packet, V6.sourceAt, 16);
    return owners?.has(peer) ?? false;
  }

  #ownersOf(prefix: Prefix): Set<Peer> {
    const known = this.#owners.get(prefix.text);
    if (known !== undefined) return known;
    const owners = new Set<Peer>();
    this.#owners.set(prefix.text, owners);
    this.#table.set(prefix, owners);
    return owners;
  }
}

/** The length that the IP header of `bytes` states, without padding. `undefined` when there is no such packet inside. */
export function packetLength(bytes: Uint8Array): number | undefined {
  const version = (bytes[0] ?? 0) >> 4;
  const { headerLength } = version === 4 ? V4 : V6;
  if ((version !== 4 && version !== 6) || bytes.length < headerLength) return undefined;
  const view = viewOf(bytes);
  const length =
    version === 4 ? view.getUint16(V4.totalLengthAt) : headerLength + view.getUint16(V6.payloadLengthAt);
  return length < headerLength || length > bytes.length ? undefined : length;
}

function isV4(packet: Uint8Array): boolean {
  return (packet[0] ?? 0) >> 4 === 4;
}
