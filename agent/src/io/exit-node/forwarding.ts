/**
 * Carries the traffic of others: keeps the kernel's state as the planner wants it for as long as it runs.
 *
 * Whoever else changes routes, rules, the packet filter or forwarding is overruled within a second. Where the way out is not
 * the right one, exit traffic is dropped and `reasons` says why.
 */
import type { Ip, IpPort } from "../../base/address.ts";
import type { Log } from "../../base/log.ts";
import type { Facts, ForwardingSettings } from "../../core/exit/facts.ts";
import {
  type AcceptingFirewall,
  blockedForwarding,
  type ForeignBlock,
} from "../../core/exit/foreign-firewalls.ts";
import { isProven, judgeProof, type Seen } from "../../core/exit/proof.ts";
import { type ForwardingPlan, planForwarding } from "../../core/exit/plan.ts";
import type { ExitReason } from "../../core/exit/reasons.ts";
import { type KernelWatch, watchKernel } from "../kernel-watch/watch.ts";
import { run } from "./command.ts";
import { probeEgress } from "./egress-probe.ts";
import { ForwardAccept } from "./forward-accept.ts";
import { KernelState } from "./kernel-state.ts";
import { type Tuned, Tuning } from "./tuning.ts";
import { CloudFacts } from "./cloud-facts.ts";
import { type Metadata, readFacts } from "./machine-facts.ts";

export interface ForwardingOptions {
  readonly settings: ForwardingSettings;
  /** Of the file that says what to take back, below /run. */
  readonly recordPath: string;
  /** @default none: this is no instance of a cloud */
  readonly metadata?: Metadata | undefined;
  /** Whether it is one, as far as can be seen without the metadata. @default no */
  readonly isInstance?: () => Promise<boolean>;
  /** Addresses that the internet may see exit traffic come from. @default whatever the interface has */
  readonly egressAddresses?: readonly Ip[];
  /** Firewalls of others that are told to accept what is forwarded. @default none */
  readonly accept?: readonly AcceptingFirewall[];
  /** The kernel was told something else, or `isApplied` has changed. */
  readonly onApplied?: () => void;
  readonly log: Log;
}

/** Changes come in bursts, and what we set ourselves is heard as well. */
const SETTLE_MS = 100;
/** Even where the kernel tells us every change. */
const LOOK_EVERY_MS = 30_000;
/** While something is wrong: what mends it may be none of what we hear of. */
const LOOK_AGAIN_MS = 3_000;
/** Where it does not. */
const LOOK_OFTEN_MS = 1_000;
/** The way out was right; it may change with the cloud's routes, of which we do not hear. */
const PROVE_EVERY_MS = 60_000;
/** Until it is right. */
const PROVE_AGAIN_MS = 5_000;

