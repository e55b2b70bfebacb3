import type { ITerraformDependable } from "cdktf";
import { Construct } from "constructs";
import type { Acme } from "./acme.ts";
import type { AgentBundle } from "./agent-bundle.ts";
import { AgentInstance, type GroupSettings, type MachineProps } from "./agent-instance.ts";
import { AgentRole } from "./agent-role.ts";
import { type AgentUserDataProps, renderAgentUserData } from "./agent-user-data.ts";
import type { AuthKey } from "./auth-key.ts";
import { CellIdentity } from "./cell-identity.ts";
import { DirectIngress, type IngressAddress } from "./direct-ingress.ts";
import { given } from "./given.ts";
import { HEALTH_TAG_FILTER } from "./health-tags.ts";
import {
  checkBundle,
  derpMapRegion,
  type DerpMapRegion,
  type RelayRegion,
  relaySettings,
} from "./relay-region.ts";
import type { SharedIngress, SharedPort } from "./shared-ingress.ts";
import { type EgressMode, SplitEgress } from "./split-egress.ts";
import { type ExitTraffic, TunnelFirewall } from "./tunnel-firewall.ts";
import type { NodePlacement } from "./tunnel-network.ts";
import { tunnelPort } from "./tunnel-port.ts";

export interface ExitNodeProps extends MachineProps {
  /** A `TunnelNetwork`, or `{ vpcId, publicSubnetId }` of what exists already. */
  readonly network: NodePlacement;
  /**
   * The UDP port that the tunnel is reached on, from 1 to 65535.
   * @default 41641
   */
  readonly port?: number;
  /**
   * Whether the tunnel may be reached directly. If not, every connection stays on the relay: for testing that.
   * @default true
   */
  readonly openTunnelPort?: boolean;
  /**
   * The address that the tunnel is reached at.
   * @default "dynamic"; "elastic" with an egress of its own, and for a relay or coordination server
   */
  readonly address?: IngressAddress;
  /**
   * How exit traffic leaves.
   * @default "direct"
   */
  readonly egress?: EgressMode;
  /**
   * The NAT gateway of egress "existing-nat", to name its address in the outputs.
   * @default not known here
   */
  readonly natGatewayId?: string;
  /**
   * What devices may do through the node.
   * @default "any"
   */
  readonly exitTraffic?: ExitTraffic;
  /**
   * The agent. One `AgentBundle` can serve all nodes of a stack.
   * @default it is on the image; not for `selfHealing`, `coordination` and `keepIdentity`
   */
  readonly bundle?: AgentBundle;
  /**
   * The coordination server, as https://ADDRESS.
   * @default whatever the agent on the image is set up for; with `coordination` the node's own
   */
  readonly loginServer?: string;
  /**
   * The key to join `loginServer` with.
   * @default none
   */
  readonly authKey?: AuthKey;
  /**
   * The node's name in the network: letters, digits and hyphens.
   * @default the instance's host name
   */
  readonly hostname?: string;
  /**
   * The node is a relay, too, on tcp/443 and udp/3478.
   * @default it is none
   */
  readonly relay?: RelayRegion;
  /**
   * The node is the coordination server of its network, too, on tcp/443.
   * @default it is not
   */
  readonly coordination?: ExitNodeCoordination;
  /**
   * A certificate from a public authority for its relay and coordination server: clients then need no pin, and stock Tailscale
   * clients can join. Without `relay.hostname` it is for the address.
   * @default a certificate of its own
   */
  readonly acme?: Acme;
  /**
   * One public address for several hosts, each with a `port` of its own. Exit traffic leaves as `egress` says.
   * @default an address of its own
   */
  readonly sharedIngress?: SharedIngress;
  /**
   * Whether its keys and store lie on a volume that outlives the instance: a replaced one is still the same device to all others,
   * and needs no key to join again.
   * @default true with a bundle
   */
  readonly keepIdentity?: boolean;
  /**
   * Whether an instance that fails is replaced by itself: an autoscaling group takes the instance's place.
   * @default false
   */
  readonly selfHealing?: boolean;
  /**
   * Whether Session Manager may open a shell on it.
   * @default false
   */
  readonly sessionManager?: boolean;
}

export interface ExitNodeCoordination {
  /**
   * The parameter that the node writes its join token to. It must exist.
   * @default the token stays on the node
   */
  readonly joinParameterName?: string;
  /**
   * What the nodes' names end with.
   * @default the agent's own choice
   */
  readonly domain?: string;
}

/**
 * A node with a public address, through which other devices reach the internet.
 *
 * By default traffic comes in and leaves by its one interface; with another `egress` the tunnel comes in by an interface of
 * its own. EC2's source/destination check stays on: exit traffic is masqueraded, so what leaves the instance bears its
 * own address.
 */
