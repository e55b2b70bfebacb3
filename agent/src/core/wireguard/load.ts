/**
 * When handshakes come faster than we can answer them, and what each source may then still cost us.
 *
 * WireGuard calls itself under load when its queue of handshakes is an eighth full. A pure machine
 * has no queue, so it imagines one that is emptied at the pace of a small machine.
 */
import type { Path } from "../path/path.ts";
import { pathText } from "../path/path.ts";
import { after, type Instant, type Millis, seconds } from "../../base/time.ts";

/** wireguard-go: 1,024 slots, under load from an eighth on, and for a second after. */
const QUEUE_SLOTS = 1024;
export const LOAD_THRESHOLD: number = QUEUE_SLOTS / 8;
const LOAD_LINGERS: Millis = seconds(1);
/** Ours: four X25519 an answer, at 1 ms each with the portable primitives on a slow core. */
const ANSWERS_PER_SECOND = 250;

/** wireguard-go: 20 handshakes a second from one source, 5 at once. */
const TOKENS_PER_SECOND = 20;
export const TOKEN_BURST = 5;
/** Ours: how many sources to remember before the idle ones are forgotten. */
const SOURCES_KEPT = 1024;

/** Decides whether we are under load. */
export class HandshakeLoad {
  #queued = 0;
  #at: Instant | undefined;
  #until: Instant | undefined;

  /** Counts one handshake message. Returns whether we are under load. */
  arrive(now: Instant): boolean {
    const drained = this.#at === undefined ? 0 : ((now - this.#at) / 1000) * ANSWERS_PER_SECOND;
    this.#queued = Math.min(QUEUE_SLOTS, Math.max(0, this.#queued - drained) + 1);
    this.#at = now;
    if (this.#queued >= LOAD_THRESHOLD) this.#until = after(now, LOAD_LINGERS);
    return this.#until !== undefined && now < this.#until;
  }
}

interface Bucket {
  tokens: number;
  at: Instant;
}

/** A token bucket for each source. */
export class SourceLimiter {
  readonly #buckets = new Map<string, Bucket>();

  /** Whether `source` may have one more handshake answered. */
  allow(source: string, now: Instant): boolean {
    const bucket = this.#bucket(source, now);
    bucket.tokens = Math.min(TOKEN_BURST, bucket.tokens + ((now - bucket.at) / 1000) * TOKENS_PER_SECOND);
    bucket.at = now;
    if (bucket.tokens < 1) return false;
    bucket.tokens -= 1;
    return true;
  }

  get size(): number {
    return this.#buckets.size;
  }

  #bucket(source: string, now: Instant): Bucket {
    const known = this.#buckets.get(source);
    if (known !== undefined) return known;
    if (this.#buckets.size >= SOURCES_KEPT) this.#forgetIdle(now);
    const bucket = { tokens: TOKEN_BURST, at: now };
    this.#buckets.set(source, bucket);
    return bucket;
  }

  /** A bucket that is full again says no more than none. The others make room from the oldest on. */
  #forgetIdle(now: Instant): void {
    const refill = (TOKEN_BURST / TOKENS_PER_SECOND) * 1000;
    for (const [source, bucket] of this.#buckets) {
      if (now - bucket.at >= refill || this.#buckets.size >= SOURCES_KEPT) this.#buckets.delete(source);
    }
  }
}

/** Whom the limiter counts: an IPv4 address, the /64 of an IPv6 address, or a relay. */
export function limitedSource(from: Path): string {
  if (from.kind === "relay") return pathText(from);
  const { ip } = from.to;
  return ip.isV4 ? ip.text : ip.bytes.subarray(0, 8).join(".");
}
