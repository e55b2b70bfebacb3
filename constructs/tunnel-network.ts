import { EgressOnlyInternetGateway } from "@cdktf/provider-aws/lib/egress-only-internet-gateway/index.js";
import { InternetGateway } from "@cdktf/provider-aws/lib/internet-gateway/index.js";
import { RouteTable } from "@cdktf/provider-aws/lib/route-table/index.js";
import { RouteTableAssociation } from "@cdktf/provider-aws/lib/route-table-association/index.js";
import { Route } from "@cdktf/provider-aws/lib/route/index.js";
import { Subnet } from "@cdktf/provider-aws/lib/subnet/index.js";
import { Vpc } from "@cdktf/provider-aws/lib/vpc/index.js";
import { Fn, type ITerraformDependable } from "cdktf";
import { Construct } from "constructs";
import { checkedCidrBlock } from "./checked.ts";
import { SMALLEST_INSTANCE } from "./machine-image.ts";
import { zoneOfType } from "./zone-of-type.ts";

/** Where a node is put: a `TunnelNetwork`, or the ids of what exists already. */
export interface NodePlacement {
  readonly vpcId: string;
  /** A subnet whose route table leads to an internet gateway. */
  readonly publicSubnetId: string;
  /**
   * The zone of the public subnet, such as "eu-west-1a".
   * @default it is looked up where it is needed
   */
  readonly publicSubnetZone?: string | undefined;
  /**
   * A subnet of the same zone, whose nodes have no public address. A node with separate egress needs one.
   * @default none
   */
  readonly privateSubnetId?: string | undefined;
  /**
   * The zone of the private subnet: it must be that of the public one, since an instance has all its interfaces in one.
   * @default it is looked up where it is needed
   */
  readonly privateSubnetZone?: string | undefined;
  /**
   * The route table of the private subnet, for a NAT gateway that is made here.
   * @default none
   */
  readonly privateRouteTableId?: string | undefined;
  /**
   * What must exist before a node can reach the internet.
   * @default nothing to wait for
   */
  readonly internetAccess?: readonly ITerraformDependable[];
}

/** A VPC that exists, in which the subnets are made. */
export interface ExistingVpc {
  readonly vpcId: string;
  /** The gateway that is attached to it: a VPC can have only one. */
  readonly internetGatewayId: string;
  /** An IPv4 range of the VPC that no other subnet has, such as "10.0.200.0/24". */
  readonly publicCidrBlock: string;
  /**
   * Likewise for the private subnet.
   * @default none, and then there can be no private subnet
   */
  readonly privateCidrBlock?: string;
}

export interface TunnelNetworkProps {
  /**
   * A VPC that exists.
   * @default a VPC is made
   */
  readonly vpc?: ExistingVpc;
  /**
   * The IPv4 range of the VPC that is made, /16 to /24; the public subnet is its first quarter, the private one its second.
   * @default "10.80.0.0/16"
   */
  readonly cidrBlock?: string;
  /**
   * The zone of the subnets, such as "eu-west-1a".
   * @default the first that has `instanceType`; subnets that exist stay where they are
   */
  readonly availabilityZone?: string;
  /**
   * The type of the nodes in it: not every zone has every one.
   * @default "t4g.nano", the nodes' own default
   */
  readonly instanceType?: string;
  /**
   * Whether there is a private subnet, for nodes whose exit traffic leaves by another address than the tunnel's. Over
   * IPv6 it reaches out by an egress-only gateway; over IPv4 by what `SplitEgress` brings.
   * @default false
   */
  readonly privateSubnet?: boolean;
}

const DEFAULT_CIDR_BLOCK = "10.80.0.0/16";
/** What AWS takes for a VPC, and leaves room for its subnets. */
export const CIDR_BLOCK_RULE = { bits: [16, 24], example: DEFAULT_CIDR_BLOCK } as const;
/** Each subnet takes a quarter, so that a second zone finds room later. */
const SUBNET_BITS = 2;
/** Amazon gives a VPC a /56 and wants /64 subnets. */
const IPV6_SUBNET_BITS = 8;

/** What subnets are made in. */
interface Space {
  readonly vpcId: string;
  readonly internetGatewayId: string;
  readonly publicCidrBlock: string;
  readonly privateCidrBlock: string | undefined;
  /** The IPv6 range; an existing VPC's is not asked for. */
  readonly ipv6CidrBlock: string | undefined;
}

interface PrivateSubnet {
  readonly subnetId: string;
  readonly routeTableId: string;
  readonly waysOut: readonly ITerraformDependable[];
}

/** A VPC with IPv4 and IPv6, a public subnet whose nodes get public addresses of both kinds, and at wish a private one. */
export class TunnelNetwork extends Construct implements NodePlacement {
  readonly vpcId: string;
  readonly publicSubnetId: string;
  readonly publicSubnetZone: string;
  readonly internetAccess: readonly ITerraformDependable[];
  readonly privateSubnetId: string | undefined;
  readonly privateSubnetZone: string | undefined;
  readonly privateRouteTableId: string | undefined;

  constructor(scope: Construct, id: string, props: TunnelNetworkProps = {}) {
    super(scope, id);
    const space = props.vpc === undefined ? this.#newVpc(props) : existingSpace(props.vpc, props.cidrBlock);
    const subnet = this.#publicSubnet(space, props);
    this.vpcId = space.vpcId;
    this.publicSubnetId = subnet.id;
    this.publicSubnetZone = subnet.availabilityZone;
    const waysOut = this.#routeToInternet(space, subnet);
    this.internetAccess = waysOut;
    if (props.privateSubnet !== true) return;
    const made = this.#privateSubnet(space, subnet.availabilityZone);
    this.privateSubnetId = made.subnetId;
    this.privateSubnetZone = subnet.availabilityZone;
    this.privateRouteTableId = made.routeTableId;
    this.internetAccess = [...waysOut, ...made.waysOut];
  }

