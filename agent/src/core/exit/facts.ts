/** What the planner of forwarding is told: what the machine has, and what is asked of it. */
import type { Ip, Prefix } from "../../base/address.ts";

export interface LinkAddress {
  readonly ip: Ip;
  /** Length of the prefix that is reached without a gateway. */
  readonly bits: number;
}

export interface Link {
  readonly name: string;
  /** In lower case with colons; empty where the device has none. */
  readonly mac: string;
  readonly addresses: readonly LinkAddress[];
}

/** A default route of the main table. */
export interface DefaultRoute {
  readonly device: string;
  readonly via: Ip | undefined;
  readonly isV4: boolean;
  readonly metric: number;
}

/** An elastic network interface, as the instance's metadata describe it. */
export interface CloudInterface {
  /** Such as "eni-0123456789abcdef0". */
  readonly id: string;
  readonly mac: string;
  readonly deviceNumber: number;
  readonly addresses: readonly Ip[];
  /** By which the internet knows it; empty behind a NAT gateway. */
  readonly publicAddresses: readonly Ip[];
  readonly subnets: readonly Prefix[];
  /** All ranges of the network that it is in. */
  readonly ranges: readonly Prefix[];
}

export interface Facts {
  readonly links: readonly Link[];
  readonly defaultRoutes: readonly DefaultRoute[];
  /** By which devices the advertised networks are reached. */
  readonly routed: readonly { readonly device: string; readonly isV4: boolean }[];
  /** `undefined` where there is no metadata service: not an instance of EC2. */
  readonly cloud: readonly CloudInterface[] | undefined;
  /** Of an instance whose metadata have not been read yet: why. Nobody knows the networks that it is in. */
  readonly metadataFailure: string | undefined;
}

/** `auto`: split where the instance has a second interface, else direct. */
export const egressModes = ["auto", "direct", "split"] as const;
export type EgressMode = (typeof egressModes)[number];

/** AWS has no NAT66: `snat` lets IPv6 out by the ingress interface's own address. */
export const ipv6Exits = ["block", "snat"] as const;
export type Ipv6Exit = (typeof ipv6Exits)[number];

export interface ForwardingSettings {
  /** The tunnel's device. */
  readonly tunnel: string;
  /** The tunnel's UDP port. */
  readonly port: number;
  /** Other UDP ports that answer by the ingress interface: a relay's STUN. */
  readonly otherPorts: readonly number[];
  /** Whether exit traffic is carried at all, or only what goes to `advertised`. */
  readonly exit: boolean;
  /** What devices may reach here beside the internet. */
  readonly advertised: readonly Prefix[];
  readonly mode: EgressMode;
  readonly ipv6: Ipv6Exit;
  /** By name, MAC address or id of the cloud. */
  readonly ingressInterface: string | undefined;
  readonly egressInterface: string | undefined;
  /** Packets of this user go out by the ingress interface: the agent's own connections. */
  readonly ingressUid: number | undefined;
  readonly names: KernelNames;
}

/** By which several of us on one machine stay apart. */
export interface KernelNames {
  /** Of nftables, in the family inet. */
  readonly nftTable: string;
  /** Of routes. */
  readonly table: number;
  /** Of the first routing rule; the others follow. */
  readonly priority: number;
}

export const defaultNames: KernelNames = { nftTable: "sallyport", table: 51, priority: 5100 };
