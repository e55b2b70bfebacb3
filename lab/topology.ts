/**
 * From the stacks' networks and the world around them to a small internet: plain data (namespaces, links, addresses, routes, rules)
 * that namespaces.ts applies. Nothing here touches the system.
 *
 *   laptop ── laptop-nat ──┐                        ┌── igw ── instance
 *   office ── office-nat ──┤                        │    └──── igw-nat (a NAT gateway)
 *   hotel ─── hotel-nat ───┼──────── internet ──────┼── control
 *                                                   └─≈≈≈─ nyc         ≈ = delay line
 *
 * VPCs have IPv6, the hosts of the world have none.
 */
import { Ip } from "../agent/src/base/address.ts";
import { UsageError } from "../agent/src/base/errors.ts";
import type { RunningCloud } from "./cloud/running.ts";
import type { InstanceState } from "./cloud/state.ts";
import { natRules, type NatKind } from "./firewall.ts";
import type { SecurityRule } from "./model/model.ts";
import { INTERNET_ROUTER, type LinkEnd, type LinkSpec, type NamespaceSpec, type Network } from "./network.ts";
import type { NamespaceChange, VpcPlan, Wiring } from "./vpc-plan.ts";
import { translationRules } from "./vpc-rules.ts";
import { checkWorld, forwardsOf, type HostSpec, type World } from "./world.ts";

export interface Topology extends Network {
  readonly cast: Cast;
}

/** Who plays which part, for those who start programs in the namespaces. */
export interface Cast {
  readonly nodes: readonly NodePart[];
  /** The lab's own ones, where the world has them. */
  readonly relays: readonly ServerPart[];
  readonly control: ServerPart | undefined;
  readonly web: ServerPart | undefined;
  readonly clients: readonly ClientPart[];
}

/** A machine of a stack, as it stands when the lab starts. */
export interface NodePart {
  readonly namespace: string;
  readonly instanceId: string;
  /** Where the tunnel comes in: the first interface with a public address, else the first one. */
  readonly privateIp: Ip;
  readonly publicIp: Ip | undefined;
  readonly ingress: readonly SecurityRule[];
  readonly egress: readonly SecurityRule[];
  readonly userData: string;
  readonly tags: Readonly<Record<string, string>>;
}

export interface ServerPart {
  readonly namespace: string;
  readonly ip: Ip;
}

export interface ClientPart {
  readonly namespace: string;
  readonly nat: NatKind | "none";
  readonly lanIp: Ip;
  /** What the internet sees. */
  readonly natIp: Ip;
  readonly port: number | undefined;
  /** The UDP port of its router that is forwarded to it. */
  readonly forwarded: number | undefined;
}

/** Everything of AWS that isn't in a VPC answers here. RFC 5737, so that nothing in the lab is anybody's. */
export const ENDPOINT_HOST = { namespace: "aws", ip: "198.51.100.40" };
const CONTROL_IP = "198.51.100.10";
const RELAY_IP = "198.51.100.20";
const WEB_IP = "198.51.100.30";
const FIRST_OTHER = 100;
const FIRST_CLIENT = 21;
const LANS = ["192.168.1", "172.16.5", "192.168.88"];

