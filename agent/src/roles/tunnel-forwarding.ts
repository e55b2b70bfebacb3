/** A tunnel that carries the traffic of others: begins and ends forwarding as it is offered, and says what is wrong with it. */
import { basename, dirname, join } from "node:path";
import { type Ip, type IpPort, Prefix } from "../base/address.ts";
import type { Log } from "../base/log.ts";
import type { AcceptingFirewall } from "../core/exit/foreign-firewalls.ts";
import { defaultNames, type ForwardingSettings } from "../core/exit/facts.ts";
import type { HealthProblem } from "../health/reasons.ts";
import type { ForwardingJson } from "../health/status-json.ts";
import { Imds } from "../io/aws/imds.ts";
import { looksLikeEc2 } from "../io/aws/instance-tags.ts";
import { Forwarding } from "../io/exit-node/forwarding.ts";
import type { ForwardingChoices } from "../io/exit-node/forwarding-choices.ts";
import type { PacketDevice } from "../io/tun.ts";

/** Where a relay on the same machine answers STUN (RFC 8489 section 14): by the interface that it was asked at. */
const STUN_PORT = 3478;

export interface TunnelForwardingOptions {
  readonly device: Pick<PacketDevice, "kind" | "name">;
  /** The tunnel's UDP port. */
  readonly port: number;
  readonly choices: Partial<ForwardingChoices>;
  /** The daemon's own socket: what must be taken back after a kill is noted beside it. */
  readonly socket: string;
  readonly log: Log;
  /** Routes have changed: what was seen of our addresses before may no longer be so. And `isReady` may have. */
  readonly onRouted: () => void;
}

/** What this node offers to others. */
export interface Offer {
  readonly exitNode: boolean;
  /** Such as "10.1.0.0/16". */
  readonly routes: readonly string[];
  /** Firewalls of others that are told to accept it. */
  readonly accept: readonly AcceptingFirewall[];
}

export class TunnelForwarding {
  readonly #options: TunnelForwardingOptions;
  #offer = "";
  /** The offer that the kernel is told of. */
  #used = "";
  #servers: readonly IpPort[] = [];
  #seen: IpPort | undefined;
  #forwarding: Forwarding | undefined;
  #changing: Promise<void> = Promise.resolve();

  constructor(options: TunnelForwardingOptions) {
    this.#options = options;
  }

  /** Never throws: what the kernel refuses is one of the `problems`. */
  offer(offer: Offer): Promise<void> {
    if (this.#isNoKernels) return Promise.resolve();
    const text = JSON.stringify(offer);
    if (text === this.#offer) return this.#changing;
    this.#offer = text;
    return this.#change(async () => {
      await this.#forwarding?.close();
      const forwarding = new Forwarding(this.#forwardingOptions(offer));
      const offers = offer.exitNode || offer.routes.length > 0;
      this.#forwarding = offers ? forwarding : undefined;
      this.#used = text;
      // A run that was killed may have forwarded.
      if (!offers) return await forwarding.sweep();
      await forwarding.start();
      forwarding.handleSeenPort(this.#seen);
      forwarding.handleStunServers(this.#servers);
    });
  }

  handleStunServers(servers: readonly IpPort[]): void {
    this.#servers = servers;
    this.#forwarding?.handleStunServers(servers);
  }

  /** Where a STUN server saw the tunnel's port. */
  handleSeenPort(seen: IpPort | undefined): void {
    this.#seen = seen;
    this.#forwarding?.handleSeenPort(seen);
  }

  /**
   * Whether others' traffic may come out of the tunnel. A kernel that forwards on its own (as Docker has it) would take it
   * out as it is, and go on so with each of its flows.
   */
  get isReady(): boolean {
    if (this.#isNoKernels) return true;
    return this.#used === this.#offer && this.#forwarding?.isApplied !== false;
  }

  /** What the cloud maps to the interface that the tunnel comes in by. */
  get publicAddresses(): readonly Ip[] {
    return this.#forwarding?.plan?.layout?.ingress.publicAddresses ?? [];
  }

  /** `undefined` where nothing is forwarded. */
  status(): ForwardingJson | undefined {
    const forwarding = this.#forwarding;
    if (forwarding === undefined) return undefined;
    const { layout } = forwarding.plan ?? {};
    const { egress, ingress, proven } = forwarding.proof;
    return {
      Open: forwarding.isOpen,
      Egress: layout?.egress ?? "",
      Ingress: layout?.ingress.device ?? "",
      SeenEgress: egress?.text ?? "",
      SeenIngress: ingress?.text ?? "",
      Proven: proven,
      Reasons: forwarding.reasons().map(({ code }) => code),
      Tuning: forwarding.tuned.map(({ what: What, was: Was, is: Is, why: Why }) => ({ What, Was, Is, Why })),
    };
  }

  problems(): readonly HealthProblem[] {
    return (this.#forwarding?.reasons() ?? []).map(({ code: reason, text }) => ({ reason, text }));
  }

  /** Takes back all that the kernel was told. */
  async close(): Promise<void> {
    const closing = this.#forwarding?.close();
    await this.#change(async () => {
      await closing;
      await this.#forwarding?.close();
    });
  }

  /** Nothing that comes out of the tunnel is forwarded. */
  get #isNoKernels(): boolean {
    return this.#options.device.kind === "memory" || process.platform !== "linux";
  }

  #change(act: () => Promise<void>): Promise<void> {
    this.#changing = this.#changing.then(act);
    return this.#changing;
  }

  #forwardingOptions(offer: Offer) {
    const { socket, log, choices } = this.#options;
    return {
      settings: this.#settings(offer),
      recordPath: join(dirname(socket), `${basename(socket, ".sock")}-forwarding.json`),
      metadata: new Imds(),
      isInstance: () => looksLikeEc2(),
      egressAddresses: choices.egressAddresses ?? [],
      accept: offer.accept,
      onApplied: this.#options.onRouted,
      log,
    };
  }

  #settings({ exitNode, routes }: Offer): ForwardingSettings {
    const { device, port, choices, log } = this.#options;
    const uid = process.getuid?.() ?? 0;
    if (choices.controlByIngress === true && uid === 0) {
      log.warn("control-by-ingress", {
        why: "forwarded packets count as root's, so it needs a user of its own",
      });
    }
    return {
      tunnel: device.name,
      port,
      otherPorts: [STUN_PORT],
      exit: exitNode,
      advertised: routes.map((text) => Prefix.parse(text)).filter(({ isDefault }) => !isDefault),
      mode: choices.egressMode ?? "auto",
      ipv6: choices.ipv6Exit ?? "block",
      ingressInterface: choices.ingressInterface,
      egressInterface: choices.egressInterface,
      ingressUid: choices.controlByIngress === true && uid !== 0 ? uid : undefined,
      names: { ...defaultNames, ...(choices.nftTable === undefined ? {} : { nftTable: choices.nftTable }) },
    };
  }
}
