import type { Instant } from "../../agent/src/base/time.ts";

interface Entry<T> {
  readonly at: Instant;
  readonly order: number;
  readonly item: T;
}

/** What happens next: a binary heap by time, and by the order of adding where times are equal. */
export class Queue<T> {
  readonly #heap: Entry<T>[] = [];
  #order = 0;

  get nextAt(): Instant | undefined {
    return this.#heap[0]?.at;
  }

  add(at: Instant, item: T): void {
    const heap = this.#heap;
    const entry = { at, order: this.#order++, item };
    let i = heap.length;
    heap.push(entry);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      const above = heap[parent];
      if (above === undefined || isBefore(above, entry)) break;
      heap[i] = above;
      i = parent;
    }
    heap[i] = entry;
  }

  /** The first entry, if it is due at `now`. */
  take(now: Instant): T | undefined {
    const heap = this.#heap;
    const [first] = heap;
    if (first === undefined || first.at > now) return undefined;
    const last = heap.pop();
    if (last !== undefined && heap.length > 0) this.#sink(last);
    return first.item;
  }

  #sink(entry: Entry<T>): void {
    const heap = this.#heap;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      const [left, right] = [heap[child], heap[child + 1]];
      if (left === undefined) break;
      const smaller = right !== undefined && isBefore(right, left) ? right : left;
      if (smaller === right) child++;
      if (isBefore(entry, smaller)) break;
      heap[i] = smaller;
      i = child;
    }
    heap[i] = entry;
  }
}

function isBefore<T>(a: Entry<T>, b: Entry<T>): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
