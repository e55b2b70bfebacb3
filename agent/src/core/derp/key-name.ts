/**
 * Short names for the keys inside packet frames.
 *
 * A relay looks a key up for every packet; spelling it in hex each time would cost more than
 * all the rest. The name is the 32 bytes themselves as 16 UTF-16 units: exact, and quick to hash.
 */
import { NodePublic, KEY_LENGTH } from "../../base/keys.ts";

export function keyName(bytes: Uint8Array, at: number): string {
  let name = "";
  for (let i = at; i < at + KEY_LENGTH; i += 2) {
    name += String.fromCharCode(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  }
  return name;
}

export function sameKey(key: Uint8Array, bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < KEY_LENGTH; i++) if (key[i] !== bytes[at + i]) return false;
  return true;
}

/** Gives the same object for the same key, so that a stream of packets from one peer makes one. */
export class KeyCache {
  readonly #keys = new Map<string, NodePublic>();
  #last: { readonly bytes: Uint8Array; readonly key: NodePublic } | undefined;

  at(bytes: Uint8Array, offset: number): NodePublic {
    if (this.#last !== undefined && sameKey(this.#last.bytes, bytes, offset)) return this.#last.key;
    const key = this.#find(bytes, offset);
    this.#last = { bytes: key.bytes, key };
    return key;
  }

  #find(bytes: Uint8Array, offset: number): NodePublic {
    const name = keyName(bytes, offset);
    const known = this.#keys.get(name);
    if (known !== undefined) return known;
    if (this.#keys.size >= MAX_KEYS) this.#keys.clear();
    const key = NodePublic.fromBytes(bytes.subarray(offset, offset + KEY_LENGTH));
    this.#keys.set(name, key);
    return key;
  }
}

/** More peers than one device talks to at a time; a relay that invents senders can not fill the memory. */
const MAX_KEYS = 4096;
