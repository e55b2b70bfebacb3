/**
 * How a replacement takes over from the node before it: the ingress interface, then the volume with the identity. Neither is
 * ever in two places: each is let go there before it is taken here.
 *
 *     interface: find ─▶ at another: detach ─▶ find … free: attach ─▶ find … here
 *     volume:    attach ─▶ in use: detach ─▶ attach … here
 *
 * The interface goes first, since the old node sees it leave, stops and unmounts the volume: only then does EC2 detach it in
 * order. A dead node is waited for in vain; then the detachment is forced.
 */
import { after, earliest, type Instant, type Millis, seconds, since } from "../../base/time.ts";

export type Part = "interface" | "volume";

export type TakeoverAction =
  | { readonly kind: "find"; readonly part: "interface" }
  | { readonly kind: "detach"; readonly part: Part; readonly force: boolean }
  | { readonly kind: "attach"; readonly part: Part }
  | { readonly kind: "heartbeat" };

/** Where the interface is. */
export type Whereabouts = "free" | "here" | "coming" | "elsewhere" | "leaving";

/** Why AWS refuses: `in-use` elsewhere, `gone` when there is nothing to detach, `later` for all that may pass. */
export type Refusal = "in-use" | "gone" | "later" | "denied" | "unknown";

export type TakeoverOutcome =
  { readonly kind: "taken" } | { readonly kind: "failed"; readonly part: Part; readonly why: string };

/** Between two questions about the same thing. */
const RETRY: Millis = seconds(2);
/** A node that is alive lets go at once, and unmounts within seconds. */
const FORCE_AFTER: Millis = seconds(45);
/** Well below the hook's timeout (600 s), which every heartbeat begins anew. */
const HEARTBEAT_EVERY: Millis = seconds(60);
/** Then a fresh machine is the better try. */
const GIVE_UP_AFTER: Millis = seconds(420);

export class Takeover {
  readonly #parts: Part[];
  readonly #startedAt: Instant;
  #partSince: Instant;
  #next: TakeoverAction | undefined;
  /** Something was asked for and has not been answered. */
  #busy = false;
  #notBefore: Instant;
  #heartbeatAt: Instant;
  #lastTrouble = "nothing was answered";
  #outcome: TakeoverOutcome | undefined;

  /** @param parts what there is to take, in this order */
  constructor(parts: readonly Part[], now: Instant) {
    this.#parts = [...parts];
    this.#startedAt = this.#partSince = this.#notBefore = this.#heartbeatAt = now;
    this.#begin(now);
  }

  get outcome(): TakeoverOutcome | undefined {
    return this.#outcome;
  }

  /** The next thing to ask AWS; its answer comes back by one of the handlers. */
  pollAction(now: Instant): TakeoverAction | undefined {
    if (this.#outcome !== undefined || this.#busy) return undefined;
    if (since(this.#startedAt, now) >= GIVE_UP_AFTER) {
      this.#fail(`it did not come within ${GIVE_UP_AFTER / 1000} s (${this.#lastTrouble})`);
      return undefined;
    }
    if (now >= this.#heartbeatAt) {
      this.#heartbeatAt = after(now, HEARTBEAT_EVERY);
      return { kind: "heartbeat" };
    }
    if (this.#next === undefined || now < this.#notBefore) return undefined;
    this.#busy = true;
    return this.#next;
  }

  pollTimeout(): Instant | undefined {
    if (this.#outcome !== undefined || this.#busy) return undefined;
    return earliest(earliest(this.#notBefore, this.#heartbeatAt), after(this.#startedAt, GIVE_UP_AFTER));
  }

  handleFound(where: Whereabouts, now: Instant): void {
    this.#busy = false;
    switch (where) {
      case "here":
        this.#take(now);
        break;
      case "free":
        this.#next = { kind: "attach", part: "interface" };
        break;
      case "elsewhere":
        this.#next = { kind: "detach", part: "interface", force: this.#isLate(now) };
        break;
      case "coming":
      case "leaving":
        if (where === "leaving" && this.#isLate(now)) {
          this.#next = { kind: "detach", part: "interface", force: true };
        } else this.#again({ kind: "find", part: "interface" }, now);
        this.#lastTrouble = `it is ${where}`;
        break;
    }
  }

  /** What was asked for is on its way. */
  handleDone({ kind, part }: Exclude<TakeoverAction, { kind: "heartbeat" }>, now: Instant): void {
    this.#busy = false;
    if (part === "interface") this.#again({ kind: "find", part }, now);
    else if (kind === "attach") this.#take(now);
    else this.#again({ kind: "attach", part }, now);
  }

  handleRefused(
    { kind, part }: Exclude<TakeoverAction, { kind: "heartbeat" }>,
    refusal: Refusal,
    said: string,
    now: Instant,
  ): void {
    this.#busy = false;
    this.#lastTrouble = said;
    if (refusal === "denied") return this.#fail(said);
    if (refusal === "unknown" && kind !== "detach") return this.#fail(said);
    if (part === "interface") this.#again({ kind: "find", part }, now);
    else if (kind === "attach" && refusal === "in-use") {
      this.#again({ kind: "detach", part, force: this.#isLate(now) }, now);
    } else this.#again({ kind: "attach", part }, now);
  }

  /** The volume's device is here already: this is a second run. */
  handleVolumeHere(now: Instant): void {
    const at = this.#parts.indexOf("volume");
    if (at > 0) this.#parts.splice(at, 1);
    else if (at === 0) this.#take(now);
  }

  #begin(now: Instant): void {
    const [part] = this.#parts;
    this.#partSince = now;
    if (part === undefined) this.#outcome = { kind: "taken" };
    else this.#next = part === "interface" ? { kind: "find", part } : { kind: "attach", part };
  }

  #take(now: Instant): void {
    this.#parts.shift();
    this.#next = undefined;
    this.#begin(now);
  }

  #again(action: TakeoverAction, now: Instant): void {
    this.#next = action;
    this.#notBefore = after(now, RETRY);
  }

  #isLate(now: Instant): boolean {
    return since(this.#partSince, now) >= FORCE_AFTER;
  }

  #fail(why: string): void {
    const [part = "interface"] = this.#parts;
    this.#outcome = { kind: "failed", part, why };
  }
}
