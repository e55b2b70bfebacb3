/**
 * When the health tags are written. Each write is one call of CreateTags with all of them, and calls are shared by the whole
 * account and region, so there are never more than 60 an hour from one run and typically 12:
 *
 *     a change       at once (within 2 s), if the last try was a minute ago; otherwise then
 *     no change      every 5 minutes, so that readers can tell a silent node from a dead one
 *     a failure      1 to 1.5 minutes later, then twice as late each time, up to 15 to 22 minutes
 *     the end        at once
 *
 * A pure machine: it is told states and results, and asked what to write and when to be woken. Waiting never holds up anything
 * else.
 */
import { type Random, randomFraction } from "../base/random.ts";
import { after, type Instant, type Millis, millis, minutes, seconds } from "../base/time.ts";
import { HEARTBEAT, type NodeState } from "./node-tags.ts";

/** Between two tries. With at most MAX_GAP and a path found lost within 4 s, a reversion shows within 90 s. */
const MIN_GAP: Millis = seconds(61);
const MAX_GAP: Millis = seconds(70);
/** A change waits this long, so that what changes with it goes along. */
const SETTLE: Millis = seconds(2);
const HEARTBEAT_JITTER: Millis = seconds(15);
const BACKOFF: Millis = minutes(1);
const LONGEST_BACKOFF: Millis = minutes(15);

/** The number of peers changes all the time where there are many: it is told with the next write. */
const UNHURRIED: ReadonlySet<string> = new Set<keyof NodeState>(["sallyport:peers"]);

export type TagOutcome<Fault extends string> =
  { readonly ok: true } | { readonly ok: false; readonly fault: Fault };

export type TagEvent<Fault extends string> =
  /** Told once for each kind of fault, not for each try. */
  { readonly kind: "failing"; readonly fault: Fault } | { readonly kind: "recovered" };

export class TagWriter<Fault extends string> {
  readonly #random: Random;
  readonly #events: TagEvent<Fault>[] = [];
  #current: NodeState | undefined;
  #written: NodeState | undefined;
  #inFlight: NodeState | undefined;
  #transmit: NodeState | undefined;
  /** What is told next is not written before. */
  #earliest: Instant | undefined;
  #changedAt: Instant | undefined;
  #heartbeatAt: Instant | undefined;
  #retryAt: Instant | undefined;
  #failures = 0;
  #told: Fault | undefined;
  #ended = false;

  /** @param notBefore of the first write: a former run may have written just now */
  constructor(random: Random, notBefore?: Instant) {
    this.#random = random;
    this.#earliest = notBefore;
  }

  /** How the node is now. To be told as often as one likes. */
  handleState(state: NodeState, now: Instant): void {
    if (this.#ended) return;
    this.#current = state;
    const differs = this.#written === undefined || isNews(this.#written, state);
    if (!differs) this.#changedAt = undefined;
    else this.#changedAt ??= after(now, this.#between(millis(0), SETTLE));
    this.handleTimeout(now);
  }

  /** How the write that `pollTransmit` gave out went. */
  handleResult(outcome: TagOutcome<Fault>, now: Instant): void {
    const sent = this.#inFlight;
    this.#inFlight = undefined;
    if (sent === undefined) return;
    if (outcome.ok) this.#handleWritten(sent, now);
    else this.#handleFault(outcome.fault, now);
    this.handleTimeout(now);
  }

  /** The last word: written at once, and nothing after it. */
  handleShutdown(last: NodeState): void {
    this.#ended = true;
    this.#transmit = last;
  }

  handleTimeout(now: Instant): void {
    const due = this.pollTimeout();
    if (due === undefined || now < due || this.#current === undefined) return;
    this.#transmit = this.#current;
    this.#earliest = after(now, this.#between(MIN_GAP, MAX_GAP));
  }

  /** When to be woken; undefined while there is nothing to write or an answer is awaited. */
  pollTimeout(): Instant | undefined {
    if (this.#ended || this.#current === undefined) return undefined;
    if (this.#inFlight !== undefined || this.#transmit !== undefined) return undefined;
    if (this.#retryAt !== undefined) return this.#retryAt;
    const wanted = this.#changedAt ?? this.#heartbeatAt;
    return wanted === undefined ? undefined : (Math.max(wanted, this.#earliest ?? wanted) as Instant);
  }

  /** What to write now. The result has to be told. */
  pollTransmit(): NodeState | undefined {
    const state = this.#transmit;
    this.#transmit = undefined;
    if (state !== undefined) this.#inFlight = state;
    return state;
  }

  pollEvent(): TagEvent<Fault> | undefined {
    return this.#events.shift();
  }

  #handleWritten(sent: NodeState, now: Instant): void {
    if (this.#told !== undefined) this.#events.push({ kind: "recovered" });
    [this.#written, this.#failures, this.#retryAt, this.#told] = [sent, 0, undefined, undefined];
    const changed = this.#current !== undefined && isNews(sent, this.#current);
    this.#changedAt = changed ? now : undefined;
    const jitter = this.#between(millis(0 - HEARTBEAT_JITTER), HEARTBEAT_JITTER);
    this.#heartbeatAt = after(now, millis(HEARTBEAT + jitter));
  }

  #handleFault(fault: Fault, now: Instant): void {
    if (this.#told !== fault) this.#events.push({ kind: "failing", fault });
    this.#told = fault;
    const wait = Math.min(BACKOFF * 2 ** this.#failures++, LONGEST_BACKOFF);
    this.#retryAt = after(now, this.#between(millis(Math.max(wait, MIN_GAP)), millis(wait * 1.5)));
  }

  #between(from: Millis, to: Millis): Millis {
    return millis(from + (to - from) * randomFraction(this.#random));
  }
}

function isNews(before: NodeState, after: NodeState): boolean {
  const keys = Object.keys(after) as (keyof NodeState)[];
  return keys.some((key) => !UNHURRIED.has(key) && before[key] !== after[key]);
}
