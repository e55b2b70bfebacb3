/**
 * How the node of a cell holds what it has taken, and lets go of it: when a replacement takes the interface away, and when its
 * instance is terminated.
 *
 * A replaced node leaves quietly: its identity goes on elsewhere. One that is taken down for good, with a group that wants no
 * instance any more, logs out first, so that no stale device stays in the network.
 */
export interface HoldingFacts {
  /** What the metadata say under autoscaling/target-lifecycle-state; `undefined` while they do not answer. */
  readonly target: string | undefined;
  /** The ingress interface is attached here; `undefined` while the metadata do not answer. */
  readonly hasInterface: boolean | undefined;
}

export type HoldingAction =
  /** How many instances the group wants; answered by `handleDesired`. */
  | { readonly kind: "ask-desired" }
  /** Give up the registration in the network. */
  | { readonly kind: "logout" }
  /** Stop the agent and unmount the volume. */
  | { readonly kind: "let-go" }
  /** Detach interface and volume, for whoever comes next. */
  | { readonly kind: "release" }
  /** The group may end the instance. */
  | { readonly kind: "complete" };

/** The metadata show a new attachment late, and may fail to answer once. */
const GONE_AFTER = 3;

export class Holding {
  readonly #hasPart: boolean;
  #had = false;
  #missed = 0;
  #stopped = false;
  #ending = false;
  readonly #actions: HoldingAction[] = [];

  /** @param takesInterface whether there is an interface at all that moves with the node */
  constructor(takesInterface: boolean) {
    this.#hasPart = takesInterface;
  }

  /** Everything is said and done: the instance ends. */
  get isOver(): boolean {
    return this.#ending && this.#actions.length === 0;
  }

  handleFacts({ target, hasInterface }: HoldingFacts): void {
    if (this.#ending) return;
    if (hasInterface === true) {
      this.#had = true;
      this.#missed = 0;
    } else if (hasInterface === false && this.#had) this.#missed++;
    if (target === "Terminated") return this.#end();
    if (this.#hasPart && !this.#stopped && this.#missed >= GONE_AFTER) this.#letGo();
  }

  /** @param desired `undefined` where the group can not be asked: then it is taken for a replacement */
  handleDesired(desired: number | undefined): void {
    if (desired === 0) this.#actions.push({ kind: "logout" });
    this.#letGo();
    this.#actions.push({ kind: "release" }, { kind: "complete" });
  }

  pollAction(): HoldingAction | undefined {
    return this.#actions.shift();
  }

  #end(): void {
    this.#ending = true;
    // Who has taken the interface is this node now: logging out would be in its name.
    const replaced = this.#stopped || (this.#hasPart && this.#missed > 0);
    if (!replaced) {
      this.#actions.push({ kind: "ask-desired" });
      return;
    }
    if (!this.#stopped) this.#letGo();
    this.#actions.push({ kind: "complete" });
  }

  #letGo(): void {
    this.#stopped = true;
    this.#actions.push({ kind: "let-go" });
  }
}
