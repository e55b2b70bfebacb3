/** By which devices what comes out of the tunnel leaves this machine again: exit traffic, and what goes to advertised networks. */
import type { Facts, ForwardingSettings } from "./facts.ts";
import type { Layout } from "./layout.ts";

export interface Way {
  readonly device: string;
  readonly isV4: boolean;
  /** What goes there, for people. */
  readonly what: string;
}

export function exitWays({ exit, ipv6 }: ForwardingSettings, { egress, ingress }: Layout): readonly Way[] {
  const v4 = { device: egress, isV4: true, what: "exit traffic" };
  const v6 = { device: ingress.device, isV4: false, what: "IPv6 exit traffic" };
  if (!exit) return [];
  return ipv6 === "snat" && ingress.v6 !== undefined ? [v4, v6] : [v4];
}

/** Those that the kernel's routes lead to, and those that have an address of an advertised network. */
export function advertisedWays({ links, routed }: Facts, settings: ForwardingSettings): readonly Way[] {
  const { tunnel, advertised } = settings;
  const near = links.flatMap(({ name, addresses }) =>
    addresses
      .filter(({ ip }) => advertised.some((prefix) => prefix.contains(ip)))
      .map(({ ip }) => ({ device: name, isV4: ip.isV4 })),
  );
  const found = [...routed, ...near].filter(({ device }) => device !== tunnel && device !== "lo");
  const unique = new Map(found.map((one) => [`${one.device} ${one.isV4}`, one]));
  return [...unique.values()].map(({ device, isV4 }) => ({
    ...{ device, isV4 },
    what: `what goes to the advertised ${isV4 ? "" : "IPv6 "}networks by ${device}`,
  }));
}
