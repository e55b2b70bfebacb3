/**
 * From a stack's networks to a small internet around them: plain data (namespaces, links, addresses, routes, rules) that
 * namespaces.ts applies. Nothing here touches the system.
 *
 *   laptop ── laptop-nat ──┐                        ┌── igw ── instance
 *   office ── office-nat ──┤                        │
 *   hotel ─── hotel-nat ───┼──────── internet ──────┼── control
 *                                                   └─≈≈≈─ nyc         ≈ = delay line
 *
 * IPv4 only in this form; the IPv6 rules of security groups are kept but never meet a packet.
 */
import { Ip } from "../agent/src/base/address.ts";
import { UsageError } from "../agent/src/base/errors.ts";
import type { CloudInstance, CloudModel } from "./cloud-model.ts";
import { natRules, vpcRules, type Attachment, type NatKind } from "./firewall.ts";

/** What it takes to build a lab, whoever plays in it. */
export interface Network {
  readonly namespaces: readonly NamespaceSpec[];
  readonly links: readonly LinkSpec[];
}

export interface Topology extends Network {
  readonly cast: Cast;
}

export interface NamespaceSpec {
  readonly name: string;
  readonly forwards: boolean;
  /** `ip -batch` lines run inside the namespace once its devices exist. */
  readonly commands: readonly string[];
  /** A ruleset for `nft -f -`; empty for none. */
  readonly rules: string;
}

/** A wire between two namespaces. Without a delay it is a veth pair, with one a pair of TUN devices. */
export interface LinkSpec {
  readonly ends: readonly [LinkEnd, LinkEnd];
  /** One way. */
  readonly delayMs: number;
}

export interface LinkEnd {
  readonly namespace: string;
  readonly device: string;
}

/** Who plays which part, for those who start programs in the namespaces. */
export interface Cast {
  readonly exitNode: {
    readonly namespace: string;
    readonly instance: CloudInstance;
    readonly publicIp: Ip;
  };
  readonly relay: { readonly namespace: string; readonly ip: Ip; readonly code: string };
  readonly control: { readonly namespace: string; readonly ip: Ip };
  readonly clients: readonly ClientPart[];
}

export interface ClientPart {
  readonly namespace: string;
  readonly nat: NatKind;
  readonly lanIp: Ip;
  readonly natIp: Ip;
}

/** One way, on the relays' links. */
export const RELAY_DELAY_MS = 10;

/** RFC 5737 and RFC 2544 addresses, so that nothing in the lab is anybody's. */
const INTERNET_ROUTER = "198.18.0.1";
const CONTROL_IP = "198.51.100.10";
const RELAY_IP = "198.51.100.20";
const DYNAMIC_POOL = "198.18.10.";
const CLIENTS: readonly { name: string; nat: NatKind; lan: string; natIp: string }[] = [
  { name: "laptop", nat: "easy", lan: "192.168.1", natIp: "203.0.113.21" },
  { name: "office", nat: "hard", lan: "172.16.5", natIp: "203.0.113.22" },
  { name: "hotel", nat: "udp-blocked", lan: "192.168.88", natIp: "203.0.113.23" },
];

/** The lab's own namespaces. */
const RESERVED: ReadonlySet<string> = new Set([
  ...["internet", "nyc", "control", "igw"],
  ...CLIENTS.flatMap(({ name }) => [name, `${name}-nat`]),
]);

export interface TopologyOptions {
  /** The namespace of the exit node: its hostname. */
  readonly exitNodeName: string;
  /** @default 10 */
  readonly relayDelayMs?: number;
}

/** @throws UsageError when the stack has not exactly one instance, or when names collide */
export function planTopology(cloud: CloudModel, options: TopologyOptions): Topology {
  const [instance, ...more] = cloud.instances;
  if (instance === undefined || more.length > 0) {
    throw new UsageError(
      "lab-stack",
      `this form of the lab needs a stack with one instance, not ${cloud.instances.length}`,
    );
  }
  if (RESERVED.has(options.exitNodeName.toLowerCase())) {
    throw new UsageError("lab-stack", `the exit node can't be called ${options.exitNodeName} in the lab`);
  }
  if (!instance.publicAddress || !instance.subnet.internet) {
    const lack = instance.publicAddress ? "route to an internet gateway" : "public address";
    throw new UsageError(
      "lab-stack",
      `${instance.address} has no ${lack}: this form of the lab has no other way out`,
    );
  }
  const publicIp = Ip.parse(`${DYNAMIC_POOL}10`);
  const plan = new Plan();
  const relay = { namespace: "nyc", ip: Ip.parse(RELAY_IP), code: "nyc" };
  const control = { namespace: "control", ip: Ip.parse(CONTROL_IP) };
  plan.router("internet", "", [`route add blackhole default metric 9999`]);
  plan.onInternet(relay.namespace, relay.ip, "eth0", options.relayDelayMs ?? RELAY_DELAY_MS);
  plan.host(relay.namespace);
  plan.onInternet(control.namespace, control.ip, "eth0", 0);
  plan.host(control.namespace);
  plan.vpc("igw", [{ device: "eni0", instance, publicIp, namespace: options.exitNodeName }]);
  for (const client of CLIENTS) plan.behindNat(client.name, client.nat, client.lan, Ip.parse(client.natIp));
  return plan.finish({
    exitNode: { namespace: options.exitNodeName, instance, publicIp },
    relay,
    control,
    clients: CLIENTS.map(({ name, nat, lan, natIp }) => ({
      namespace: name,
      nat,
      lanIp: Ip.parse(`${lan}.10`),
      natIp: Ip.parse(natIp),
    })),
  });
}