/** @throws UsageError when names collide or nothing can be reached */
export function planTopology(cloud: RunningCloud, world: World): Topology {
  const nodes = cloud.instances.map((instance) => nodePart(instance));
  checkWorld(
    world,
    nodes.map(({ namespace }) => namespace),
  );
  const plan = new Plan();
  plan.namespace("internet").forwards = true;
  plan.add("internet", ["route add blackhole default metric 9999", "route add blackhole ::/0 metric 9999"]);
  const servers = world.hosts.filter(({ role }) => role !== "client");
  const addresses = serverAddresses(servers);
  for (const host of servers)
    plan.onInternet(host.name, addresses.get(host) ?? "", "eth0", host.delayMs ?? 0);
  plan.onInternet(ENDPOINT_HOST.namespace, ENDPOINT_HOST.ip, "eth0", 0);
  cloud.plans.forEach((vpc, i) => {
    // The router's own, which it asks and complains with.
    const own = `198.18.1.${10 + i}`;
    planVpc(plan, cloud, vpc, own, world.regionDelayMs[vpc.vpc.region] ?? 0);
  });
  for (const wiring of cloud.wirings()) plan.wire(wiring);
  for (const { namespace } of cloud.instances) plan.namespace(namespace).sysctls = INSTANCE_SYSCTLS;
  const clients = planClients(plan, world);
  const parts = (role: HostSpec["role"]): readonly ServerPart[] =>
    servers
      .filter((host) => host.role === role)
      .map((host) => ({ namespace: host.name, ip: Ip.parse(addresses.get(host) ?? CONTROL_IP) }));
  return {
    ...plan.finish(),
    cast: { nodes, relays: parts("relay"), control: parts("control")[0], web: parts("web")[0], clients },
  };
}

/** Of a VPC's router, on its wire to the internet. */
const ROUTER_LINK_LOCAL = "fe80::2";

/** As systemd ships them on the images. */
const INSTANCE_SYSCTLS = {
  "net/ipv4/conf/all/rp_filter": "2",
  "net/ipv4/conf/default/rp_filter": "2",
};

/** The machine that clients reach in the story of one exit node. @throws UsageError when it has no way in */
export function exitNodeOf({ nodes }: Cast): NodePart & { readonly publicIp: Ip } {
  const [node, ...more] = nodes;
  if (node === undefined || more.length > 0) {
    throw new UsageError(
      "lab-stack",
      `this form of the lab needs a stack with one instance, not ${nodes.length}: try \`sallyport lab up\``,
    );
  }
  const { publicIp } = node;
  if (publicIp === undefined) {
    throw new UsageError(
      "lab-stack",
      `${node.namespace} has no public address: this form of the lab has no other way in`,
    );
  }
  return { ...node, publicIp };
}

function nodePart(instance: InstanceState): NodePart {
  const ingress =
    instance.interfaces.find(({ publicIp }) => publicIp !== undefined) ?? instance.interfaces[0];
  if (ingress === undefined) throw new UsageError("lab-stack", `${instance.id} has no interface`);
  const { groups, privateIp, publicAddress } = ingress.model;
  return {
    namespace: instance.namespace,
    instanceId: instance.id,
    privateIp,
    publicIp: publicAddress?.ip,
    ingress: groups.flatMap((group) => group.ingress),
    egress: groups.flatMap((group) => group.egress),
    userData: instance.userData,
    tags: instance.tags,
  };
}

/** @param own the router's address on the internet, by which all others of the VPC are reached */
function planVpc(plan: Plan, cloud: RunningCloud, vpc: VpcPlan, own: string, delayMs: number): void {
  plan.uplink(vpc.namespace, "internet", delayMs);
  plan.namespace(vpc.namespace).forwards = true;
  plan.add(vpc.namespace, [`addr add ${own}/32 dev internet`]);
  plan.route(own, vpc.namespace);
  plan.apply(vpc.router());
  for (const gateway of vpc.natGateways) {
    plan.wire(vpc.natGateway(gateway));
    plan.namespace(vpc.natNamespace(gateway)).forwards = true;
    plan.route(gateway.publicIp.text, vpc.namespace, own);
  }
  for (const one of interfacesIn(cloud, vpc)) {
    if (one.publicIp === undefined) continue;
    plan.route(one.publicIp, vpc.namespace, own);
    const translation = { privateIp: one.model.privateIp.text, publicIp: one.publicIp };
    plan.namespace(vpc.namespace).rules += translationRules("add", translation);
  }
  for (const balancer of cloud.read.model.balancers) {
    if (balancer.subnet.vpc === vpc.vpc) plan.route(balancer.publicIp.text, vpc.namespace, own);
  }
  if (vpc.vpc.ipv6 !== undefined) plan.route(vpc.vpc.ipv6.text, vpc.namespace, ROUTER_LINK_LOCAL);
  plan.after(vpc.routes());
}

