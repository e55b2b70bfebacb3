import { SecurityGroup } from "@cdktf/provider-aws/lib/security-group/index.js";
import { VpcSecurityGroupEgressRule } from "@cdktf/provider-aws/lib/vpc-security-group-egress-rule/index.js";
import { VpcSecurityGroupIngressRule } from "@cdktf/provider-aws/lib/vpc-security-group-ingress-rule/index.js";
import type { ITerraformDependable } from "cdktf";
import { Construct } from "constructs";
import { checkedCidrBlock, checkedPort } from "./checked.ts";
import { tunnelPort } from "./tunnel-port.ts";

/**
 * What exit traffic may be: `web` is UDP and HTTPS, which the tunnel itself needs; `any` adds every other TCP port and
 * ICMP. `none` is for a group whose interface carries the tunnel alone, with exit traffic leaving by another one.
 */
export type ExitTraffic = "any" | "web" | "none";

export interface TunnelFirewallProps {
  readonly vpcId: string;
  /**
   * The UDP port that the tunnel is reached on, from 1 to 65535; false for a machine without a tunnel.
   * @default 41641
   */
  readonly port?: number | false;
  /**
   * Whether the tunnel may be reached directly. If not, no UDP comes in and none but STUN goes out, and every connection
   * stays on the relay: for testing that. (Closing the way in alone is not enough: a security group lets answers in, so
   * peers behind an easy NAT would still get through by sending at the same time.)
   * @default true
   */
  readonly openTunnelPort?: boolean;
  /**
   * Whether nothing comes in, for the interface that exit traffic leaves by while the tunnel comes in by another.
   * @default false
   */
  readonly closedInward?: boolean;
  /**
   * Whether clients find a relay here: HTTPS (tcp/443) and STUN (udp/3478) come in.
   * @default false
   */
  readonly relay?: boolean;
  /**
   * Whether nodes find their coordination server here: HTTPS (tcp/443) comes in.
   * @default false
   */
  readonly coordination?: boolean;
  /**
   * Whether tcp/80 comes in, where a certificate authority looks for the proof of a name.
   * @default false
   */
  readonly acme?: boolean;
  /**
   * A TCP port for a load balancer's health check, and the IPv4 range that the check comes from.
   * @default none
   */
  readonly healthCheck?: { readonly port: number; readonly from: string };
  /**
   * @default "web"
   */
  readonly exitTraffic?: ExitTraffic;
}

/** RFC 5389. */
export const STUN_PORT = 3478;
const HTTPS_PORT = 443;

const ANYWHERE = [
  { family: "Ipv4", source: { cidrIpv4: "0.0.0.0/0" } },
  { family: "Ipv6", source: { cidrIpv6: "::/0" } },
] as const;

interface Rule {
  readonly id: string;
  readonly description: string;
  readonly ipProtocol: "udp" | "tcp" | "icmp" | "icmpv6";
  /** Inclusive. ICMP has types instead, and −1 means all. */
  readonly ports: readonly [number, number];
  readonly family?: "Ipv4" | "Ipv6";
}

/**
 * Lets a node be reached for what it does, and nothing else.
 *
 * In: the tunnel's port, and the ports of what else it is. Out: UDP to any port, since peers sit behind any, and HTTPS for
 * relays, coordination and AWS. The rules are resources of their own: rules written inside the group would undo those
 * that others add to it.
 */
export class TunnelFirewall extends Construct {
  /** The tunnel's port, also where there is no tunnel. */
  readonly port: number;
  readonly securityGroupId: string;
  /** The rules that let traffic out: a node that is taken down needs them until it has logged out. */
  readonly waysOut: readonly ITerraformDependable[];

  constructor(scope: Construct, id: string, props: TunnelFirewallProps) {
    super(scope, id);
    this.port = tunnelPort(props.port === false ? undefined : props.port, "TunnelFirewall port");
    if (props.relay === true && props.port !== false && this.port === STUN_PORT) {
      throw new Error(
        `TunnelFirewall port is ${STUN_PORT}, where the relay answers STUN: give the tunnel another port.`,
      );
    }
    const group = new SecurityGroup(this, "SecurityGroup", {
      vpcId: props.vpcId,
      description: "Sallyport tunnel: direct connections in, UDP and HTTPS out",
      tags: { Name: this.node.path },
    });
    this.securityGroupId = group.id;
    for (const rule of rulesIn(props, this.port)) {
      for (const { family, source } of anywhere(rule)) {
        new VpcSecurityGroupIngressRule(this, `${rule.id}${family}`, {
          ...attributes(rule, group.id),
          ...source,
        });
      }
    }
    this.waysOut = rulesOut(props).flatMap((rule) =>
      anywhere(rule).map(
        ({ family, source }) =>
          new VpcSecurityGroupEgressRule(this, `${rule.id}${family}`, {
            ...attributes(rule, group.id),
            ...source,
          }),
      ),
    );
    if (props.healthCheck !== undefined) this.#healthCheck(props.healthCheck, group.id);
  }

