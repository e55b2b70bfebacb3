/**
 * Which interface the tunnel comes in by, and which one exit traffic leaves by.
 *
 * On EC2 the metadata tell which MAC address is which interface; names and their order mean nothing. The first interface is
 * the egress, the second one the ingress, as the constructs attach them. Elsewhere it is the default route's interface.
 */
import { Ip, Prefix } from "../../base/address.ts";
import type { CloudInterface, DefaultRoute, Facts, ForwardingSettings, Link } from "./facts.ts";
import type { ExitReason } from "./reasons.ts";

export interface Ingress {
  readonly device: string;
  readonly v4: Ip | undefined;
  readonly v6: Ip | undefined;
  /** Reached without a gateway. */
  readonly subnets: readonly Prefix[];
  readonly gatewayV4: Ip | undefined;
  readonly gatewayV6: Ip | undefined;
  /** What its device should have and has not: nobody set it up after it was attached. */
  readonly missingAddresses: readonly { readonly ip: Ip; readonly bits: number }[];
  /** What the internet should see the tunnel's port as; empty where nobody says. */
  readonly publicAddresses: readonly Ip[];
}

export interface Layout {
  readonly kind: "split" | "direct";
  readonly egress: string;
  readonly egressV4: Ip | undefined;
  /** The interface's own public addresses, where it has some. */
  readonly egressPublic: readonly Ip[];
  /** In `direct` the same device. */
  readonly ingress: Ingress;
  /** Networks that this machine is in: not for those who come through the tunnel. */
  readonly own: readonly Prefix[];
}

export type LayoutResult = Layout | { readonly kind: "unusable"; readonly reason: ExitReason };

export function layoutOf(facts: Facts, settings: ForwardingSettings): LayoutResult {
  const links = facts.links.filter(({ name }) => name !== settings.tunnel && name !== "lo");
  const within: Facts = { ...facts, links };
  const { mode } = settings;
  if (facts.metadataFailure !== undefined) {
    const text = `Nobody knows which networks this instance is in, so no exit traffic leaves: ${facts.metadataFailure}.`;
    return unusable("metadata-missing", text);
  }
  const egress = egressOf(within, settings);
  if (typeof egress === "string") return unusable("egress-missing", egress);
  const ingress = mode === "direct" ? undefined : ingressOf(within, settings, egress);
  if (typeof ingress === "string") return unusable("ingress-missing", ingress);
  if (ingress === undefined && mode === "split") {
    const text = `There is no second interface for the tunnel, as egress mode "split" needs: attach it, or set the mode to "direct".`;
    return unusable("ingress-missing", text);
  }
  const own = disjoint([
    ...links.flatMap(({ addresses }) => addresses.map(({ ip, bits }) => Prefix.of(ip, bits))),
    ...(facts.cloud ?? []).flatMap(({ ranges, subnets }) => [...ranges, ...subnets]),
  ]).filter(({ ip }) => !ip.isLinkLocal);
  return {
    kind: ingress === undefined ? "direct" : "split",
    egress: egress.name,
    egressV4: firstOf(egress, true),
    egressPublic: cloudOf(facts, egress)?.publicAddresses ?? [],
    ingress: describe(ingress ?? egress, within),
    own,
  };
}

/** Without those that others of them hold. */
export function disjoint(prefixes: readonly Prefix[]): readonly Prefix[] {
  const unique = [...new Map(prefixes.map((prefix) => [prefix.text, prefix])).values()];
  return unique
    .filter((one) => !unique.some((other) => other.bits < one.bits && other.contains(one.ip)))
    .toSorted((a, b) => (a.text < b.text ? -1 : 1));
}

function unusable(
  code: "metadata-missing" | "egress-missing" | "ingress-missing",
  text: string,
): LayoutResult {
  return { kind: "unusable", reason: { code, text, closesExit: true } };
}

function egressOf(facts: Facts, { egressInterface }: ForwardingSettings): Link | string {
  if (egressInterface !== undefined) {
    const named = linkNamed(facts, egressInterface);
    return (
      named ?? `The egress interface ${egressInterface} is not there: attach it, or correct the setting.`
    );
  }
  const first = facts.cloud?.find(({ deviceNumber }) => deviceNumber === 0);
  if (first !== undefined) {
    const link = linkOf(facts, first);
    return (
      link ?? `The interface ${first.id} (${first.mac}) has no device here: see that its driver is loaded.`
    );
  }
  const [route] = defaultRoutes(facts, true).concat(defaultRoutes(facts, false));
  const link = facts.links.find(({ name }) => name === route?.device);
  return link ?? "There is no default route, by which exit traffic would leave: see that the network is up.";
}

