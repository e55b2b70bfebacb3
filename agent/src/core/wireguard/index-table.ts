/** Whom the 32-bit receiver index of a message names. Indices are random, so that they tell an observer nothing. */
import { viewOf } from "../../base/bytes.ts";
import { randomBytes, type Random } from "../../base/random.ts";

export class IndexTable<Owner> {
  readonly #random: Random;
  readonly #owners = new Map<number, Owner>();

  constructor(random: Random) {
    this.#random = random;
  }

  /** Gives `owner` an index that nobody has. */
  allocate(owner: Owner): number {
    let index = this.#draw();
    while (this.#owners.has(index)) index = (index + 1) >>> 0;
    this.#owners.set(index, owner);
    return index;
  }

  /** Passes an index on: from a handshake to the session it became. */
  assign(index: number, owner: Owner): void {
    this.#owners.set(index, owner);
  }

  find(index: number): Owner | undefined {
    return this.#owners.get(index);
  }

  release(index: number): void {
    this.#owners.delete(index);
  }

  #draw(): number {
    return viewOf(randomBytes(this.#random, 4)).getUint32(0);
  }
}
