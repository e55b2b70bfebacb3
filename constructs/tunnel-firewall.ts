import { SecurityGroup } from "@cdktf/provider-aws/lib/security-group/index.js";
import { VpcSecurityGroupEgressRule } from "@cdktf/provider-aws/lib/vpc-security-group-egress-rule/index.js";
import { VpcSecurityGroupIngressRule } from "@cdktf/provider-aws/lib/vpc-security-group-ingress-rule/index.js";
import { Construct } from "constructs";
import { tunnelPort } from "./tunnel-port.ts";

export interface TunnelFirewallProps {
  readonly vpcId: string;
  /**
   * The UDP port that the tunnel is reached on, from 1 to 65535.
   * @default 41641
   */
  readonly port?: number;
  /**
   * Whether the tunnel may be reached directly. If not, no UDP comes in and none but STUN goes out, and every connection
   * stays on the relay: for testing that. (Closing the way in alone is not enough: a security group lets answers in, so
   * peers behind an easy NAT would still get through by sending at the same time.)
   * @default true
   */
  readonly openTunnelPort?: boolean;
}

const STUN_PORT = 3478;
const ANYWHERE = [
  { family: "Ipv4", source: { cidrIpv4: "0.0.0.0/0" } },
  { family: "Ipv6", source: { cidrIpv6: "::/0" } },
] as const;

/**
 * Lets a node be reached by a direct connection, and nothing else.
 *
 * In: the tunnel's port. Out: UDP to any port, since peers sit behind any, and HTTPS for relays, coordination and AWS.
 * The rules are resources of their own: rules written inside the group would undo those that others add to it.
 */
export class TunnelFirewall extends Construct {
  readonly port: number;
  readonly securityGroupId: string;

  constructor(scope: Construct, id: string, props: TunnelFirewallProps) {
    super(scope, id);
    this.port = tunnelPort(props.port, "TunnelFirewall port");
    const group = new SecurityGroup(this, "SecurityGroup", {
      vpcId: props.vpcId,
      description: "Sallyport tunnel: direct connections in, UDP and HTTPS out",
      tags: { Name: this.node.path },
    });
    this.securityGroupId = group.id;
    const isOpen = props.openTunnelPort ?? true;
    for (const { family, source } of ANYWHERE) {
      if (isOpen) {
        new VpcSecurityGroupIngressRule(this, `Tunnel${family}`, {
          securityGroupId: group.id,
          description: "Tunnel: WireGuard, discovery and STUN",
          ipProtocol: "udp",
          fromPort: this.port,
          toPort: this.port,
          ...source,
        });
      }
      new VpcSecurityGroupEgressRule(this, `UdpOut${family}`, {
        securityGroupId: group.id,
        description: isOpen ? "Tunnel to peers at any port, STUN, exit traffic over UDP" : "STUN",
        ipProtocol: "udp",
        fromPort: isOpen ? 0 : STUN_PORT,
        toPort: isOpen ? 65535 : STUN_PORT,
        ...source,
      });
      new VpcSecurityGroupEgressRule(this, `HttpsOut${family}`, {
        securityGroupId: group.id,
        description: "Relays, coordination, AWS, exit traffic over HTTPS",
        ipProtocol: "tcp",
        fromPort: 443,
        toPort: 443,
        ...source,
      });
    }
  }
}
