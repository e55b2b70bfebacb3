/**
 * Which exit node `--exit-node auto` uses: the one whose relay is nearest, while it lives.
 *
 * The one in use is asked again and again for a sign of life. When it falls silent the others are asked, and the first
 * that answers takes its place; where nobody answers it is our own network that is down, and nothing is changed.
 */
import { after, earliest, type Instant, type Millis, millis, minutes, seconds, since } from "../base/time.ts";

export interface ExitCandidate {
  /** Any name that stays. */
  readonly id: string;
  /** Of the way to its home relay; undefined while it is not known. */
  readonly latency: Millis | undefined;
  /** As the coordination server says. */
  readonly online: boolean;
}

/** A sign of life is asked for this often, */
const ASK_EVERY: Millis = seconds(2);
/** and is late after this long; then it is asked again at once. */
const ANSWER_WITHIN: Millis = seconds(1);
/** So many late ones in a row are silence: five seconds after the last sign of life at the most. */
const MISSES = 3;
/** Who fell silent is not taken again for this long where there is another. */
const HOLD_DOWN: Millis = minutes(1);
/** Without a measurement from anywhere the first that answers is taken after this long. */
const WAIT_FOR_LATENCY: Millis = seconds(2);
/** A nearer one must be nearer by this much, by this factor and for this long, as for a home relay. */
const MIN_GAIN: Millis = millis(10);
const CLEARLY_NEARER = 2 / 3;
const NEARER_FOR: Millis = minutes(1);
/** Asked at once while one is sought. */
const ASKED_AT_ONCE = 4;

export class ExitChoice {
  readonly #silentSince = new Map<string, Instant>();
  readonly #probes: string[] = [];
  #candidates: readonly ExitCandidate[] = [];
  #current: string | undefined;
  /** When the one in use is asked next. */
  #askAt: Instant | undefined;
  /** Until when an answer is not late. */
  #lateAt: Instant | undefined;
  #misses = 0;
  #seeking = false;
  /** Where the next round of a search begins. */
  #round = 0;
  #waitingSince: Instant | undefined;
  #nearer: { readonly id: string; readonly since: Instant; asked: boolean } | undefined;

  /** undefined where there is none, or none is known to be near yet. */
  get current(): string | undefined {
    return this.#current;
  }

  /** Replaces what is known of all of them. */
  handleCandidates(candidates: readonly ExitCandidate[], now: Instant): void {
    const before = this.#find(this.#current);
    this.#candidates = candidates;
    const present = this.#find(this.#current);
    if (present === undefined) {
      this.#leave();
      this.#chooseFirst(now);
    } else if (!present.online && before?.online === true) {
      this.#misses = Math.max(this.#misses, MISSES - 1);
      this.#ask(now);
    }
    this.#compare(now);
  }

  /** A candidate gave a sign of life. */
  handleAnswer(id: string, now: Instant): void {
    if (this.#find(id) === undefined) return;
    this.#silentSince.delete(id);
    if (id === this.#current) {
      this.#misses = 0;
      this.#seeking = false;
      this.#lateAt = undefined;
      this.#askAt = after(now, ASK_EVERY);
    } else if (this.#seeking || (this.#nearer?.id === id && this.#nearer.asked)) {
      this.#use(id, now);
    }
  }

  handleTimeout(now: Instant): void {
    if (this.#lateAt !== undefined && now >= this.#lateAt) this.#handleLate(now);
    if (this.#askAt !== undefined && now >= this.#askAt) this.#ask(now);
    if (this.#current === undefined) this.#chooseFirst(now);
    this.#compare(now);
  }

  pollTimeout(): Instant | undefined {
    const at = earliest(this.#askAt, this.#lateAt);
    const waited = this.#waitingSince;
    const contends = this.#nearer?.asked === false ? after(this.#nearer.since, NEARER_FOR) : undefined;
    return earliest(
      earliest(at, contends),
      waited === undefined ? undefined : after(waited, WAIT_FOR_LATENCY),
    );
  }

  /** Whom to ask for a sign of life. */
  pollProbe(): string | undefined {
    return this.#probes.shift();
  }

  #chooseFirst(now: Instant): void {
    if (this.#candidates.length === 0 || this.#seeking) return;
    const [nearest] = this.#inOrder(now);
    if (nearest?.latency !== undefined) return this.#use(nearest.id, now);
    this.#waitingSince ??= now;
    if (since(this.#waitingSince, now) < WAIT_FOR_LATENCY) return;
    this.#waitingSince = undefined;
    this.#seek(now);
  }

  #ask(now: Instant): void {
    if (this.#current === undefined) return;
    this.#askAt = undefined;
    this.#lateAt = after(now, ANSWER_WITHIN);
    this.#probes.push(this.#current);
  }

  #handleLate(now: Instant): void {
    this.#lateAt = undefined;
    if (this.#seeking) return this.#seek(now);
    if (++this.#misses < MISSES) return this.#ask(now);
    if (this.#current !== undefined) this.#silentSince.set(this.#current, now);
    this.#round = 0;
    this.#seek(now);
  }

  /** Asks the next few, and the one in use, which may have come back. */
  #seek(now: Instant): void {
    this.#seeking = true;
    this.#askAt = undefined;
    this.#lateAt = after(now, ANSWER_WITHIN);
    const others = this.#inOrder(now).filter(({ id }) => id !== this.#current);
    const from = others.length === 0 ? 0 : this.#round % others.length;
    this.#round += ASKED_AT_ONCE;
    for (const { id } of others.slice(from, from + ASKED_AT_ONCE)) this.#probes.push(id);
    if (this.#current !== undefined) this.#probes.push(this.#current);
  }

  #use(id: string, now: Instant): void {
    this.#leave();
    this.#current = id;
    this.#ask(now);
  }

  #leave(): void {
    this.#current = undefined;
    this.#misses = 0;
    this.#seeking = false;
    this.#askAt = this.#lateAt = this.#nearer = this.#waitingSince = undefined;
  }

  /** Whether another one has been nearer for long enough; it must answer before it is used. */
  #compare(now: Instant): void {
    const current = this.#find(this.#current);
    const [best] = this.#inOrder(now);
    if (current === undefined || best === undefined || !isNearer(best, current)) {
      this.#nearer = undefined;
      return;
    }
    if (this.#nearer?.id !== best.id) this.#nearer = { id: best.id, since: now, asked: false };
    if (this.#nearer.asked || since(this.#nearer.since, now) < NEARER_FOR) return;
    this.#nearer.asked = true;
    this.#probes.push(best.id);
  }

  /** The nearest first; those that the server holds for offline, or that fell silent, last. */
  #inOrder(now: Instant): readonly ExitCandidate[] {
    const rank = ({ id, online }: ExitCandidate): number => {
      const silent = this.#silentSince.get(id);
      return (online ? 0 : 1) + (silent !== undefined && since(silent, now) < HOLD_DOWN ? 2 : 0);
    };
    const latency = (candidate: ExitCandidate): number => candidate.latency ?? Number.MAX_VALUE;
    return this.#candidates.toSorted(
      (a, b) => rank(a) - rank(b) || latency(a) - latency(b) || (a.id < b.id ? -1 : 1),
    );
  }

  #find(id: string | undefined): ExitCandidate | undefined {
    return this.#candidates.find((candidate) => candidate.id === id);
  }
}

function isNearer(one: ExitCandidate, other: ExitCandidate): boolean {
  if (one.id === other.id || one.latency === undefined || other.latency === undefined || !one.online)
    return false;
  return other.latency - one.latency >= MIN_GAIN && one.latency <= other.latency * CLEARLY_NEARER;
}
