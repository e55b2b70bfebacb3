/** The networks that this machine is part of, and those of them that are somebody's own. */
import { networkInterfaces } from "node:os";
import { Prefix } from "../base/address.ts";

/** As in `os.networkInterfaces()`. */
export type NetworkInterfaces = Readonly<
  Record<string, readonly { readonly cidr: string | null; readonly internal: boolean }[] | undefined>
>;

/** In a stable order, without loopback and the tunnel's own device. */
export function localNetworks(
  device: string,
  interfaces: NetworkInterfaces = networkInterfaces(),
): readonly Prefix[] {
  const found = new Map<string, Prefix>();
  for (const [name, addresses = []] of Object.entries(interfaces)) {
    if (name === device) continue;
    for (const { cidr, internal } of addresses) {
      const prefix = internal || cidr === null ? undefined : Prefix.parse(cidr.replace(/%[^/]*/, ""));
      if (prefix !== undefined) found.set(prefix.text, prefix);
    }
  }
  return [...found.values()].toSorted((a, b) => (a.text < b.text ? -1 : 1));
}

/**
 * Those that may be let past the tunnel. A network that hands out public addresses as its own could otherwise draw
 * traffic for them to itself (CVE-2023-36672, "LocalNet").
 */
export function privateNetworks(networks: readonly Prefix[]): readonly Prefix[] {
  return networks.filter(
    ({ ip, bits }) => (ip.isPrivate || ip.isLinkLocal) && bits >= SHORTEST[ip.isV4 ? 0 : 1],
  );
}

/** 10.0.0.0/8, and fe80::/10 or fc00::/7. */
const SHORTEST = [8, 7] as const;
