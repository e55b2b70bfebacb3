/** The nftables rulesets of clients' routers, as text for `nft -f -`. Each namespace has one table, `inet lab`. */

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

/** A UDP port of the router that is forwarded to a host behind it. */
export interface PortForward {
  readonly port: number;
  readonly to: string;
}

/** A router whose outside device is "wan"; the others are inside. */
export function natRules(kind: NatKind, forwards: readonly PortForward[] = []): string {
  const outward = kind === "udp-blocked" ? "tcp dport 443 accept" : "accept";
  const masquerade = kind === "hard" ? "masquerade fully-random" : "masquerade";
  const inward = forwards.map(
    ({ port, to }) => `    iifname "wan" udp dport ${port} dnat ip to ${to}:${port}\n`,
  );
  const forwarded = forwards.map(
    ({ port, to }) => `    iifname "wan" ip daddr ${to} udp dport ${port} accept\n`,
  );
  // The input chain drops what nobody asked for: answered by the router itself it would become a known flow, take the
  // outside port and so turn an easy NAT into a hard one whenever the other side knocks first.
  return `table inet lab {
  chain input {
    type filter hook input priority filter; policy accept;
    iifname "wan" ct state != { established, related } drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    ct state { established, related } accept
${forwarded.join("")}    iifname != "wan" oifname != "wan" accept
    iifname != "wan" oifname "wan" ${outward}
  }
  chain prerouting {
    type nat hook prerouting priority dstnat; policy accept;
${inward.join("")}  }
  chain postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan" ${masquerade}
  }
}
`;
}
