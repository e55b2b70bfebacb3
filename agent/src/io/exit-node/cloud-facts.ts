/**
 * What the instance's metadata say of its interfaces: asked again and again, and kept while they do not answer.
 *
 * Half an answer is none, as devices would reach the networks that it lacks. It is asked again soon where none came, where what
 * came is of no use, and while an interface is new: the metadata know of one a little later than the kernel.
 */
import type { CloudInterface, Facts } from "../../core/exit/facts.ts";
import { type Metadata, readCloud, readMacs } from "./machine-facts.ts";

export interface CloudFactsOptions {
  readonly metadata: Metadata;
  /** Whether this machine is an instance, as far as can be seen without the metadata. */
  readonly isInstance: () => Promise<boolean>;
}

/** An Elastic IP can be given to another interface at any time. */
const ASK_EVERY_MS = 300_000;
/** The service allows far more: it is on the same host. */
const ASK_AGAIN_MS = 2_000;
/** After the interfaces have changed. */
const NEW_FOR_MS = 60_000;
const ASK_WHILE_NEW_MS = 10_000;

export class CloudFacts {
  readonly #options: CloudFactsOptions;
  #known: readonly CloudInterface[] | undefined;
  #failure: string | undefined;
  #isInstance = false;
  #misses = 0;
  #macs = "";
  #changedAt = -Infinity;
  #askedAt = -Infinity;
  #asking: Promise<boolean> | undefined;

  constructor(options: CloudFactsOptions) {
    this.#options = options;
  }

  get hasAsked(): boolean {
    return this.#askedAt > -Infinity;
  }

  /** What is known, and why nothing is. */
  get facts(): Pick<Facts, "cloud" | "metadataFailure"> {
    const isMissing = this.#known === undefined && this.#isInstance;
    return { cloud: this.#known, metadataFailure: isMissing ? this.#failure : undefined };
  }

  /** Of the machine's devices now; others than before are a reason to ask. */
  handleMacs(macs: readonly string[], at: number): void {
    const text = macs.join(" ");
    if (text === this.#macs) return;
    this.#macs = text;
    this.#changedAt = at;
  }

  /** Milliseconds until it is to be asked again. @param isUsable whether exit traffic could leave by what is known */
  dueIn(isUsable: boolean, at: number): number {
    return this.#askedAt < this.#changedAt ? 0 : Math.max(0, this.#askedAt + this.#pause(isUsable, at) - at);
  }

  /** Whether something else is known now. Never throws. */
  ask(at: number): Promise<boolean> {
    this.#asking ??= this.#ask(at).finally(() => (this.#asking = undefined));
    return this.#asking;
  }

  async #ask(at: number): Promise<boolean> {
    this.#askedAt = at;
    const before = JSON.stringify(this.facts);
    const { metadata } = this.#options;
    try {
      const macs = await readMacs(metadata);
      this.#isInstance = true;
      this.#known = await readCloud(metadata, macs);
      [this.#failure, this.#misses] = [undefined, 0];
    } catch (error) {
      this.#failure = error instanceof Error ? error.message : String(error);
      this.#isInstance ||= await this.#options.isInstance();
      this.#misses++;
    }
    return JSON.stringify(this.facts) !== before;
  }

  #pause(isUsable: boolean, at: number): number {
    if (this.#failure !== undefined && !this.#isInstance)
      return Math.min(ASK_AGAIN_MS * 2 ** (this.#misses - 1), ASK_EVERY_MS); // nobody may ever answer here
    if (this.#failure !== undefined || !isUsable) return ASK_AGAIN_MS;
    return at - this.#changedAt < NEW_FOR_MS ? ASK_WHILE_NEW_MS : ASK_EVERY_MS;
  }
}
