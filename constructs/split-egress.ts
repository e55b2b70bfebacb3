import { DataAwsNatGateway } from "@cdktf/provider-aws/lib/data-aws-nat-gateway/index.js";
import { Eip } from "@cdktf/provider-aws/lib/eip/index.js";
import { NatGateway } from "@cdktf/provider-aws/lib/nat-gateway/index.js";
import { Route } from "@cdktf/provider-aws/lib/route/index.js";
import type { ITerraformDependable } from "cdktf";
import { Construct } from "constructs";
import type { NodePlacement } from "./tunnel-network.ts";

/**
 * - `direct`: exit traffic leaves by the interface and the address that the tunnel comes in by.
 * - `nat-gateway`: it leaves by a NAT gateway that is made here, with an Elastic IP of its own.
 * - `existing-nat`: it leaves by the NAT gateway that the private subnet's route table leads to already.
 */
export type EgressMode = "direct" | "nat-gateway" | "existing-nat";

export interface SplitEgressProps {
  /** For anything but `direct` it must have a private subnet. */
  readonly network: NodePlacement;
  readonly mode: EgressMode;
  /**
   * The NAT gateway of `existing-nat`, to name its address in `publicIps`.
   * @default its address is not known here
   */
  readonly natGatewayId?: string;
}

/** By which address exit traffic reaches the internet. */
export class SplitEgress extends Construct {
  readonly mode: EgressMode;
  /** The subnet of the node's first interface. */
  readonly subnetId: string;
  /** The addresses that servers see; empty where only the node's own interface knows. */
  readonly publicIps: readonly string[];
  /** What must exist before a node reaches the internet this way. */
  readonly internetAccess: readonly ITerraformDependable[];

  constructor(scope: Construct, id: string, props: SplitEgressProps) {
    super(scope, id);
    const { network, mode } = props;
    this.mode = mode;
    if (props.natGatewayId !== undefined && mode !== "existing-nat") {
      throw new Error(
        `SplitEgress natGatewayId needs mode "existing-nat": set it, or leave natGatewayId out.`,
      );
    }
    if (mode === "direct") {
      this.subnetId = network.publicSubnetId;
      this.publicIps = [];
      this.internetAccess = network.internetAccess ?? [];
      return;
    }
    this.subnetId = privateSubnetOf(network, mode);
    checkZones(network);
    const waited = network.internetAccess ?? [];
    if (mode === "existing-nat") {
      this.publicIps =
        props.natGatewayId === undefined
          ? []
          : [new DataAwsNatGateway(this, "NatGateway", { id: props.natGatewayId }).publicIp];
      this.internetAccess = waited;
      return;
    }
    const { publicIp, route } = this.#natGateway(network, waited);
    this.publicIps = [publicIp];
    this.internetAccess = [...waited, route];
  }

  #natGateway(network: NodePlacement, dependsOn: readonly ITerraformDependable[]) {
    if (network.privateRouteTableId === undefined) {
      throw new Error(
        'SplitEgress network has no privateRouteTableId, which mode "nat-gateway" adds a route to: give it, or set mode to "existing-nat".',
      );
    }
    const address = new Eip(this, "Address", { domain: "vpc", tags: { Name: `${this.node.path}/nat` } });
    const gateway = new NatGateway(this, "NatGateway", {
      allocationId: address.id,
      subnetId: network.publicSubnetId,
      tags: { Name: this.node.path },
      dependsOn: [...dependsOn],
    });
    const route = new Route(this, "Ipv4Route", {
      routeTableId: network.privateRouteTableId,
      destinationCidrBlock: "0.0.0.0/0",
      natGatewayId: gateway.id,
    });
    return { publicIp: address.publicIp, route };
  }
}

function privateSubnetOf(network: NodePlacement, mode: EgressMode): string {
  if (network.privateSubnetId === undefined) {
    throw new Error(
      `SplitEgress mode "${mode}" needs a private subnet: give network.privateSubnetId, make the TunnelNetwork with privateSubnet, or set mode to "direct".`,
    );
  }
  return network.privateSubnetId;
}

/** Zones that are known only when it is deployed are compared then: see DirectIngress. */
function checkZones({ publicSubnetZone, privateSubnetZone }: NodePlacement): void {
  if (publicSubnetZone === undefined || privateSubnetZone === undefined) return;
  if (publicSubnetZone.includes("${") || privateSubnetZone.includes("${")) return;
  if (publicSubnetZone !== privateSubnetZone) {
    throw new Error(
      `SplitEgress network has its public subnet in ${publicSubnetZone} and its private one in ${privateSubnetZone}: an instance has all its interfaces in one zone, so give two subnets of one.`,
    );
  }
}
