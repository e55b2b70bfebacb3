/**
 * What passed for each peer since the engine last heard of it: its timers, path probes and counters live on this.
 *
 *     0  peer   1  packets sent   2  bytes sent   3  packets received   4  bytes received
 *     5  1: data was sent   6  1: data was received   7  1: the last one was sent
 */
import type { RingWriter } from "./ring.ts";
import { Kind } from "./messages.ts";

const FIELDS = 8;
/** Ours: as often as the engine needs for its probes (every 250 ms) to be in time, and no more. */
const REPORT_EVERY = 50;

export class Traffic {
  readonly #totals: Float64Array;
  readonly #reportedAt: Float64Array;
  readonly #isDirty: Uint8Array;
  readonly #dirty: number[] = [];
  readonly #ring: RingWriter;
  readonly #record: Float64Array;
  readonly #recordAt: number;

  /** `recordAt`: 64 bytes of the memory. */
  constructor(memory: ArrayBufferLike, ring: RingWriter, peers: number, recordAt: number) {
    this.#totals = new Float64Array(peers * FIELDS);
    this.#reportedAt = new Float64Array(peers).fill(Number.NEGATIVE_INFINITY);
    this.#isDirty = new Uint8Array(peers);
    this.#ring = ring;
    this.#record = new Float64Array(memory, recordAt, FIELDS);
    this.#recordAt = recordAt;
  }

  sent(peer: number, packets: number, bytes: number): void {
    const at = this.#note(peer);
    const totals = this.#totals;
    totals[at + 1] = (totals[at + 1] ?? 0) + packets;
    totals[at + 2] = (totals[at + 2] ?? 0) + bytes;
    totals[at + 5] = 1;
    totals[at + 7] = 1;
  }

  received(peer: number, bytes: number, isData: boolean): void {
    const at = this.#note(peer);
    const totals = this.#totals;
    totals[at + 3] = (totals[at + 3] ?? 0) + 1;
    totals[at + 4] = (totals[at + 4] ?? 0) + bytes;
    if (isData) totals[at + 6] = 1;
    totals[at + 7] = 0;
  }

  /** Packets sent to `peer` that the engine has not heard of. */
  unreported(peer: number): number {
    return this.#totals[peer * FIELDS + 1] ?? 0;
  }

  /** Reports what is due. Returns whether it reported anything. */
  report(now: number): boolean {
    let reported = false;
    for (let i = 0; i < this.#dirty.length;) {
      const peer = this.#dirty[i] ?? 0;
      if (now - (this.#reportedAt[peer] ?? 0) < REPORT_EVERY || !this.#push(peer)) {
        i++;
        continue;
      }
      this.#reportedAt[peer] = now;
      this.#isDirty[peer] = 0;
      const last = this.#dirty.pop() ?? 0;
      if (i < this.#dirty.length) this.#dirty[i] = last;
      reported = true;
    }
    return reported;
  }

  get isPending(): boolean {
    return this.#dirty.length > 0;
  }

  #note(peer: number): number {
    if (this.#isDirty[peer] === 0) {
      this.#isDirty[peer] = 1;
      this.#dirty.push(peer);
    }
    return peer * FIELDS;
  }

  #push(peer: number): boolean {
    const at = peer * FIELDS;
    this.#record[0] = peer;
    for (let i = 1; i < FIELDS; i++) this.#record[i] = this.#totals[at + i] ?? 0;
    if (!this.#ring.push(Kind.traffic, 0, 0, this.#recordAt, FIELDS * 8)) return false;
    this.#totals.fill(0, at, at + FIELDS);
    return true;
  }
}
