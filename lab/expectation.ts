/**
 * Says from the networks alone, before a packet flows, which connections can become direct. The story compares it with what
 * the agents report; the agents never see it.
 */
import type { Ip } from "../agent/src/base/address.ts";
import type { SecurityRule } from "./model/model.ts";
import type { ClientPart, NodePart } from "./topology.ts";

/** The rules of the interface that the tunnel comes in by. */
type Rules = Pick<NodePart, "ingress" | "egress">;

export interface Expectation {
  readonly path: "direct" | "relay";
  readonly because: string;
}

/** @param port the UDP port of the exit node's agent */
export function expectPath(node: Rules, port: number, client: ClientPart): Expectation {
  if (client.nat === "udp-blocked") return { path: "relay", because: "its network lets only TCP 443 out" };
  if (letsIn(node, port, client.natIp)) {
    return { path: "direct", because: `udp/${port} of the exit node is open to everybody` };
  }
  if (client.nat === "hard") {
    return {
      path: "relay",
      because: `udp/${port} of the exit node is closed, and a hard NAT opens another port for each destination`,
    };
  }
  if (letsOut(node, client.natIp)) {
    return {
      path: "direct",
      because: `udp/${port} of the exit node is closed, but both sides may send first and an easy NAT keeps its port`,
    };
  }
  return { path: "relay", because: `udp/${port} of the exit node is closed both ways` };
}

/** Whether the security group lets datagrams from `from` in to `port`. */
export function letsIn(node: Rules, port: number, from: Ip): boolean {
  return node.ingress.some((rule) => matches(rule, from) && covers(rule, port, port));
}

/** Whether it lets datagrams out to every port of `to`: nobody knows before which one the peer's NAT will show. */
export function letsOut(node: Rules, to: Ip): boolean {
  return node.egress.some((rule) => matches(rule, to) && covers(rule, 1, 65535));
}

const matches = ({ protocol, peer }: SecurityRule, ip: Ip): boolean =>
  (protocol === "udp" || protocol === "all") && peer.kind === "prefix" && peer.prefix.contains(ip);

const covers = ({ ports }: SecurityRule, from: number, to: number): boolean =>
  ports === undefined || (ports.from <= from && ports.to >= to);
