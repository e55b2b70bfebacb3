/** What a stack costs a month before any traffic, from its Terraform JSON and the list prices. */
import { list, object, type CheckedResource, resourcesOf } from "../constructs/checks/check.ts";
import { userData } from "../constructs/checks/user-data.ts";
import { GP3_GIB_MONTH, HOURLY, HOURS_A_MONTH, INSTANCES, TRAFFIC } from "./prices.ts";

export interface CostLine {
  readonly what: string;
  readonly count: number;
  /** Dollars a month for all of them; undefined where no price is known. */
  readonly monthly: number | undefined;
}

export interface Estimate {
  readonly lines: readonly CostLine[];
  /** Of the lines whose price is known. */
  readonly total: number;
  /** Whether exit traffic goes through a NAT gateway, of this stack or another's, which costs by the GB. */
  readonly throughNatGateway: boolean;
  /** Dollars for a GB of exit traffic. */
  readonly exitTrafficGb: number;
}

export function estimate(json: Readonly<Record<string, unknown>>): Estimate {
  const resources = resourcesOf(json);
  const of = (type: string) => resources.filter((one) => one.type === type);
  const machines = [...of("aws_instance"), ...of("aws_launch_template")];
  const lines = [
    ...instanceLines(machines),
    line("public IPv4 address", publicAddresses(resources), hourly(HOURLY.publicIpv4)),
    line("NAT gateway", of("aws_nat_gateway").length, hourly(HOURLY.natGateway)),
    line("network load balancer", of("aws_lb").length, hourly(HOURLY.loadBalancer)),
    line("GiB of gp3 disk", diskGib(machines, of("aws_ebs_volume")), GP3_GIB_MONTH),
  ].filter(({ count }) => count > 0);
  const throughNatGateway = of("aws_nat_gateway").length > 0 || machines.some(leavesByAnother);
  return {
    lines,
    total: lines.reduce((sum, { monthly }) => sum + (monthly ?? 0), 0),
    throughNatGateway,
    exitTrafficGb: TRAFFIC.toInternet + (throughNatGateway ? TRAFFIC.throughNatGateway : 0),
  };
}

/** A node with an interface for the tunnel alone: its exit traffic takes the private subnet's way. */
function leavesByAnother({ attributes }: CheckedResource): boolean {
  return userData(attributes).includes('"egressMode": "split"');
}

function instanceLines(machines: readonly CheckedResource[]): readonly CostLine[] {
  const types = machines.map(({ attributes }) => String(attributes["instance_type"]));
  return [...new Set(types)].map((type) => {
    const price = INSTANCES[type];
    const count = types.filter((one) => one === type).length;
    return line(type, count, price === undefined ? undefined : hourly(price));
  });
}

/** An Elastic IP takes the place of the dynamic address. */
function publicAddresses(resources: readonly CheckedResource[]): number {
  const elastic = resources.filter(({ type }) => type === "aws_eip").length;
  const replaced = resources
    .filter(({ type }) => type === "aws_eip_association")
    .map(({ attributes }) => attributes["instance_id"])
    .filter((id) => typeof id === "string");
  const dynamic = resources.filter(({ type, address, attributes }) => {
    if (type === "aws_launch_template") {
      return list(attributes["network_interfaces"]).some(
        (one) => object(one)["associate_public_ip_address"] === "true",
      );
    }
    if (type !== "aws_instance" || attributes["associate_public_ip_address"] !== true) return false;
    return !replaced.some((id) => id.includes(`${address}.`));
  });
  return elastic + dynamic.length;
}

function diskGib(machines: readonly CheckedResource[], volumes: readonly CheckedResource[]): number {
  const own = machines.map(({ attributes }) => {
    const device = object(
      attributes["root_block_device"] ?? object(attributes["block_device_mappings"])["ebs"],
    );
    return Number(device["volume_size"] ?? 8);
  });
  const separate = volumes.map(({ attributes }) => Number(attributes["size"] ?? 1));
  return [...own, ...separate].reduce((sum, size) => sum + size, 0);
}

function hourly(price: number): number {
  return price * HOURS_A_MONTH;
}

function line(what: string, count: number, each: number | undefined): CostLine {
  return { what, count, monthly: each === undefined ? undefined : each * count };
}
