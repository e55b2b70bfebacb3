/**
 * Says from the networks alone, before a packet flows, which connections can become direct. The story compares it with what
 * the agents report; the agents never see it.
 */
import type { Ip } from "../agent/src/base/address.ts";
import type { CloudInstance, SecurityRule } from "./cloud-model.ts";
import type { Cast, ClientPart } from "./topology.ts";

export interface Expectation {
  readonly path: "direct" | "relay";
  readonly because: string;
}

/** @param port the UDP port of the exit node's agent */
export function expectPath(exitNode: Cast["exitNode"], port: number, client: ClientPart): Expectation {
  const { instance } = exitNode;
  if (client.nat === "udp-blocked") return { path: "relay", because: "its network lets only TCP 443 out" };
  if (letsIn(instance, port, client.natIp)) {
    return { path: "direct", because: `udp/${port} of the exit node is open to everybody` };
  }
  if (client.nat === "hard") {
    return {
      path: "relay",
      because: `udp/${port} of the exit node is closed, and a hard NAT opens another port for each destination`,
    };
  }
  if (letsOut(instance, client.natIp)) {
    return {
      path: "direct",
      because: `udp/${port} of the exit node is closed, but both sides may send first and an easy NAT keeps its port`,
    };
  }
  return { path: "relay", because: `udp/${port} of the exit node is closed both ways` };
}

/** Whether the security group lets datagrams from `from` in to `port`. */
export function letsIn(instance: CloudInstance, port: number, from: Ip): boolean {
  return instance.ingress.some((rule) => matches(rule, from) && covers(rule, port, port));
}

/** Whether it lets datagrams out to every port of `to`: nobody knows before which one the peer's NAT will show. */
export function letsOut(instance: CloudInstance, to: Ip): boolean {
  return instance.egress.some((rule) => matches(rule, to) && covers(rule, 1, 65535));
}

const matches = (rule: SecurityRule, peer: Ip): boolean =>
  (rule.protocol === "udp" || rule.protocol === "all") && rule.peer.contains(peer);

const covers = ({ ports }: SecurityRule, from: number, to: number): boolean =>
  ports === undefined || (ports.from <= from && ports.to >= to);