const interfacesIn = (cloud: RunningCloud, { vpc }: VpcPlan) =>
  [...(cloud.regions.get(vpc.region)?.interfaces.values() ?? [])].filter(({ vpcId }) => vpcId === vpc.id);

function planClients(plan: Plan, world: World): readonly ClientPart[] {
  const clients = world.hosts.filter(({ role }) => role === "client");
  const shared = Object.entries(world.networks).map(([name, network]) => ({
    router: `${name}-nat`,
    nat: network.nat,
    network,
    hosts: clients.filter((host) => host.network === name),
  }));
  const own = clients
    .filter(({ network }) => network === undefined)
    .map((host) => ({
      router: `${host.name}-nat`,
      nat: host.nat ?? "none",
      network: undefined,
      hosts: [host],
    }));
  return [...own, ...shared].flatMap(({ router, nat, network, hosts }, i) => {
    const natIp = `203.0.113.${FIRST_CLIENT + i}`;
    if (nat === "none") return hosts.map((host) => planPublic(plan, host, natIp));
    const lan = LANS[i] ?? `192.168.${100 + i}`;
    const lanIp = (host: HostSpec): string => `${lan}.${10 + hosts.indexOf(host)}`;
    const forwards = forwardsOf(network ?? { nat }, (name) => {
      const host = hosts.find((one) => one.name === name);
      return host === undefined ? undefined : lanIp(host);
    });
    plan.behindNat(router, natIp, `${lan}.1`, Math.max(0, ...hosts.map(({ delayMs = 0 }) => delayMs)));
    plan.namespace(router).rules = natRules(nat, forwards);
    for (const host of hosts) plan.onLan(router, host.name, lanIp(host), `${lan}.1`);
    return hosts.map((host) => ({
      namespace: host.name,
      nat,
      lanIp: Ip.parse(lanIp(host)),
      natIp: Ip.parse(natIp),
      port: host.port,
      forwarded: forwards.find(({ to }) => to === lanIp(host))?.port,
    }));
  });
}

function planPublic(plan: Plan, host: HostSpec, ip: string): ClientPart {
  plan.onInternet(host.name, ip, "eth0", host.delayMs ?? 0);
  const address = Ip.parse(ip);
  return {
    namespace: host.name,
    nat: "none",
    lanIp: address,
    natIp: address,
    port: host.port,
    forwarded: undefined,
  };
}

function serverAddresses(servers: readonly HostSpec[]): ReadonlyMap<HostSpec, string> {
  const fixed: Partial<Record<HostSpec["role"], string>> = {
    control: CONTROL_IP,
    relay: RELAY_IP,
    web: WEB_IP,
  };
  let next = FIRST_OTHER;
  const given = new Set<string>();
  return new Map(
    servers.map((host) => {
      const first = fixed[host.role];
      const ip = first === undefined || given.has(first) ? `198.51.100.${next++}` : first;
      given.add(ip);
      return [host, ip];
    }),
  );
}

type Draft = { -readonly [K in keyof Required<NamespaceSpec>]: Required<NamespaceSpec>[K] } & {
  commands: string[];
  commands6: string[];
};

/** Collects namespaces and links while a plan is being made. */
class Plan {
  readonly #namespaces = new Map<string, Draft>();
  readonly #links: LinkSpec[] = [];
  readonly #later: NamespaceChange[] = [];

  add(name: string, commands: readonly string[]): void {
    this.namespace(name).commands.push(...commands);
  }

  /** Gives `namespace` a public address, reached over `device`. */
  onInternet(namespace: string, ip: string, device: string, delayMs: number): void {
    this.uplink(namespace, device, delayMs);
    this.add(namespace, [
      `addr add ${ip}/32 dev ${device}`,
      `route add default via ${INTERNET_ROUTER} dev ${device} onlink`,
    ]);
    this.route(ip, namespace);
  }