  #newVpc(props: TunnelNetworkProps): Space {
    const cidrBlock = checkedCidrBlock(props.cidrBlock ?? DEFAULT_CIDR_BLOCK, {
      prop: "TunnelNetwork cidrBlock",
      ...CIDR_BLOCK_RULE,
    });
    const vpc = new Vpc(this, "Vpc", {
      cidrBlock,
      assignGeneratedIpv6CidrBlock: true,
      enableDnsSupport: true,
      enableDnsHostnames: true,
      tags: { Name: this.node.path },
    });
    const gateway = new InternetGateway(this, "InternetGateway", {
      vpcId: vpc.id,
      tags: { Name: this.node.path },
    });
    return {
      vpcId: vpc.id,
      internetGatewayId: gateway.id,
      publicCidrBlock: Fn.cidrsubnet(cidrBlock, SUBNET_BITS, 0),
      privateCidrBlock: Fn.cidrsubnet(cidrBlock, SUBNET_BITS, 1),
      ipv6CidrBlock: vpc.ipv6CidrBlock,
    };
  }

  #publicSubnet(space: Space, { availabilityZone, instanceType }: TunnelNetworkProps): Subnet {
    const ipv6 =
      space.ipv6CidrBlock === undefined
        ? {}
        : {
            ipv6CidrBlock: Fn.cidrsubnet(space.ipv6CidrBlock, IPV6_SUBNET_BITS, 0),
            assignIpv6AddressOnCreation: true,
          };
    return new Subnet(this, "PublicSubnet", {
      vpcId: space.vpcId,
      cidrBlock: space.publicCidrBlock,
      mapPublicIpOnLaunch: true,
      ...ipv6,
      availabilityZone:
        availabilityZone ?? zoneOfType(this, "Zones", instanceType ?? SMALLEST_INSTANCE.arm64),
      ...(availabilityZone === undefined ? { lifecycle: { ignoreChanges: ["availability_zone"] } } : {}),
      tags: { Name: `${this.node.path}/public` },
    });
  }

  #routeToInternet(space: Space, subnet: Subnet): readonly ITerraformDependable[] {
    const routeTable = new RouteTable(this, "PublicRouteTable", {
      vpcId: space.vpcId,
      tags: { Name: `${this.node.path}/public` },
    });
    const toInternet = { routeTableId: routeTable.id, gatewayId: space.internetGatewayId };
    return [
      new Route(this, "PublicIpv4Route", { ...toInternet, destinationCidrBlock: "0.0.0.0/0" }),
      new Route(this, "PublicIpv6Route", { ...toInternet, destinationIpv6CidrBlock: "::/0" }),
      new RouteTableAssociation(this, "PublicRouteTableAssociation", {
        subnetId: subnet.id,
        routeTableId: routeTable.id,
      }),
    ];
  }

  #privateSubnet(space: Space, zone: string): PrivateSubnet {
    if (space.privateCidrBlock === undefined) {
      throw new Error(
        'TunnelNetwork privateSubnet is asked for and vpc.privateCidrBlock is missing: give a free range such as "10.0.201.0/24".',
      );
    }
    const tags = { Name: `${this.node.path}/private` };
    const ipv6 =
      space.ipv6CidrBlock === undefined
        ? {}
        : {
            ipv6CidrBlock: Fn.cidrsubnet(space.ipv6CidrBlock, IPV6_SUBNET_BITS, 1),
            assignIpv6AddressOnCreation: true,
          };
    const subnet = new Subnet(this, "PrivateSubnet", {
      vpcId: space.vpcId,
      cidrBlock: space.privateCidrBlock,
      availabilityZone: zone,
      mapPublicIpOnLaunch: false,
      ...ipv6,
      tags,
    });
    const routeTable = new RouteTable(this, "PrivateRouteTable", { vpcId: space.vpcId, tags });
    const association = new RouteTableAssociation(this, "PrivateRouteTableAssociation", {
      subnetId: subnet.id,
      routeTableId: routeTable.id,
    });
    const made = { subnetId: subnet.id, routeTableId: routeTable.id };
    if (space.ipv6CidrBlock === undefined) return { ...made, waysOut: [association] };
    const gateway = new EgressOnlyInternetGateway(this, "EgressOnlyGateway", { vpcId: space.vpcId, tags });
    const route = new Route(this, "PrivateIpv6Route", {
      routeTableId: routeTable.id,
      destinationIpv6CidrBlock: "::/0",
      egressOnlyGatewayId: gateway.id,
    });
    return { ...made, waysOut: [association, route] };
  }
}

function existingSpace(vpc: ExistingVpc, cidrBlock: string | undefined): Space {
  if (cidrBlock !== undefined) {
    throw new Error("TunnelNetwork cidrBlock is for a VPC that is made: leave it out, or leave out vpc.");
  }
  const subnetRange = { bits: [16, 28], example: "10.0.200.0/24" } as const;
  return {
    vpcId: vpc.vpcId,
    internetGatewayId: vpc.internetGatewayId,
    publicCidrBlock: checkedCidrBlock(vpc.publicCidrBlock, {
      prop: "TunnelNetwork vpc.publicCidrBlock",
      ...subnetRange,
    }),
    privateCidrBlock:
      vpc.privateCidrBlock === undefined
        ? undefined
        : checkedCidrBlock(vpc.privateCidrBlock, {
            prop: "TunnelNetwork vpc.privateCidrBlock",
            ...subnetRange,
          }),
    ipv6CidrBlock: undefined,
  };
}
