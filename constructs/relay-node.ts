import { Construct } from "constructs";
import type { Acme } from "./acme.ts";
import type { AgentBundle } from "./agent-bundle.ts";
import { type MachineProps } from "./agent-instance.ts";
import { CellIdentity } from "./cell-identity.ts";
import type { IngressAddress } from "./direct-ingress.ts";
import { HEALTH_TAG_FILTER } from "./health-tags.ts";
import { type DerpMapRegion, derpMapRegion, type RelayRegion, relaySettings } from "./relay-region.ts";
import { ServerMachine } from "./server-machine.ts";
import type { NodePlacement } from "./tunnel-network.ts";

export interface RelayNodeProps extends MachineProps {
  /** A `TunnelNetwork`, or `{ vpcId, publicSubnetId }` of what exists already. */
  readonly network: NodePlacement;
  /**
   * Its entry in the relay map.
   * @default region 900, "relay"
   */
  readonly region?: RelayRegion;
  /**
   * The agent.
   * @default it is on the image
   */
  readonly bundle?: AgentBundle;
  /**
   * The address stays: relay maps hold it. "dynamic" is not possible.
   * @default "elastic"
   */
  readonly address?: Exclude<IngressAddress, "dynamic">;
  /**
   * A certificate from a public authority, which looks for its proof at tcp/80: clients then need no pin, and stock Tailscale
   * clients can use it. Without a host name it is for the address.
   * @default a certificate of its own
   */
  readonly acme?: Acme;
  /**
   * Whether its key and certificate lie on a volume that outlives the instance: maps pin the certificate.
   * @default true with a bundle
   */
  readonly keepIdentity?: boolean;
  /**
   * @default false
   */
  readonly sessionManager?: boolean;
}

/** A relay (DERP over TLS on tcp/443, STUN on udp/3478) at an address that stays. */
export class RelayNode extends Construct {
  readonly instanceId: string;
  readonly publicIp: string;
  /** For a relay map. The agent adds the pin of its certificate. */
  readonly derpMapRegion: DerpMapRegion;
  readonly healthTagFilter = HEALTH_TAG_FILTER;

  constructor(scope: Construct, id: string, props: RelayNodeProps) {
    super(scope, id);
    const { region = {}, acme } = props;
    const keeps = props.keepIdentity ?? props.bundle !== undefined;
    const identity = keeps ? new CellIdentity(this, "Identity", { network: props.network }) : undefined;
    const machine = new ServerMachine(this, "Machine", {
      ...props,
      owner: "RelayNode",
      rules: { relay: true, acme: acme !== undefined },
      identity,
      told: (address) => ({ relay: relaySettings(region, address, acme) }),
    });
    this.instanceId = machine.instanceId;
    this.publicIp = machine.publicIp;
    this.derpMapRegion = derpMapRegion(region, machine.publicIp);
  }
}
