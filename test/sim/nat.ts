/**
 * A NAT as RFC 4787 describes one: what picks the outside port (mapping), what may come back
 * in (filtering), and when it forgets (expiry).
 */
import { type Ip, IpPort } from "../../agent/src/base/address.ts";
import { type Instant, type Millis, seconds, since } from "../../agent/src/base/time.ts";

export interface NatBehaviour {
  readonly mapping: "endpoint-independent" | "endpoint-dependent";
  readonly filtering: "open" | "address" | "address-and-port";
  readonly expiry: Millis;
}

export const easyNat: NatBehaviour = {
  mapping: "endpoint-independent",
  filtering: "address-and-port",
  expiry: seconds(120),
};
export const hardNat: NatBehaviour = {
  mapping: "endpoint-dependent",
  filtering: "address-and-port",
  expiry: seconds(120),
};

interface Mapping {
  readonly inside: IpPort;
  readonly outside: IpPort;
  readonly allowed: Map<string, Instant>;
  usedAt: Instant;
}

export class Nat {
  readonly outsideIp: Ip;
  readonly #behaviour: NatBehaviour;
  readonly #byInside = new Map<string, Mapping>();
  readonly #byOutside = new Map<string, Mapping>();
  #nextPort = 20_000;

  constructor(outsideIp: Ip, behaviour: NatBehaviour) {
    this.outsideIp = outsideIp;
    this.#behaviour = behaviour;
  }

  /** The source address that the world sees on a datagram from `inside` to `to`. */
  outbound(inside: IpPort, to: IpPort, now: Instant): IpPort {
    const perFlow = this.#behaviour.mapping === "endpoint-dependent";
    const key = perFlow ? `${inside.text} ${to.text}` : inside.text;
    let mapping = this.#byInside.get(key);
    if (mapping === undefined || since(mapping.usedAt, now) >= this.#behaviour.expiry) {
      const outside = new IpPort(this.outsideIp, this.#nextPort++);
      mapping = { inside, outside, allowed: new Map(), usedAt: now };
      this.#byInside.set(key, mapping);
      this.#byOutside.set(outside.text, mapping);
    }
    mapping.usedAt = now;
    mapping.allowed.set(this.#filterKey(to), now);
    return mapping.outside;
  }

  /** Who inside gets a datagram that arrives at `outside`; `undefined` when it is not let in. */
  inbound(from: IpPort, outside: IpPort, now: Instant): IpPort | undefined {
    const mapping = this.#byOutside.get(outside.text);
    if (mapping === undefined || since(mapping.usedAt, now) >= this.#behaviour.expiry) return undefined;
    if (this.#behaviour.filtering === "open") return mapping.inside;
    const allowedAt = mapping.allowed.get(this.#filterKey(from));
    return allowedAt !== undefined && since(allowedAt, now) < this.#behaviour.expiry
      ? mapping.inside
      : undefined;
  }

  #filterKey(other: IpPort): string {
    return this.#behaviour.filtering === "address" ? other.ip.text : other.text;
  }
}

/**
 * Whether two hosts MUST find a direct path: the rule that the scenarios are judged by.
 * `undefined` is a host with a public address.
 */
export function directPathPossible(a: NatBehaviour | undefined, b: NatBehaviour | undefined): boolean {
  const takesAnyone = (nat: NatBehaviour | undefined): boolean =>
    nat === undefined || (nat.mapping === "endpoint-independent" && nat.filtering === "open");
  if (takesAnyone(a) || takesAnyone(b)) return true;
  const predictable = (nat: NatBehaviour | undefined): boolean => nat?.mapping !== "endpoint-dependent";
  if (predictable(a) && predictable(b)) return true;
  const byAddress = (nat: NatBehaviour | undefined): boolean => nat?.filtering !== "address-and-port";
  if ((predictable(a) && byAddress(a)) || (predictable(b) && byAddress(b))) return true;
  // Both answer from ports that nobody knows: one must let the first question in, and neither may look at ports.
  return byAddress(a) && byAddress(b) && (a?.filtering === "open" || b?.filtering === "open");
}
