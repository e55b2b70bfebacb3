/** What it takes to build a lab, whoever plays in it: plain data, which namespaces.ts applies. */

export interface Network {
  readonly namespaces: readonly NamespaceSpec[];
  readonly links: readonly LinkSpec[];
}

export interface NamespaceSpec {
  readonly name: string;
  readonly forwards: boolean;
  /** `ip -batch` lines run inside the namespace once its devices exist. */
  readonly commands: readonly string[];
  /** Likewise for `ip -6 -batch`. */
  readonly commands6?: readonly string[];
  /** A ruleset for `nft -f -`; empty for none. */
  readonly rules: string;
  /** "net/…" → value, under /proc/sys. */
  readonly sysctls?: Readonly<Record<string, string>>;
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

/** The address of the internet's router on every wire. RFC 2544. */
export const INTERNET_ROUTER = "198.18.0.1";
export const INTERNET_ROUTER_V6 = "fe80::1";
