/** What the operator chooses of how the traffic of others leaves; the rest is found out. */
import type { Ip } from "../../base/address.ts";
import type { EgressMode, Ipv6Exit } from "../../core/exit/facts.ts";

export interface ForwardingChoices {
  /** @default auto */
  readonly egressMode: EgressMode | undefined;
  /** @default those that the cloud tells of the interface */
  readonly egressAddresses: readonly Ip[] | undefined;
  /** @default block */
  readonly ipv6Exit: Ipv6Exit | undefined;
  /** By name, MAC address or the cloud's id. */
  readonly ingressInterface: string | undefined;
  readonly egressInterface: string | undefined;
  /** The daemon's own connections leave by the ingress interface. It must not run as root. @default false */
  readonly controlByIngress: boolean | undefined;
  /** @default sallyport */
  readonly nftTable: string | undefined;
}