export class Forwarding {
  readonly #options: ForwardingOptions;
  readonly #kernel: KernelState;
  readonly #tuning: Tuning;
  readonly #accept: ForwardAccept;
  /** For which devices they have been told. */
  #acceptedFor: string | undefined;
  #watch: KernelWatch | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** When it looks next, by `performance.now()`. */
  #lookAt = Infinity;
  #plan: ForwardingPlan | undefined;
  readonly #cloud: CloudFacts | undefined;
  #cloudTimer: NodeJS.Timeout | undefined;
  #failure: ExitReason | undefined;
  #routing: readonly ExitReason[] = [];
  #blocked: readonly ForeignBlock[] = [];
  #servers: readonly IpPort[] = [];
  #seen: Seen = { egress: undefined, ingress: undefined };
  #asked = false;
  #proving = false;
  #proofTimer: NodeJS.Timeout | undefined;
  #looking: Promise<void> = Promise.resolve();
  #begun = false;
  #closed = false;
  #stop: () => void = () => {};
  /** Whatever takes long is not waited for any more then. */
  readonly #stopped = new Promise<undefined>((resolve) => {
    this.#stop = () => resolve(undefined);
  });

  constructor(options: ForwardingOptions) {
    this.#options = options;
    this.#kernel = new KernelState(options.recordPath, options.settings.names);
    this.#tuning = new Tuning(options.log);
    const { metadata, isInstance = () => Promise.resolve(false) } = options;
    this.#cloud = metadata && new CloudFacts({ metadata, isInstance });
    const { names, tunnel } = options.settings;
    this.#accept = new ForwardAccept({
      ...{ firewalls: options.accept ?? [], name: names.nftTable, tunnel, log: options.log },
      recordPath: `${options.recordPath}.accept`,
    });
  }

  /** Never throws: what can not be done is one of the `reasons`. */
  async start(): Promise<void> {
    this.#begun = true;
    await this.sweep();
    if (this.#closed) return;
    this.#watch = watchKernel(() => this.#lookIn(SETTLE_MS));
    await this.look();
    void this.prove();
  }

  /** What keeps exit traffic from flowing as it should. */
  reasons(): readonly ExitReason[] {
    const failure = this.#failure === undefined ? [] : [this.#failure];
    return [...failure, ...(this.#plan?.reasons ?? []), ...this.#blocked];
  }

  /** Whether exit traffic is let through. */
  get isOpen(): boolean {
    return this.#plan?.open === true && this.#failure === undefined;
  }

  /** Whether the kernel does as it is told with what comes out of the tunnel; where not, it may forward it as it is. */
  get isApplied(): boolean {
    return this.#plan !== undefined && this.#failure === undefined;
  }

  /** What was set so that forwarding costs less. */
  get tuned(): readonly Tuned[] {
    return this.#tuning.tuned;
  }

  get plan(): ForwardingPlan | undefined {
    return this.#plan;
  }

  /** What the internet sees of both ways, and whether that is proven to be right. */
  get proof(): Seen & { readonly proven: boolean } {
    const layout = this.#plan?.layout;
    const { egressAddresses = [] } = this.#options;
    return { ...this.#seen, proven: layout !== undefined && isProven(layout, egressAddresses, this.#seen) };
  }

  /** Whom to ask what they see; of the relay map. */
  handleStunServers(servers: readonly IpPort[]): void {
    const text = servers.join(" ");
    if (text === this.#servers.join(" ")) return;
    this.#servers = servers;
    void this.prove();
  }

  /** Where a STUN server saw the tunnel's port. */
  handleSeenPort(ingress: IpPort | undefined): void {
    if (ingress === undefined || ingress.text === this.#seen.ingress?.text) return;
    this.#seen = { ...this.#seen, ingress };
    if (this.#hasStarted) void this.look();
  }

  /** Asks by the egress what the internet sees, now and again and again. */
  async prove(): Promise<void> {
    const from = this.#plan?.layout?.egressV4;
    if (
      !this.#hasStarted ||
      this.#closed ||
      this.#proving ||
      !this.#options.settings.exit ||
      this.#servers.length === 0
    )
      return;
    this.#proving = true;
    clearTimeout(this.#proofTimer);
    const egress =
      from === undefined ? undefined : await Promise.race([probeEgress(from, this.#servers), this.#stopped]);
    this.#proving = false;
    if (this.#closed) return;
    const isNews = !this.#asked || egress?.text !== this.#seen.egress?.text;
    this.#asked = true;
    this.#seen = { ...this.#seen, egress };
    if (isNews) {
      this.#options.log.info("egress-seen", { address: egress?.text ?? "nothing" });
      await this.look();
    }
    if (this.#closed) return;
    this.#proofTimer = setTimeout(
      () => void this.prove(),
      this.proof.proven ? PROVE_EVERY_MS : PROVE_AGAIN_MS,
    );
    this.#proofTimer.unref();
  }

  /** Until then the kernel may hold what a former run left. */
  get #hasStarted(): boolean {
    return this.#watch !== undefined;
  }

  /** Compares what is with what should be, and makes it so. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#lookOnce());
    return this.#looking;
  }

  /** Takes back what a run that was killed has left, and forwards nothing. */
  async sweep(): Promise<void> {
    await this.#kernel.begin().catch((error: unknown) => this.#note(error));
    await this.#accept.begin();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#stop();
    for (const timer of [this.#timer, this.#proofTimer, this.#cloudTimer]) clearTimeout(timer);
    this.#watch?.close();
    await this.#looking;
    await this.#tuning.restore();
    await this.#accept.close();
    if (this.#begun) await this.#kernel.close().catch((error: unknown) => this.#note(error));
  }

  async #lookOnce(): Promise<void> {
    if (this.#closed) return;
    this.#forgetTimer();
    const [plan, isApplied] = [this.#plan, this.isApplied];
    try {
      await this.#reconcile();
      this.#failure = undefined;
    } catch (error) {
      this.#note(error);
      // What was changed before it failed is heard, too, and is no reason to try again at once.
      this.#forgetTimer();
    }
    this.#askCloudInTime();
    if (plan !== this.#plan || isApplied !== this.isApplied) this.#options.onApplied?.();
    const quiet = this.reasons().length === 0 ? LOOK_EVERY_MS : LOOK_AGAIN_MS;
    this.#lookIn(this.#watch?.isLive === true ? quiet : LOOK_OFTEN_MS);
  }

  async #reconcile(): Promise<void> {
    const facts = await this.#facts();
    if (this.#closed) return;
    await this.#use(planForwarding(facts, this.#options.settings, this.#known()));
    const plan = this.#plan;
    if (plan === undefined) return;
    const routing = await this.#kernel.failed(plan);
    const isNews = JSON.stringify(routing) !== JSON.stringify(this.#routing);
    this.#routing = routing;
    if (isNews) await this.#use(planForwarding(facts, this.#options.settings, this.#known()));
    await this.#open(plan);
    const { layout } = plan;
    if (layout !== undefined) {
      await this.#tuning.apply(this.#options.settings.tunnel, [layout.egress, layout.ingress.device]);
    }
  }

  async #use(plan: ForwardingPlan): Promise<void> {
    const { log } = this.#options;
    if (JSON.stringify(plan) !== JSON.stringify(this.#plan)) {
      await this.#kernel.apply(plan);
      this.#plan = plan;
      const { open, layout, reasons } = plan;
      const egress = layout?.egress;
      log.info("forwarding", { open, egress, ingress: layout?.ingress.device, reasons: codes(reasons) });
    } else if (await this.#kernel.isChanged()) {
      await this.#kernel.restore(plan);
      log.warn("forwarding-restored", {
        why: "somebody changed routes, rules, forwarding or the packet filter",
      });
    }
  }

  /** Looks whether others drop what is forwarded, and tells those that are to accept it. */
  async #open(plan: ForwardingPlan): Promise<void> {
    const asked = this.#options.accept ?? [];
    this.#blocked = await this.#foreignBlocks(plan);
    const devices = [...new Set(plan.ways.filter(({ isV4 }) => isV4).map(({ device }) => device))];
    if (asked.length === 0 || devices.length === 0) return;
    const isBlocked = this.#blocked.some(
      ({ firewall }) => firewall !== undefined && asked.includes(firewall),
    );
    // What is not seen to be blocked may be so by iptables-legacy.
    const text = devices.join(" ");
    if (!isBlocked && this.#acceptedFor === text) return;
    await this.#accept.apply(devices);
    this.#acceptedFor = text;
    this.#blocked = await this.#foreignBlocks(plan);
  }

  async #foreignBlocks({ ways }: ForwardingPlan): Promise<readonly ForeignBlock[]> {
    const { tunnel, names } = this.#options.settings;
    if (ways.length === 0) return [];
    const { code, stdout } = await run("nft", ["--json", "list", "ruleset"]);
    if (code !== 0) return [];
    return blockedForwarding(stdout, { tunnel, ways, ownTable: names.nftTable });
  }

  #known(): readonly ExitReason[] {
    const layout = this.#plan?.layout;
    if (layout === undefined || !this.#asked) return this.#routing;
    return [...this.#routing, ...judgeProof(layout, this.#options.egressAddresses ?? [], this.#seen)];
  }

  async #facts(): Promise<Facts> {
    const facts = await readFacts(this.#options.settings.advertised);
    const cloud = this.#cloud;
    if (cloud === undefined) return { ...facts, cloud: undefined, metadataFailure: undefined };
    const at = performance.now();
    cloud.handleMacs(
      facts.links.map(({ mac }) => mac),
      at,
    );
    if (!cloud.hasAsked) await Promise.race([cloud.ask(at), this.#stopped]);
    return { ...facts, ...cloud.facts };
  }

  /** Beside the looks, as an answer may take seconds. */
  #askCloudInTime(): void {
    const cloud = this.#cloud;
    clearTimeout(this.#cloudTimer);
    if (this.#closed || cloud === undefined) return;
    const isUsable = this.#plan?.layout !== undefined;
    const ask = async (): Promise<void> => {
      if (await cloud.ask(performance.now())) this.#lookIn(0);
      else this.#askCloudInTime();
    };
    this.#cloudTimer = setTimeout(() => void ask(), cloud.dueIn(isUsable, performance.now()));
    this.#cloudTimer.unref();
  }

  /** Or sooner, where that is due already. */
  #lookIn(ms: number): void {
    const at = performance.now() + ms;
    if (this.#closed || at >= this.#lookAt) return;
    this.#forgetTimer();
    this.#lookAt = at;
    this.#timer = setTimeout(() => void this.look(), ms);
    this.#timer.unref();
  }

  #forgetTimer(): void {
    clearTimeout(this.#timer);
    this.#lookAt = Infinity;
  }

  #note(error: unknown): void {
    const text = error instanceof Error ? error.message : String(error);
    if (this.#failure?.text !== text) this.#options.log.error("forwarding-failed", { message: text });
    this.#failure = { code: "forwarding-failed", text, closesExit: true };
  }
}

function codes(reasons: readonly ExitReason[]): string {
  return reasons.map(({ code, text }) => `${code}: ${text}`).join(" ");
}
