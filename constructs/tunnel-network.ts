import { InternetGateway } from "@cdktf/provider-aws/lib/internet-gateway/index.js";
import { RouteTable } from "@cdktf/provider-aws/lib/route-table/index.js";
import { RouteTableAssociation } from "@cdktf/provider-aws/lib/route-table-association/index.js";
import { Route } from "@cdktf/provider-aws/lib/route/index.js";
import { Subnet } from "@cdktf/provider-aws/lib/subnet/index.js";
import { Vpc } from "@cdktf/provider-aws/lib/vpc/index.js";
import { Fn, type ITerraformDependable } from "cdktf";
import { Construct } from "constructs";

/** Where a node is put: a `TunnelNetwork`, or the ids of what exists already. */
export interface NodePlacement {
  readonly vpcId: string;
  /** A subnet whose route table leads to an internet gateway. */
  readonly publicSubnetId: string;
  /**
   * What must exist before a node can reach the internet.
   * @default nothing to wait for
   */
  readonly internetAccess?: readonly ITerraformDependable[];
}

export interface TunnelNetworkProps {
  /**
   * The IPv4 range of the VPC, /16 to /24; the public subnet is its first quarter.
   * @default "10.80.0.0/16"
   */
  readonly cidrBlock?: string;
  /**
   * The zone of the public subnet, such as "eu-west-1a".
   * @default AWS chooses one
   */
  readonly availabilityZone?: string;
}

const DEFAULT_CIDR_BLOCK = "10.80.0.0/16";
/** The public subnet takes a quarter, so that private ones and a second zone find room later. */
const PUBLIC_SUBNET_BITS = 2;
/** Amazon gives a VPC a /56 and wants /64 subnets. */
const IPV6_SUBNET_BITS = 8;

/** A VPC with IPv4 and IPv6, and one public subnet whose nodes get public addresses of both kinds. */
export class TunnelNetwork extends Construct implements NodePlacement {
  readonly vpcId: string;
  readonly publicSubnetId: string;
  readonly internetAccess: readonly ITerraformDependable[];

  constructor(scope: Construct, id: string, props: TunnelNetworkProps = {}) {
    super(scope, id);
    const name = this.node.path;
    const cidrBlock = checkedCidrBlock(props.cidrBlock ?? DEFAULT_CIDR_BLOCK);
    const vpc = new Vpc(this, "Vpc", {
      cidrBlock,
      assignGeneratedIpv6CidrBlock: true,
      enableDnsSupport: true,
      enableDnsHostnames: true,
      tags: { Name: name },
    });
    const subnet = new Subnet(this, "PublicSubnet", {
      vpcId: vpc.id,
      cidrBlock: Fn.cidrsubnet(cidrBlock, PUBLIC_SUBNET_BITS, 0),
      ipv6CidrBlock: Fn.cidrsubnet(vpc.ipv6CidrBlock, IPV6_SUBNET_BITS, 0),
      mapPublicIpOnLaunch: true,
      assignIpv6AddressOnCreation: true,
      ...(props.availabilityZone === undefined ? {} : { availabilityZone: props.availabilityZone }),
      tags: { Name: `${name}/public` },
    });
    this.vpcId = vpc.id;
    this.publicSubnetId = subnet.id;
    this.internetAccess = this.#routeToInternet(vpc, subnet, name);
  }

  #routeToInternet(vpc: Vpc, subnet: Subnet, name: string): readonly ITerraformDependable[] {
    const gateway = new InternetGateway(this, "InternetGateway", { vpcId: vpc.id, tags: { Name: name } });
    const routeTable = new RouteTable(this, "PublicRouteTable", {
      vpcId: vpc.id,
      tags: { Name: `${name}/public` },
    });
    const toInternet = { routeTableId: routeTable.id, gatewayId: gateway.id };
    return [
      new Route(this, "PublicIpv4Route", { ...toInternet, destinationCidrBlock: "0.0.0.0/0" }),
      new Route(this, "PublicIpv6Route", { ...toInternet, destinationIpv6CidrBlock: "::/0" }),
      new RouteTableAssociation(this, "PublicRouteTableAssociation", {
        subnetId: subnet.id,
        routeTableId: routeTable.id,
      }),
    ];
  }
}

function checkedCidrBlock(cidrBlock: string): string {
  const [, address = "", bits = ""] = /^(\d{1,3}(?:\.\d{1,3}){3})\/(\d{1,2})$/.exec(cidrBlock) ?? [];
  const octetsFit = address.split(".").every((octet) => Number(octet) <= 255);
  if (address === "" || !octetsFit || Number(bits) < 16 || Number(bits) > 24) {
    throw new Error(
      `TunnelNetwork cidrBlock is "${cidrBlock}": give an IPv4 range from /16 to /24, such as "${DEFAULT_CIDR_BLOCK}".`,
    );
  }
  return cidrBlock;
}
