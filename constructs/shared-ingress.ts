import { DataAwsSubnet } from "@cdktf/provider-aws/lib/data-aws-subnet/index.js";
import { Eip } from "@cdktf/provider-aws/lib/eip/index.js";
import { LbListener } from "@cdktf/provider-aws/lib/lb-listener/index.js";
import { LbTargetGroupAttachment } from "@cdktf/provider-aws/lib/lb-target-group-attachment/index.js";
import { LbTargetGroup } from "@cdktf/provider-aws/lib/lb-target-group/index.js";
import { Lb } from "@cdktf/provider-aws/lib/lb/index.js";
import { Construct } from "constructs";
import { checkedPort } from "./checked.ts";
import type { NodePlacement } from "./tunnel-network.ts";

export interface SharedIngressProps {
  readonly network: NodePlacement;
  /**
   * The TCP port by which the load balancer asks a host whether it is well; the agent listens there while its node is up.
   * @default 41640
   */
  readonly healthCheckPort?: number;
}

/** A host's place behind the address, before the host is made. */
export interface SharedPort {
  /** ADDRESS:PORT, which the host announces to its peers. */
  readonly endpoint: string;
  readonly targetGroupArn: string;
  /** For the host's firewall and its agent. */
  readonly healthCheck: { readonly port: number; readonly from: string };
}

/** Beside the tunnel's default port. */
const DEFAULT_HEALTH_CHECK_PORT = 41640;

/**
 * One public address for several hosts, which peers tell apart by the UDP port: a network load balancer forwards each host's
 * own port to it and keeps the client's address. Give it to each `ExitNode` as `sharedIngress`.
 */
export class SharedIngress extends Construct {
  readonly publicIp: string;
  readonly healthCheckPort: number;
  /** The range that health checks come from. */
  readonly healthCheckSource: string;
  readonly #vpcId: string;
  readonly #balancer: Lb;
  readonly #names = new Map<number, string>();

  constructor(scope: Construct, id: string, props: SharedIngressProps) {
    super(scope, id);
    const { network } = props;
    this.healthCheckPort = checkedPort(
      props.healthCheckPort ?? DEFAULT_HEALTH_CHECK_PORT,
      "SharedIngress healthCheckPort",
    );
    const address = new Eip(this, "Address", { domain: "vpc", tags: { Name: this.node.path } });
    this.#balancer = new Lb(this, "LoadBalancer", {
      loadBalancerType: "network",
      internal: false,
      subnetMapping: [{ subnetId: network.publicSubnetId, allocationId: address.id }],
      tags: { Name: this.node.path },
      dependsOn: [...(network.internetAccess ?? [])],
    });
    this.#vpcId = network.vpcId;
    this.publicIp = address.publicIp;
    this.healthCheckSource = new DataAwsSubnet(this, "Subnet", { id: network.publicSubnetId }).cidrBlock;
  }

  /** A port of the address for one host. @throws Error where another host has it */
  forward(name: string, port: number): SharedPort {
    checkedPort(port, "SharedIngress port");
    const other = this.#names.get(port);
    if (other !== undefined) {
      throw new Error(
        `SharedIngress port ${port} is asked for by "${name}" and is that of "${other}": behind one address each host needs a port of its own.`,
      );
    }
    this.#names.set(port, name);
    const group = new LbTargetGroup(this, `Target-${port}`, {
      vpcId: this.#vpcId,
      port,
      protocol: "UDP",
      targetType: "instance",
      preserveClientIp: "true",
      // UDP itself has no health to ask for.
      healthCheck: { protocol: "TCP", port: String(this.healthCheckPort) },
      tags: { Name: name },
    });
    new LbListener(this, `Listener-${port}`, {
      loadBalancerArn: this.#balancer.arn,
      port,
      protocol: "UDP",
      defaultAction: [{ type: "forward", targetGroupArn: group.arn }],
    });
    return {
      endpoint: `${this.publicIp}:${port}`,
      targetGroupArn: group.arn,
      healthCheck: { port: this.healthCheckPort, from: this.healthCheckSource },
    };
  }

  /** For a single host; the hosts of an autoscaling group are attached by the group. */
  attach(port: number, instanceId: string, targetGroupArn: string): void {
    new LbTargetGroupAttachment(this, `Attachment-${port}`, { targetGroupArn, targetId: instanceId, port });
  }
}
