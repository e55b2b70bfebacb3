import { Construct } from "constructs";
import type { Acme } from "./acme.ts";
import type { AgentBundle } from "./agent-bundle.ts";
import type { MachineProps } from "./agent-instance.ts";
import { checkedParameterName } from "./auth-key.ts";
import { CellIdentity } from "./cell-identity.ts";
import type { IngressAddress } from "./direct-ingress.ts";
import { given } from "./given.ts";
import { HEALTH_TAG_FILTER } from "./health-tags.ts";
import {
  derpMap,
  type DerpMapRegion,
  derpMapRegion,
  type RelayRegion,
  relaySettings,
} from "./relay-region.ts";
import { ServerMachine } from "./server-machine.ts";
import type { NodePlacement } from "./tunnel-network.ts";

export interface CoordinationNodeProps extends MachineProps {
  /** A `TunnelNetwork`, or `{ vpcId, publicSubnetId }` of what exists already. */
  readonly network: NodePlacement;
  /** The agent. Its start-up mounts the volume that holds the network's state. */
  readonly bundle: AgentBundle;
  /**
   * The DNS name by which nodes reach it.
   * @default its address, with a certificate of its own that the join token pins
   */
  readonly hostname?: string;
  /**
   * What the nodes' names end with.
   * @default the agent's own choice
   */
  readonly domain?: string;
  /**
   * The server is a relay, too, on the same tcp/443.
   * @default it is none
   */
  readonly relay?: RelayRegion;
  /**
   * The relays of the network, as `RelayNode` emits them. Not together with `relay`, which is then the only one.
   * @default none
   */
  readonly relays?: readonly DerpMapRegion[];
  /**
   * The parameter that it writes its join token to. It must exist.
   * @default the token stays on the instance
   */
  readonly joinParameterName?: string;
  /**
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
   * @default false
   */
  readonly sessionManager?: boolean;
}

/** A coordination server at an address that stays, whose state outlives the instance. */
export class CoordinationNode extends Construct {
  readonly instanceId: string;
  readonly publicIp: string;
  /** For `loginServer` of nodes. */
  readonly url: string;
  readonly identity: CellIdentity;
  readonly derpMapRegion: DerpMapRegion | undefined;
  readonly healthTagFilter = HEALTH_TAG_FILTER;

  constructor(scope: Construct, id: string, props: CoordinationNodeProps) {
    super(scope, id);
    const { relay, relays = [], hostname, acme } = props;
    if ((relay === undefined) === (relays.length === 0)) {
      throw new Error(
        "CoordinationNode relay or relays: give one of them, since nodes that can not connect directly need a relay.",
      );
    }
    if (acme !== undefined && relay?.hostname !== undefined && relay.hostname !== hostname) {
      throw new Error(
        "CoordinationNode relay.hostname is not hostname, and acme gets one certificate for one name: give both the same.",
      );
    }
    if (props.joinParameterName !== undefined) {
      checkedParameterName(props.joinParameterName, "CoordinationNode joinParameterName");
    }
    this.identity = new CellIdentity(this, "Identity", { network: props.network });
    const machine = new ServerMachine(this, "Machine", {
      ...props,
      owner: "CoordinationNode",
      rules: { coordination: true, relay: relay !== undefined, acme: acme !== undefined },
      identity: this.identity,
      told: (address) => ({
        coordination: {
          hostname: hostname ?? address,
          // One port has one certificate.
          ...(relay === undefined ? given({ acme }) : {}),
          ...given({ domain: props.domain, joinParameterName: props.joinParameterName }),
          ...(relays.length === 0 ? {} : { derpMap: JSON.stringify(derpMap(relays)) }),
        },
        ...(relay === undefined ? {} : { relay: relaySettings(named(relay, hostname), address, acme) }),
      }),
    });
    this.instanceId = machine.instanceId;
    this.publicIp = machine.publicIp;
    this.url = `https://${hostname ?? machine.publicIp}`;
    this.derpMapRegion =
      relay === undefined ? undefined : derpMapRegion(named(relay, hostname), machine.publicIp);
  }
}

/** Relay and coordination share a port, so they have one name. */
function named(relay: RelayRegion, hostname: string | undefined): RelayRegion {
  return hostname === undefined ? relay : { hostname, ...relay };
}
