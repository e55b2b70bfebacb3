/** The nftables rulesets of the lab's routers, as text for `nft -f -`. Each namespace has one table, `inet lab`. */
import type { CloudInstance, SecurityRule } from "./cloud-model.ts";
import type { Ip } from "../agent/src/base/address.ts";

/**
 * How a client's home router behaves.
 * - easy: one outside port for an inside port, whatever the destination (Linux masquerade keeps the port);
 * - hard: another outside port for every destination;
 * - udp-blocked: as easy, but nothing except TCP 443 leaves.
 * All let in only replies, by address and port.
 */
export type NatKind = "easy" | "hard" | "udp-blocked";

/** For sentences. */
export const NAT_TEXT: Readonly<Record<NatKind, string>> = {
  easy: "an easy NAT",
  hard: "a hard NAT",
  "udp-blocked": "a NAT that blocks UDP",
};

/** A router with an inside ("lan") and an outside ("wan") device. */
export function natRules(kind: NatKind): string {
  const outward = kind === "udp-blocked" ? "tcp dport 443 accept" : "accept";
  const masquerade = kind === "hard" ? "masquerade fully-random" : "masquerade";
  // The input chain drops what nobody asked for: answered by the router itself it would become a known flow, take the
  // outside port and so turn an easy NAT into a hard one whenever the other side knocks first.
  return table(`
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state != { established, related } drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state { established, related } accept
    iifname "lan" oifname "wan" ${outward}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" ${masquerade}
  }`);
}

/** An instance as the VPC's router sees it: the device that leads to it, and its public address. */
export interface Attachment {
  readonly device: string;
  readonly instance: CloudInstance;
  readonly publicIp: Ip;
}

/** The VPC's router with its internet gateway (device "internet"): one-to-one NAT, security groups, source check. */
export function vpcRules(attachments: readonly Attachment[]): string {
  const translated = attachments.map(({ instance, publicIp }) => ({
    inside: instance.privateIp.text,
    outside: publicIp.text,
  }));
  const chains = attachments.map(
    ({ device, instance }) => `
  chain from-${device} {
${instance.egress.map((rule) => `    ${securityMatch(rule, "daddr")} return`).join("\n")}
    drop
  }
  chain to-${device} {
${instance.ingress.map((rule) => `    ${securityMatch(rule, "saddr")} return`).join("\n")}
    drop
  }`,
  );
  return table(`${chains.join("")}
  chain forward {
    type filter hook forward priority filter; policy drop;
${attachments.map(sourceCheck).join("")}    ct state { established, related } accept
    ct state invalid drop
${attachments.map(({ device }) => `    iifname "${device}" jump from-${device}\n    oifname "${device}" jump to-${device}\n`).join("")}    accept
  }
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "internet" ct state != { established, related } drop
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
${translated.map(({ inside, outside }) => `    ip daddr ${outside} dnat ip to ${inside}`).join("\n")}
  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
${translated.map(({ inside, outside }) => `    ip saddr ${inside} oifname "internet" snat ip to ${outside}`).join("\n")}
    oifname "internet" drop
  }`);
}

const table = (body: string): string => `table inet lab {${body}\n}\n`;

function sourceCheck({ device, instance }: Attachment): string {
  return instance.sourceDestCheck
    ? `    iifname "${device}" ip saddr != ${instance.privateIp.text} drop\n`
    : "";
}

function securityMatch(rule: SecurityRule, end: "saddr" | "daddr"): string {
  const family = rule.peer.ip.isV4 ? "ip" : "ip6";
  const peer = rule.peer.isDefault
    ? `meta nfproto ${rule.peer.ip.isV4 ? "ipv4" : "ipv6"}`
    : `${family} ${end} ${rule.peer.text}`;
  if (rule.protocol === "all") return peer;
  if (rule.ports === undefined) return `${peer} meta l4proto ${rule.protocol}`;
  const { from, to } = rule.ports;
  return `${peer} ${rule.protocol} dport ${from === to ? from : `${from}-${to}`}`;
}
