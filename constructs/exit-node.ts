import { Instance } from "@cdktf/provider-aws/lib/instance/index.js";
import { Construct } from "constructs";
import { renderAgentUserData } from "./agent-user-data.ts";
import { HEALTH_TAG_CHANGES, HEALTH_TAG_FILTER } from "./health-tags.ts";
import { amazonLinux, type Architecture, SMALLEST_INSTANCE } from "./machine-image.ts";
import { TunnelFirewall } from "./tunnel-firewall.ts";
import type { NodePlacement } from "./tunnel-network.ts";

export interface ExitNodeProps {
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
   * The processor: it must fit `instanceType` and `machineImageId`.
   * @default "arm64"
   */
  readonly architecture?: Architecture;
  /**
   * @default "t4g.nano", or "t3.nano" for x86_64
   */
  readonly instanceType?: string;
  /**
   * An image that has the agent and its systemd unit, such as "ami-0123456789abcdef0".
   * @default the newest Amazon Linux 2023; a newer one replaces the node at the next deploy
   */
  readonly machineImageId?: string;
  /**
   * The coordination server, as https://ADDRESS.
   * @default whatever the agent on the image is set up for
   */
  readonly loginServer?: string;
  /**
   * The node's name in the network: letters, digits and hyphens.
   * @default the instance's host name
   */
  readonly hostname?: string;
  /**
   * Tags of the instance, beside those that the agent writes.
   * @default only a Name
   */
  readonly tags?: Readonly<Record<string, string>>;
}

/**
 * One instance with a public address, through which other devices reach the internet.
 *
 * Traffic comes in and leaves by its one interface. EC2's source/destination check stays on: exit traffic is masqueraded,
 * so what leaves the instance bears its own address.
 */
export class ExitNode extends Construct {
  readonly instanceId: string;
  readonly publicIp: string;
  readonly port: number;
  readonly firewall: TunnelFirewall;
  /** For `aws ec2 describe-instances --filters`: the instances on which an agent reports. */
  readonly healthTagFilter = HEALTH_TAG_FILTER;

  constructor(scope: Construct, id: string, props: ExitNodeProps) {
    super(scope, id);
    const architecture = props.architecture ?? "arm64";
    const instanceType = props.instanceType ?? SMALLEST_INSTANCE[architecture];
    checkArchitecture(instanceType, architecture);
    this.firewall = new TunnelFirewall(this, "Firewall", { vpcId: props.network.vpcId, ...portProps(props) });
    this.port = this.firewall.port;
    const instance = new Instance(this, "Instance", {
      ami: machineImage(this, props.machineImageId, architecture),
      instanceType,
      subnetId: props.network.publicSubnetId,
      vpcSecurityGroupIds: [this.firewall.securityGroupId],
      associatePublicIpAddress: true,
      sourceDestCheck: true,
      metadataOptions: { httpEndpoint: "enabled", httpTokens: "required", httpPutResponseHopLimit: 1 },
      rootBlockDevice: { encrypted: true, volumeType: "gp3", deleteOnTermination: true },
      userData: renderAgentUserData({
        port: this.port,
        advertiseExitNode: true,
        ...(props.loginServer === undefined ? {} : { loginServer: props.loginServer }),
        ...(props.hostname === undefined ? {} : { hostname: props.hostname }),
      }),
      userDataReplaceOnChange: true,
      tags: { Name: this.node.path, ...props.tags },
      lifecycle: { ignoreChanges: [...HEALTH_TAG_CHANGES] },
      dependsOn: [...(props.network.internetAccess ?? [])],
    });
    this.instanceId = instance.id;
    this.publicIp = instance.publicIp;
  }
}

function portProps(props: ExitNodeProps): Pick<ExitNodeProps, "port" | "openTunnelPort"> {
  return {
    ...(props.port === undefined ? {} : { port: props.port }),
    ...(props.openTunnelPort === undefined ? {} : { openTunnelPort: props.openTunnelPort }),
  };
}

function machineImage(scope: Construct, given: string | undefined, architecture: Architecture): string {
  if (given === undefined) return amazonLinux(scope, "AmazonLinux", architecture);
  if (given === "") {
    throw new Error(
      'ExitNode machineImageId is empty: give an image such as "ami-0123456789abcdef0", or leave it out.',
    );
  }
  return given;
}

/** AWS marks its own processors with a "g" after the generation: t4g, c7gn, r8gd; "a1" is older than the rule. */
function checkArchitecture(instanceType: string, architecture: Architecture): void {
  const [, family = ""] = /^([a-z0-9-]+)\.[a-z0-9-]+$/.exec(instanceType) ?? [];
  if (family === "") return; // a reference, known only when it is deployed
  const built: Architecture = family === "a1" || /^[a-z]+\d+g/.test(family) ? "arm64" : "x86_64";
  if (built !== architecture) {
    throw new Error(
      `ExitNode instanceType ${instanceType} is ${built} and architecture is ${architecture}: set architecture to "${built}", or choose a type such as ${SMALLEST_INSTANCE[architecture]}.`,
    );
  }
}
