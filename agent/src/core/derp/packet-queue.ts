/** Frames that wait for a slow reader. A full queue loses its oldest: the newest is worth most to the reader. */
export interface QueueLimit {
  readonly packets: number;
  readonly bytes: number;
}

export class PacketQueue {
  readonly #limit: QueueLimit;
  #frames: Uint8Array[] = [];
  #bytes = 0;

  constructor(limit: QueueLimit) {
    this.#limit = limit;
  }

  /** @returns how many of the oldest were dropped to make room, by number and bytes */
  push(frame: Uint8Array): Dropped | undefined {
    this.#frames.push(frame);
    this.#bytes += frame.length;
    if (this.#frames.length <= this.#limit.packets && this.#bytes <= this.#limit.bytes) return undefined;
    return this.#makeRoom();
  }

  get bytes(): number {
    return this.#bytes;
  }

  get size(): number {
    return this.#frames.length;
  }

  /** Moves all frames to the end of `out`. */
  drainTo(out: Uint8Array[]): void {
    if (this.#frames.length === 0) return;
    for (const frame of this.#frames) out.push(frame);
    this.#frames = [];
    this.#bytes = 0;
  }

  #makeRoom(): Dropped {
    const dropped = { packets: 0, bytes: 0 };
    while (
      this.#frames.length > 1 &&
      (this.#frames.length > this.#limit.packets || this.#bytes > this.#limit.bytes)
    ) {
      const length = this.#frames.shift()?.length ?? 0;
      this.#bytes -= length;
      dropped.packets++;
      dropped.bytes += length;
    }
    return dropped;
  }
}

export interface Dropped {
  readonly packets: number;
  readonly bytes: number;
}

/**
 * Makes one write of many frames. Neighbours in one buffer are joined without a copy; where all
 * are, as when a whole chunk goes to one reader, nothing is copied at all.
 */
export function joinFrames(frames: readonly Uint8Array[]): Uint8Array | undefined {
  const first = frames[0];
  if (first === undefined || frames.length === 1) return first;
  let end = first.byteOffset;
  let total = 0;
  let adjacent = true;
  for (const frame of frames) {
    adjacent &&= frame.buffer === first.buffer && frame.byteOffset === end;
    end = frame.byteOffset + frame.length;
    total += frame.length;
  }
  if (adjacent) return new Uint8Array(first.buffer, first.byteOffset, total);
  const out = new Uint8Array(total);
  let offset = 0;
  for (const frame of frames) {
    out.set(frame, offset);
    offset += frame.length;
  }
  return out;
}