  #healthCheck({ port, from }: { readonly port: number; readonly from: string }, groupId: string): void {
    new VpcSecurityGroupIngressRule(this, "HealthCheck", {
      securityGroupId: groupId,
      description: "The load balancer's health check",
      ipProtocol: "tcp",
      fromPort: checkedPort(port, "TunnelFirewall healthCheck.port"),
      toPort: port,
      cidrIpv4: checkedCidrBlock(from, {
        prop: "TunnelFirewall healthCheck.from",
        bits: [8, 32],
        example: "10.80.0.0/18",
      }),
    });
  }
}

function rulesIn(props: TunnelFirewallProps, port: number): readonly Rule[] {
  const isOpen = props.port !== false && (props.openTunnelPort ?? true) && props.closedInward !== true;
  const rules: (Rule | false)[] = [
    isOpen && {
      ...{ id: "Tunnel", description: "Tunnel: WireGuard, discovery and STUN" },
      ...{ ipProtocol: "udp", ports: [port, port] },
    },
    (props.relay === true || props.coordination === true) && {
      ...{ id: "HttpsIn", description: "Relay and coordination" },
      ...{ ipProtocol: "tcp", ports: [HTTPS_PORT, HTTPS_PORT] },
    },
    props.relay === true && {
      ...{ id: "StunIn", description: "STUN of the relay" },
      ...{ ipProtocol: "udp", ports: [STUN_PORT, STUN_PORT] },
    },
    props.acme === true && {
      ...{ id: "AcmeIn", description: "Proof of a name for its certificate (ACME)" },
      ...{ ipProtocol: "tcp", ports: [80, 80] },
    },
  ];
  return rules.filter((rule) => rule !== false);
}

function rulesOut(props: TunnelFirewallProps): readonly Rule[] {
  const hasTunnel = props.port !== false;
  const isOpen = hasTunnel && (props.openTunnelPort ?? true);
  const exitTraffic = props.exitTraffic ?? "web";
  const alsoExit = exitTraffic === "none" ? "" : ", exit traffic over UDP";
  const any = exitTraffic === "any";
  const rules: (Rule | false)[] = [
    hasTunnel && {
      ...{ id: "UdpOut", ipProtocol: "udp", ports: isOpen ? [0, 65535] : [STUN_PORT, STUN_PORT] },
      description: isOpen ? `Tunnel to peers at any port, STUN${alsoExit}` : "STUN",
    },
    any
      ? {
          ...{ id: "TcpOut", description: "Relays, coordination, AWS, exit traffic over TCP" },
          ...{ ipProtocol: "tcp", ports: [0, 65535] },
        }
      : {
          ...{ id: "HttpsOut", ipProtocol: "tcp", ports: [HTTPS_PORT, HTTPS_PORT] },
          description: `Relays, coordination, AWS${exitTraffic === "web" ? ", exit traffic over HTTPS" : ""}`,
        },
    any && {
      ...{ id: "IcmpOut", description: "Exit traffic: ping", ipProtocol: "icmp" },
      ...{ ports: [-1, -1], family: "Ipv4" },
    },
    any && {
      ...{ id: "IcmpOut", description: "Exit traffic: ping", ipProtocol: "icmpv6" },
      ...{ ports: [-1, -1], family: "Ipv6" },
    },
  ];
  return rules.filter((rule) => rule !== false);
}

function anywhere({ family }: Rule): readonly (typeof ANYWHERE)[number][] {
  return ANYWHERE.filter((one) => family === undefined || family === one.family);
}

function attributes({ description, ipProtocol, ports: [fromPort, toPort] }: Rule, securityGroupId: string) {
  return { securityGroupId, description, ipProtocol, fromPort, toPort };
}