export class ExitNode extends Construct {
  /** Undefined for a self-healing node. */
  readonly instanceId: string | undefined;
  /** Where peers reach it. Undefined for a self-healing node with a dynamic address. */
  readonly publicIp: string | undefined;
  /** The addresses that exit traffic leaves by; empty where they are known only to AWS. */
  readonly egressPublicIps: readonly string[];
  readonly port: number;
  readonly firewall: TunnelFirewall;
  /** Of the interface that exit traffic leaves by: what rules of yours let in for devices behind the node. */
  readonly egressSecurityGroupId: string;
  readonly ingress: DirectIngress;
  readonly identity: CellIdentity | undefined;
  readonly role: AgentRole | undefined;
  /** Where it is a coordination server: what others take as `loginServer`. */
  readonly loginServer: string | undefined;
  /** Where it is a relay: its region for a relay map. The agent adds the pin of its certificate. */
  readonly derpMapRegion: DerpMapRegion | undefined;
  /** For `aws ec2 describe-instances --filters`: the instances on which an agent reports. */
  readonly healthTagFilter = HEALTH_TAG_FILTER;

  constructor(scope: Construct, id: string, props: ExitNodeProps) {
    super(scope, id);
    const shape = shapeOf(props);
    checkBundle(props, "ExitNode");
    const port = tunnelPort(props.port, "ExitNode port");
    const shared = props.sharedIngress?.forward(this.node.path, port);
    const egress = new SplitEgress(this, "Egress", {
      network: props.network,
      mode: shape.egress,
      ...given({ natGatewayId: props.natGatewayId }),
    });
    this.ingress = this.#ingress(props, shape, shared);
    this.firewall = this.ingress.firewall;
    this.port = this.firewall.port;
    this.identity = shape.keepsIdentity
      ? new CellIdentity(this, "Identity", { network: props.network })
      : undefined;
    const group = props.selfHealing === true ? groupSettings(this) : undefined;
    this.role = this.#role(props, group);
    const outward = shape.isSplit ? this.#egressFirewall(props) : this.firewall;
    this.egressSecurityGroupId = outward.securityGroupId;
    const machine = new AgentInstance(this, "Machine", {
      ...given({
        architecture: props.architecture,
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
        tags: props.tags,
      }),
      owner: "ExitNode",
      subnetId: egress.subnetId,
      securityGroupId: this.egressSecurityGroupId,
      publicAddress: !shape.isSplit,
      userData: renderAgentUserData(this.#told(props, group, shared, shape.isSplit ? egress : undefined)),
      instanceProfileName: this.role?.instanceProfileName,
      ingressInterfaceId: this.ingress.networkInterfaceId,
      group,
      ...given({ targetGroupArn: shared?.targetGroupArn }),
      dependsOn: this.#neededToTheEnd(egress, outward),
    });
    this.#join(machine);
    this.instanceId = machine.instance?.id;
    if (shared !== undefined && this.instanceId !== undefined) {
      props.sharedIngress?.attach(port, this.instanceId, shared.targetGroupArn);
    }
    const own = this.ingress.publicIp ?? machine.instance?.publicIp;
    this.publicIp = props.sharedIngress?.publicIp ?? own;
    this.egressPublicIps = shape.isSplit ? egress.publicIps : own === undefined ? [] : [own];
    this.loginServer =
      props.coordination === undefined
        ? undefined
        : `https://${props.relay?.hostname ?? this.#fixedIp("coordination")}`;
    this.derpMapRegion =
      props.relay === undefined ? undefined : derpMapRegion(props.relay, this.#fixedIp("relay"));
  }

  #ingress(props: ExitNodeProps, shape: Shape, shared: SharedPort | undefined): DirectIngress {
    return new DirectIngress(this, "Ingress", {
      network: props.network,
      address: shape.address,
      separateInterface: shape.isSplit,
      ...given({ port: props.port, openTunnelPort: props.openTunnelPort }),
      relay: props.relay !== undefined,
      coordination: props.coordination !== undefined,
      acme: props.acme !== undefined,
      exitTraffic: shape.isSplit ? "none" : (props.exitTraffic ?? "any"),
      ...given({ healthCheck: shared?.healthCheck }),
    });
  }

  /** Of the interface that exit traffic leaves by: nothing comes in. */
  #egressFirewall({ network, exitTraffic }: ExitNodeProps): TunnelFirewall {
    return new TunnelFirewall(this, "EgressFirewall", {
      vpcId: network.vpcId,
      openTunnelPort: true,
      closedInward: true,
      exitTraffic: exitTraffic ?? "any",
    });
  }

