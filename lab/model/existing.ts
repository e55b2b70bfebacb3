/** A network that is there before the stacks, as a scenario describes it, in the form of resources. */
import type { Attributes } from "../terraform-values.ts";
import type { StackResource } from "./resources.ts";

export interface ExistingNetwork {
  readonly vpc: { readonly id: string; readonly cidr: string };
  readonly subnets: readonly {
    readonly id: string;
    readonly cidr: string;
    readonly zone: string;
    /** Its route table leads to an internet gateway; else to the NAT gateway, if there is one. */
    readonly public: boolean;
  }[];
  readonly natGateway?: { readonly id?: string | undefined; readonly publicIp: string } | undefined;
}

const INTERNET_GATEWAY = "igw-existing";
const NAT_ADDRESS = "eipalloc-existing";
const DEFAULT_NAT = "nat-existing";

/** @param region of the stacks that are put into it */
export function existingResources(network: ExistingNetwork, region: string): readonly StackResource[] {
  const resource = (type: string, id: string, values: Attributes, publicIp?: string): StackResource => ({
    ...{ type, id, name: id, address: `existing ${id}`, values: { id, ...values } },
    ...{ stack: "existing", stackIndex: 0, region },
    ...{ arn: undefined, publicIp, generatedIpv6: undefined },
  });
  const { vpc, subnets, natGateway } = network;
  const vpcId = { vpc_id: vpc.id };
  const nat = natGateway?.id ?? DEFAULT_NAT;
  const [publicSubnet] = subnets.filter((one) => one.public);
  return [
    resource("aws_vpc", vpc.id, { cidr_block: vpc.cidr }),
    resource("aws_internet_gateway", INTERNET_GATEWAY, vpcId),
    ...(natGateway === undefined || publicSubnet === undefined
      ? []
      : [
          resource("aws_eip", NAT_ADDRESS, {}, natGateway.publicIp),
          resource("aws_nat_gateway", nat, {
            subnet_id: publicSubnet.id,
            allocation_id: NAT_ADDRESS,
            public_ip: natGateway.publicIp,
          }),
        ]),
    ...subnets.flatMap(({ id, cidr, zone, public: isPublic }) => [
      resource("aws_subnet", id, {
        ...vpcId,
        cidr_block: cidr,
        availability_zone: zone,
        map_public_ip_on_launch: isPublic,
      }),
      resource("aws_route_table", `rtb-${id}`, vpcId),
      resource("aws_route_table_association", `rtbassoc-${id}`, {
        subnet_id: id,
        route_table_id: `rtb-${id}`,
      }),
      ...routeOf(isPublic, natGateway === undefined ? undefined : nat).map((to) =>
        resource("aws_route", `r-${id}`, {
          route_table_id: `rtb-${id}`,
          destination_cidr_block: "0.0.0.0/0",
          ...to,
        }),
      ),
    ]),
  ];
}

function routeOf(isPublic: boolean, nat: string | undefined): readonly Attributes[] {
  if (isPublic) return [{ gateway_id: INTERNET_GATEWAY }];
  return nat === undefined ? [] : [{ nat_gateway_id: nat }];
}