/** `undefined` where there is only one interface. */
function ingressOf(
  facts: Facts,
  { ingressInterface }: ForwardingSettings,
  egress: Link,
): Link | string | undefined {
  if (ingressInterface !== undefined) {
    const named = linkNamed(facts, ingressInterface);
    return (
      named ?? `The ingress interface ${ingressInterface} is not attached: attach it, or correct the setting.`
    );
  }
  const others = (facts.cloud ?? []).filter(({ mac }) => mac !== egress.mac);
  const publicOnes = others.filter(({ publicAddresses }) => publicAddresses.length > 0);
  const [found] = (publicOnes.length > 0 ? publicOnes : others).toSorted(
    (a, b) => a.deviceNumber - b.deviceNumber,
  );
  if (found === undefined) return undefined;
  return linkOf(facts, found) ?? `The interface ${found.id} (${found.mac}) has no device here yet.`;
}

function describe(link: Link, facts: Facts): Ingress {
  const cloud = cloudOf(facts, link);
  const subnets = cloud?.subnets ?? connected(link);
  const missing = (cloud?.addresses ?? []).filter(
    (wanted) => !link.addresses.some(({ ip }) => ip.text === wanted.text),
  );
  return {
    device: link.name,
    v4: cloud?.addresses.find(({ isV4 }) => isV4) ?? firstOf(link, true),
    v6: cloud?.addresses.find(({ isV4 }) => !isV4) ?? firstOf(link, false),
    subnets,
    gatewayV4: gatewayV4(link, facts, subnets),
    gatewayV6: defaultRoutes(facts, false).find(({ device }) => device === link.name)?.via,
    missingAddresses: missing.map((ip) => ({ ip, bits: ip.isV4 ? bitsFor(ip, subnets) : 128 })),
    publicAddresses: cloud?.publicAddresses ?? [],
  };
}

/** In a subnet of AWS it is the first address: https://docs.aws.amazon.com/vpc/latest/userguide/subnet-sizing.html */
function gatewayV4(link: Link, facts: Facts, subnets: readonly Prefix[]): Ip | undefined {
  const known = defaultRoutes(facts, true).find(({ device }) => device === link.name)?.via;
  const subnet = subnets.find(({ ip }) => ip.isV4);
  if (known !== undefined || subnet === undefined || subnet.bits > 30) return known;
  return following(subnet.ip);
}

function following(ip: Ip): Ip {
  const bytes = ip.bytes.slice();
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) + 1;
  return Ip.fromBytes(bytes);
}

/** The lowest metric first, as the kernel chooses. */
function defaultRoutes({ defaultRoutes: routes }: Facts, isV4: boolean): readonly DefaultRoute[] {
  return routes.filter((route) => route.isV4 === isV4).toSorted((a, b) => a.metric - b.metric);
}

function linkNamed(facts: Facts, name: string): Link | undefined {
  const wanted = name.toLowerCase();
  const cloud = facts.cloud?.find(({ id }) => id === wanted);
  if (cloud !== undefined) return linkOf(facts, cloud);
  return facts.links.find((link) => link.name === name || link.mac === wanted);
}

function linkOf(facts: Facts, { mac }: CloudInterface): Link | undefined {
  return facts.links.find((link) => link.mac === mac);
}

function cloudOf({ cloud }: Facts, { mac }: Link): CloudInterface | undefined {
  return mac === "" ? undefined : cloud?.find((one) => one.mac === mac);
}

function firstOf({ addresses }: Link, isV4: boolean): Ip | undefined {
  return addresses.find(({ ip }) => ip.isV4 === isV4 && !ip.isLinkLocal)?.ip;
}

function connected({ addresses }: Link): readonly Prefix[] {
  const routable = addresses.filter(({ ip }) => !ip.isLinkLocal);
  return disjoint(routable.map(({ ip, bits }) => Prefix.of(ip, bits)));
}

function bitsFor(ip: Ip, subnets: readonly Prefix[]): number {
  return subnets.find((subnet) => subnet.contains(ip))?.bits ?? 32;
}