  /** It is told of its end when that begins, and then lets go and logs out: not without rights or a way out. */
  #neededToTheEnd(egress: SplitEgress, outward: TunnelFirewall): readonly ITerraformDependable[] {
    const all = [
      ...egress.internetAccess,
      ...this.ingress.waysOut,
      ...outward.waysOut,
      ...(this.role?.rights ?? []),
    ];
    return [...new Set(all)];
  }

  /** None where nothing is to be allowed: a node without an agent of ours keeps to what its image does. */
  #role(props: ExitNodeProps, group: GroupSettings | undefined): AgentRole | undefined {
    const { bundle, authKey, coordination, sessionManager } = props;
    if (bundle === undefined && authKey === undefined && sessionManager !== true) return undefined;
    return new AgentRole(this, "Role", {
      bundle,
      authKey,
      joinParameterName: coordination?.joinParameterName,
      sessionManager,
      ...(group === undefined
        ? {}
        : {
            cell: {
              autoScalingGroupName: group.name,
              networkInterfaceId: this.ingress.networkInterfaceId,
              volumeId: this.identity?.volumeId,
            },
          }),
    });
  }

  #told(
    props: ExitNodeProps,
    group: GroupSettings | undefined,
    shared: SharedPort | undefined,
    egress: SplitEgress | undefined,
  ): AgentUserDataProps {
    const { bundle, authKey, relay, coordination, acme } = props;
    return {
      port: this.port,
      advertiseExitNode: true,
      egressMode: egress === undefined ? "direct" : "split",
      ...given({
        healthTags: this.role === undefined ? undefined : true,
        loginServer: props.loginServer,
        endpoint: shared?.endpoint,
        healthCheckPort: shared?.healthCheck.port,
        hostname: props.hostname,
        authKeySource: authKey?.source,
        bundle: bundle?.location,
        relay: relay === undefined ? undefined : relaySettings(relay, this.#fixedIp("relay"), acme),
        coordination:
          coordination === undefined
            ? undefined
            : {
                hostname: relay?.hostname ?? this.#fixedIp("coordination"),
                ...(relay === undefined ? given({ acme }) : {}),
                ...coordination,
              },
        identityVolumeId: this.identity?.volumeId,
        egressAddresses: egress === undefined || egress.publicIps.length === 0 ? undefined : egress.publicIps,
        cell:
          group === undefined
            ? undefined
            : {
                autoScalingGroup: group.name,
                launchHook: group.launchHook,
                terminateHook: group.terminateHook,
                ingressInterfaceId: this.ingress.networkInterfaceId,
                identityVolumeId: this.identity?.volumeId,
              },
      }),
    };
  }

  #join({ instance }: AgentInstance): void {
    if (instance === undefined) return;
    this.ingress.associate(instance.id);
    this.identity?.attach(instance.id);
  }

  #fixedIp(role: string): string {
    const ip = this.ingress.publicIp;
    if (ip === undefined) {
      throw new Error(`ExitNode address is "dynamic" and ${role} needs one that stays: set it to "elastic".`);
    }
    return ip;
  }
}

interface Shape {
  readonly egress: EgressMode;
  readonly isSplit: boolean;
  readonly address: IngressAddress;
  readonly keepsIdentity: boolean;
}

function shapeOf(props: ExitNodeProps): Shape {
  const { egress = "direct", coordination, relay, selfHealing = false } = props;
  const isSplit = egress !== "direct";
  const serves = relay !== undefined || coordination !== undefined;
  const address = props.address ?? (isSplit || serves ? "elastic" : "dynamic");
  if (selfHealing && !isSplit && address !== "dynamic") {
    throw new Error(
      'ExitNode selfHealing moves a fixed address with an interface of its own: set egress to "nat-gateway" or "existing-nat", or address to "dynamic".',
    );
  }
  if (props.acme !== undefined && !serves) {
    throw new Error(
      "ExitNode acme is for a relay or coordination server: give relay or coordination, or leave acme out.",
    );
  }
  if (props.sharedIngress !== undefined && (serves || isSplit || address !== "dynamic")) {
    throw new Error(
      "ExitNode sharedIngress forwards the tunnel's port alone, to the node's one interface: leave relay, coordination and address out, and egress \"direct\".",
    );
  }
  if (coordination !== undefined && props.loginServer !== undefined) {
    throw new Error(
      "ExitNode coordination makes the node its own server: leave loginServer out, or leave coordination out.",
    );
  }
  if (props.authKey !== undefined && props.loginServer === undefined) {
    throw new Error("ExitNode authKey is given without loginServer: name the server that the key is for.");
  }
  const keepsIdentity = props.keepIdentity ?? props.bundle !== undefined;
  checkNeedsBundle(props);
  return { egress, isSplit, address, keepsIdentity };
}

/** On an image there is the agent, and not what our start-up does around it. */
function checkNeedsBundle({ bundle, selfHealing, coordination, keepIdentity }: ExitNodeProps): void {
  if (bundle !== undefined) return;
  const needs: readonly (readonly [boolean, string])[] = [
    [selfHealing === true, "selfHealing"],
    [coordination !== undefined, "coordination"],
    [keepIdentity === true, "keepIdentity"],
  ];
  const [, prop] = needs.find(([isSet]) => isSet) ?? [];
  if (prop === undefined) return;
  throw new Error(
    `ExitNode ${prop} needs bundle: only its start-up mounts the volume and takes over from the node before it: give an AgentBundle, or leave ${prop} out.`,
  );
}

/** The group is named here, since the role names it before it is made. */
function groupSettings(scope: Construct): GroupSettings {
  const name = `sallyport-${scope.node.addr.slice(-12)}`;
  return { name, launchHook: `${name}-launch`, terminateHook: `${name}-terminate` };
}