  /** What the internet sends to a namespace: an address or a prefix. */
  route(to: string, namespace: string, via?: string): void {
    const next = via === undefined ? "" : ` via ${via}`;
    const onlink = via === undefined || via.includes(":") ? "" : " onlink";
    this.add("internet", [`route add ${to}${next} dev ${uplinkName(namespace)}${onlink}`]);
  }

  uplink(namespace: string, device: string, delayMs: number): void {
    const inside = { namespace: "internet", device: uplinkName(namespace) };
    this.link({ ends: [inside, { namespace, device }], delayMs });
    this.add("internet", [
      `addr add ${INTERNET_ROUTER}/32 dev ${inside.device}`,
      `addr add fe80::1/64 dev ${inside.device} nodad`,
    ]);
  }

  wire({ link, changes }: Wiring): void {
    if (link !== undefined) this.link(link);
    for (const change of changes) this.apply(change);
  }

  apply({ namespace, commands, commands6, rules, sysctls }: NamespaceChange): void {
    const draft = this.namespace(namespace);
    draft.commands.push(...commands);
    draft.commands6.push(...commands6);
    draft.rules += rules;
    draft.sysctls = { ...draft.sysctls, ...sysctls };
  }

  /** What needs all wires of its namespace. */
  after(change: NamespaceChange): void {
    this.#later.push(change);
  }

  behindNat(router: string, ip: string, lanRouter: string, delayMs: number): void {
    this.onInternet(router, ip, "wan", delayMs);
    const draft = this.namespace(router);
    draft.forwards = true;
    draft.sysctls = { "net/ipv4/conf/all/proxy_arp": "1", "net/ipv4/conf/all/send_redirects": "0" };
    draft.commands.push(`addr add ${lanRouter}/32 dev lo`);
  }

  onLan(router: string, host: string, ip: string, lanRouter: string): void {
    const device = uplinkName(host);
    this.link({
      ends: [
        { namespace: router, device },
        { namespace: host, device: "eth0" },
      ],
      delayMs: 0,
    });
    this.add(router, [`addr add ${lanRouter}/32 dev ${device}`, `route add ${ip}/32 dev ${device}`]);
    this.add(host, [`addr add ${ip}/24 dev eth0`, `route add default via ${lanRouter} dev eth0`]);
  }

  link(spec: LinkSpec): void {
    this.#links.push(spec);
    for (const { namespace } of spec.ends) this.namespace(namespace);
  }

  namespace(name: string): Draft {
    const known = this.#namespaces.get(name);
    if (known !== undefined) return known;
    const made: Draft = { name, forwards: false, commands: [], commands6: [], rules: "", sysctls: {} };
    this.#namespaces.set(name, made);
    return made;
  }

  finish(): Network {
    for (const change of this.#later) this.apply(change);
    const namespaces = [...this.#namespaces.values()].map((draft) => ({
      ...draft,
      commands: [...devicesUp(this.#endsIn(draft.name)), ...draft.commands],
    }));
    return { namespaces, links: this.#links };
  }

  #endsIn(namespace: string): readonly LinkEnd[] {
    return this.#links.flatMap(({ ends }) => ends.filter((end) => end.namespace === namespace));
  }
}

/** Without addresses that the kernel makes up: what the lab doesn't give is not there. */
function devicesUp(ends: readonly LinkEnd[]): readonly string[] {
  return ["lo", ...ends.map((end) => end.device)].map((device) => `link set ${device} addrgenmode none up`);
}

/** Linux keeps device names to 15 characters. */
function uplinkName(namespace: string): string {
  if (namespace.length <= 12) return `to-${namespace}`;
  const sum = Array.from(namespace).reduce(
    (all, char) => (all * 31 + (char.codePointAt(0) ?? 0)) % 0xfffff,
    7,
  );
  return `to-${namespace.slice(0, 6)}-${sum.toString(16).padStart(5, "0")}`;
}
