/**
 * The last packets sent by a direct path, kept until a pong shows that they arrived.
 *
 * When the path falls silent they are sent once more, by the relay. They are sealed with
 * their counters, so a receiver that got the first copy drops the second.
 */
import type { Instant } from "../base/time.ts";

/** Bounds what one peer may hold in memory. */
const MAX_PACKETS = 512;
const MAX_BYTES = 512 * 1024;

interface Sent {
  readonly at: Instant;
  readonly packet: Uint8Array;
}

export class Unproven {
  #sent: Sent[] = [];
  #bytes = 0;

  note(packet: Uint8Array, at: Instant): void {
    this.#sent.push({ at, packet });
    this.#bytes += packet.length;
    if (this.#sent.length > MAX_PACKETS || this.#bytes > MAX_BYTES) this.#drop(this.#sent.length >> 2);
  }

  /** The packets sent at `since` or later, in the order of sending. Forgets all. */
  take(since: Instant): readonly Uint8Array[] {
    const packets = this.#sent.filter(({ at }) => at >= since).map(({ packet }) => packet);
    this.clear();
    return packets;
  }

  /** Everything sent before `at` has arrived. */
  prove(at: Instant): void {
    const first = this.#sent.findIndex((sent) => sent.at >= at);
    this.#drop(first < 0 ? this.#sent.length : first);
  }

  clear(): void {
    this.#sent = [];
    this.#bytes = 0;
  }

  #drop(count: number): void {
    for (const { packet } of this.#sent.splice(0, Math.max(0, count))) this.#bytes -= packet.length;
  }
}
