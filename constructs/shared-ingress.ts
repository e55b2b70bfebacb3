import { DataAwsSubnet } from "@cdktf/provider-aws/lib/data-aws-subnet/index.js";
import { Eip } from "@cdktf/provider-aws/lib/eip/index.js";
import { LbListener } from "@cdktf/provider-aws/lib/lb-listener/index.js";
import { LbTargetGroupAttachment } from "@cdktf/provider-aws/lib/lb-target-group-attachment/index.js";
import { LbTargetGroup } from "@cdktf/provider-aws/lib/lb-target-group/index.js";
import { Lb } from "@cdktf/provider-aws/lib/lb/index.js";
import { Construct } from "constructs";
import { checkedPort } from "./checked.ts";
import type { NodePlacement } from "./tunnel-network.ts";

export interface SharedIngressHost {
  /** A name for it in this construct: letters, digits and hyphens. */
  readonly name: string;
  readonly instanceId: string;
  /** The UDP port of its tunnel: the one behind the shared address too, so each host needs its own. */
  readonly port: number;
}

export interface SharedIngressProps {
  readonly network: NodePlacement;
  readonly hosts: readonly SharedIngressHost[];
  /**
   * The TCP port that says that a host is well. Its security group must let the load balancer's subnet in: see
   * `healthCheck` of `TunnelFirewall` and `healthCheckSource` here.
   * @default 443
   */
  readonly healthCheckPort?: number;
}

/** One public address for several hosts, which peers tell apart by the UDP port. The client's own address is kept. */
export class SharedIngress extends Construct {
  readonly publicIp: string;
  /** ADDRESS:PORT by name: what each host announces as its endpoint, in the order of `hosts`. */
  readonly endpoints: readonly { readonly name: string; readonly endpoint: string }[];
  /** The range that health checks come from. */
  readonly healthCheckSource: string;

  constructor(scope: Construct, id: string, props: SharedIngressProps) {
    super(scope, id);
    checkHosts(props.hosts);
    const healthCheckPort = checkedPort(props.healthCheckPort ?? 443, "SharedIngress healthCheckPort");
    const { network } = props;
    const address = new Eip(this, "Address", { domain: "vpc", tags: { Name: this.node.path } });
    const balancer = new Lb(this, "LoadBalancer", {
      loadBalancerType: "network",
      internal: false,
      subnetMapping: [{ subnetId: network.publicSubnetId, allocationId: address.id }],
      tags: { Name: this.node.path },
      dependsOn: [...(network.internetAccess ?? [])],
    });
    for (const host of props.hosts) this.#forward(host, balancer, network.vpcId, healthCheckPort);
    this.publicIp = address.publicIp;
    this.endpoints = props.hosts.map(({ name, port }) => ({ name, endpoint: `${address.publicIp}:${port}` }));
    this.healthCheckSource = new DataAwsSubnet(this, "Subnet", { id: network.publicSubnetId }).cidrBlock;
  }

  #forward(host: SharedIngressHost, balancer: Lb, vpcId: string, healthCheckPort: number): void {
    const group = new LbTargetGroup(this, `Target-${host.name}`, {
      vpcId,
      port: host.port,
      protocol: "UDP",
      targetType: "instance",
      preserveClientIp: "true",
      // UDP itself has no health to ask for.
      healthCheck: { protocol: "TCP", port: String(healthCheckPort) },
      tags: { Name: `${this.node.path}/${host.name}` },
    });
    new LbTargetGroupAttachment(this, `Attachment-${host.name}`, {
      targetGroupArn: group.arn,
      targetId: host.instanceId,
      port: host.port,
    });
    new LbListener(this, `Listener-${host.name}`, {
      loadBalancerArn: balancer.arn,
      port: host.port,
      protocol: "UDP",
      defaultAction: [{ type: "forward", targetGroupArn: group.arn }],
    });
  }
}

function checkHosts(hosts: readonly SharedIngressHost[]): void {
  if (hosts.length === 0) throw new Error("SharedIngress hosts is empty: give at least one host.");
  hosts.forEach(({ name, port }, i) => {
    checkedPort(port, `SharedIngress hosts[${i}].port`);
    const other = hosts.findIndex((host) => host.port === port);
    if (other !== i) {
      throw new Error(
        `SharedIngress hosts[${i}].port is ${port}, as hosts[${other}]'s: behind one address each host needs a port of its own.`,
      );
    }
    if (!/^[a-zA-Z0-9-]{1,40}$/.test(name) || hosts.findIndex((host) => host.name === name) !== i) {
      throw new Error(
        `SharedIngress hosts[${i}].name is "${name}": give letters, digits and hyphens, and each host another.`,
      );
    }
  });
}