/** Collects namespaces and links while a plan is being made. */
class Plan {
  readonly #namespaces = new Map<string, { forwards: boolean; commands: string[]; rules: string }>();
  readonly #links: LinkSpec[] = [];

  router(name: string, rules: string, commands: readonly string[] = []): void {
    const spec = this.#namespace(name);
    spec.forwards = true;
    spec.rules = rules;
    spec.commands.push(...commands);
  }

  host(name: string): void {
    this.#namespace(name);
  }

  /** Gives `namespace` a public address, reached over `device`. */
  onInternet(namespace: string, ip: Ip, device: string, delayMs: number): void {
    this.#uplink(namespace, device, delayMs);
    this.publicAddress(namespace, ip, device);
    this.#namespace(namespace).commands.push(`route add default via ${INTERNET_ROUTER} dev ${device} onlink`);
  }

  publicAddress(namespace: string, ip: Ip, device: string): void {
    this.#namespace(namespace).commands.push(`addr add ${ip.text}/32 dev ${device}`);
    this.#namespace("internet").commands.push(`route add ${ip.text}/32 dev ${uplinkName(namespace)}`);
  }

  /** The router of a VPC, which is its internet gateway too, and its instances. */
  vpc(name: string, attachments: readonly (Attachment & { readonly namespace: string })[]): void {
    this.#uplink(name, "internet", 0);
    this.router(name, vpcRules(attachments), [
      `route add default via ${INTERNET_ROUTER} dev internet onlink`,
    ]);
    for (const { publicIp } of attachments) this.publicAddress(name, publicIp, "internet");
    for (const { device, instance, namespace } of attachments) {
      const { cidr } = instance.subnet;
      const gateway = subnetRouter(cidr.ip);
      this.#link({ namespace: name, device }, { namespace, device: "eth0" }, 0);
      this.#namespace(name).commands.push(
        `addr add ${gateway}/32 dev ${device}`,
        `route add ${instance.privateIp.text}/32 dev ${device}`,
      );
      this.#namespace(namespace).commands.push(
        `addr add ${instance.privateIp.text}/${cidr.bits} dev eth0`,
        `route add default via ${gateway} dev eth0`,
      );
    }
  }

  behindNat(name: string, nat: NatKind, lan: string, natIp: Ip): void {
    const router = `${name}-nat`;
    this.onInternet(router, natIp, "wan", 0);
    this.router(router, natRules(nat), [`addr add ${lan}.1/24 dev lan`]);
    this.#link({ namespace: router, device: "lan" }, { namespace: name, device: "eth0" }, 0);
    this.#namespace(name).commands.push(
      `addr add ${lan}.10/24 dev eth0`,
      `route add default via ${lan}.1 dev eth0`,
    );
  }

  finish(cast: Cast): Topology {
    const namespaces = [...this.#namespaces].map(([name, spec]) => ({
      name,
      ...spec,
      commands: [...this.#devicesUp(name), ...spec.commands],
    }));
    return { namespaces, links: this.#links, cast };
  }

  #devicesUp(namespace: string): string[] {
    const devices = this.#links.flatMap(({ ends }) => ends.filter((end) => end.namespace === namespace));
    return ["lo", ...devices.map((end) => end.device)].map(
      (device) => `link set ${device} addrgenmode none up`,
    );
  }

  #uplink(namespace: string, device: string, delayMs: number): void {
    const inside = { namespace: "internet", device: uplinkName(namespace) };
    this.#link(inside, { namespace, device }, delayMs);
    this.#namespace("internet").commands.push(`addr add ${INTERNET_ROUTER}/32 dev ${inside.device}`);
  }

  #link(one: LinkEnd, other: LinkEnd, delayMs: number): void {
    this.#links.push({ ends: [one, other], delayMs });
  }

  #namespace(name: string): { forwards: boolean; commands: string[]; rules: string } {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const made = { forwards: false, commands: [], rules: "" };
    this.#namespaces.set(name, made);
    return made;
  }
}

/** Linux keeps device names to 15 characters. */
const uplinkName = (namespace: string): string => `to-${namespace}`.slice(0, 15);

/** AWS gives a subnet's router the first address after the network's own. */
function subnetRouter(network: Ip): string {
  const bytes = network.bytes.slice();
  bytes[3] = (bytes[3] ?? 0) + 1;
  return Ip.fromBytes(bytes).text;
}
