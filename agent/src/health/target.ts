/** Whom a person means by a name or an address on the command line. */
import { Ip } from "../base/address.ts";
import type { MapNode, NetMap } from "../core/control/net-map.ts";

export type Target =
  | { readonly kind: "peer"; readonly node: MapNode; readonly ip: Ip }
  | { readonly kind: "local"; readonly ip: Ip }
  | { readonly kind: "no-match" };

/** Takes a short name, a full one with or without its final dot, or an address. Names are compared without case. */
export function findTarget(netMap: NetMap, text: string): Target {
  const ip = Ip.tryParse(text);
  const matches = ip === undefined ? named(text, netMap.magicDnsSuffix) : addressed(ip);
  if (matches(netMap.self)) return local(netMap.self, ip);
  const node = netMap.peers.find(matches);
  const address = ip ?? node?.addresses[0]?.ip;
  return node === undefined || address === undefined
    ? { kind: "no-match" }
    : { kind: "peer", node, ip: address };
}

/** A node's name without the suffix that all names of the network share. */
export function shortName(node: MapNode, suffix: string): string {
  const name = withoutDot(node.name);
  const short = suffix !== "" && name.endsWith(`.${suffix}`) ? name.slice(0, -suffix.length - 1) : name;
  return short === "" ? node.hostname : short;
}

function local(self: MapNode, ip: Ip | undefined): Target {
  const address = ip ?? self.addresses[0]?.ip;
  return address === undefined ? { kind: "no-match" } : { kind: "local", ip: address };
}

function addressed(ip: Ip): (node: MapNode) => boolean {
  return (node) => node.addresses.some((prefix) => prefix.ip.text === ip.text);
}

function named(text: string, suffix: string): (node: MapNode) => boolean {
  const wanted = withoutDot(text).toLowerCase();
  return (node) =>
    wanted !== "" &&
    (withoutDot(node.name).toLowerCase() === wanted || shortName(node, suffix).toLowerCase() === wanted);
}

function withoutDot(name: string): string {
  return name.endsWith(".") ? name.slice(0, -1) : name;
}
