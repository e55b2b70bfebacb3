/** VPCs, subnets with the routes that hold for them, and security groups. */
import { UsageError } from "../../agent/src/base/errors.ts";
import {
  asNumber,
  asObjects,
  asText,
  type Attributes,
  optionalText,
  type Value,
} from "../terraform-values.ts";
import type { Route, RouteTarget, RulePeer, SecurityGroup, SecurityRule, Subnet, Vpc } from "./model.ts";
import { prefixAt, type Resources, type StackResource } from "./resources.ts";

export function readVpcs(resources: Resources): readonly Vpc[] {
  return resources.of("aws_vpc").map((vpc) => ({
    id: vpc.id,
    address: vpc.address,
    stack: vpc.stack,
    stackIndex: vpc.stackIndex,
    region: vpc.region,
    cidr: prefixAt(vpc.values["cidr_block"], `${vpc.address}.cidr_block`),
    ipv6:
      vpc.values["assign_generated_ipv6_cidr_block"] === true
        ? prefixAt(generatedIpv6(vpc), `${vpc.address}.ipv6_cidr_block`)
        : undefined,
  }));
}

export function readSubnets(resources: Resources, vpcs: readonly Vpc[]): readonly Subnet[] {
  return resources.of("aws_subnet").map((subnet) => {
    const { values, address, id } = subnet;
    const vpc = vpcs.find((one) => one.id === values["vpc_id"]);
    if (vpc === undefined) {
      resources.get("aws_vpc", values["vpc_id"], subnet, "VPC");
      throw new UsageError("lab-stack", `${address} is in a VPC that isn't in this stack`);
    }
    if (vpc.region !== subnet.region) {
      throw new UsageError("lab-stack", `${address} is in ${subnet.region}, and its VPC in ${vpc.region}`);
    }
    const ipv6 = optionalText(values["ipv6_cidr_block"]);
    return {
      id,
      address,
      vpc,
      zone: optionalText(values["availability_zone"]) ?? `${subnet.region}a`,
      cidr: prefixAt(values["cidr_block"], `${address}.cidr_block`),
      ipv6: ipv6 === undefined ? undefined : prefixAt(ipv6, `${address}.ipv6_cidr_block`),
      publicAddressAtLaunch: values["map_public_ip_on_launch"] === true,
      ipv6AtLaunch: values["assign_ipv6_address_on_creation"] === true,
      routes: readRoutes(resources, subnet),
    };
  });
}

export function readSecurityGroups(resources: Resources): readonly SecurityGroup[] {
  return resources.of("aws_security_group").map((group) => ({
    id: group.id,
    address: group.address,
    name: optionalText(group.values["name"]) ?? group.name,
    ingress: readRules(resources, "ingress", group),
    egress: readRules(resources, "egress", group),
  }));
}

/** The fixture's, or what an existing VPC is said to have. */
const generatedIpv6 = (vpc: StackResource): Value | undefined =>
  vpc.values["ipv6_cidr_block"] ?? vpc.generatedIpv6;

function readRoutes(resources: Resources, subnet: StackResource): readonly Route[] {
  const tables = resources
    .of("aws_route_table_association")
    .filter((association) => association.values["subnet_id"] === subnet.id)
    .map((association) =>
      resources.get("aws_route_table", association.values["route_table_id"], association, "route table"),
    );
  const inline = tables.flatMap((table) =>
    asObjects(table.values["route"]).map((route) => readRoute(resources, table, route)),
  );
  const separate = resources
    .of("aws_route")
    .filter((route) => tables.some((table) => table.id === route.values["route_table_id"]))
    .map((route) => readRoute(resources, route, route.values));
  return [...inline, ...separate];
}

function readRoute(resources: Resources, owner: StackResource, values: Attributes): Route {
  const written =
    values["destination_cidr_block"] ??
    values["cidr_block"] ??
    values["destination_ipv6_cidr_block"] ??
    values["ipv6_cidr_block"];
  return { destination: prefixAt(written, owner.address), target: readTarget(resources, owner, values) };
}

function readTarget(resources: Resources, owner: StackResource, values: Attributes): RouteTarget {
  const target = (key: string, type: string, what: string): string | undefined => {
    const id = optionalText(values[key]);
    return id === undefined ? undefined : resources.get(type, id, owner, what).id;
  };
  if (target("gateway_id", "aws_internet_gateway", "internet gateway") !== undefined)
    return { kind: "internet" };
  if (
    target("egress_only_gateway_id", "aws_egress_only_internet_gateway", "egress-only gateway") !== undefined
  )
    return { kind: "egress-only" };
  const nat = target("nat_gateway_id", "aws_nat_gateway", "NAT gateway");
  if (nat !== undefined) return { kind: "nat", id: nat };
  const through = target("network_interface_id", "aws_network_interface", "network interface");
  if (through !== undefined) return { kind: "interface", id: through };
  throw new UsageError(
    "lab-stack",
    `${owner.address} leads to something the lab doesn't know: only internet, NAT and egress-only gateways and network interfaces`,
  );
}

function readRules(
  resources: Resources,
  direction: "ingress" | "egress",
  group: StackResource,
): SecurityRule[] {
  if (asObjects(group.values[direction]).length > 0) {
    throw new UsageError(
      "lab-stack",
      `${group.address} has inline ${direction} rules; the lab reads aws_vpc_security_group_${direction}_rule resources`,
    );
  }
  return resources
    .of(`aws_vpc_security_group_${direction}_rule`)
    .filter((rule) => rule.values["security_group_id"] === group.id)
    .map((rule) => securityRule(resources, rule));
}

function securityRule(resources: Resources, rule: StackResource): SecurityRule {
  const { address, values } = rule;
  const protocol = asText(values["ip_protocol"] ?? "-1");
  if (protocol.startsWith("icmp") && asNumber(values["from_port"], -1) >= 0) {
    throw new UsageError(
      "lab-stack",
      `${address} is for one type of ICMP; the lab knows only all of ICMP (from_port -1)`,
    );
  }
  const [from, to] = [asNumber(values["from_port"], -1), asNumber(values["to_port"], -1)];
  const hasPorts = (protocol === "udp" || protocol === "tcp") && from >= 0;
  return {
    address,
    protocol: protocol === "-1" ? "all" : protocol,
    ports: hasPorts ? { from, to } : undefined,
    peer: rulePeer(resources, rule),
  };
}

function rulePeer(resources: Resources, rule: StackResource): RulePeer {
  const { values, address } = rule;
  const group = optionalText(values["referenced_security_group_id"]);
  if (group !== undefined) {
    return { kind: "group", id: resources.get("aws_security_group", group, rule, "security group").id };
  }
  const cidr = optionalText(values["cidr_ipv4"]) ?? optionalText(values["cidr_ipv6"]);
  if (cidr === undefined) {
    throw new UsageError(
      "lab-stack",
      `${address} names its peer by something other than cidr_ipv4, cidr_ipv6 or referenced_security_group_id`,
    );
  }
  return { kind: "prefix", prefix: prefixAt(cidr, address) };
}
