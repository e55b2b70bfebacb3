/**
 * What the resources of a stack mean for packets: networks, subnets, routes, addresses and security groups, as typed values
 * that topology.ts turns into namespaces. Resources the lab doesn't rebuild are listed in `notModelled`, never skipped silently.
 */
import { Ip, Prefix } from "../agent/src/base/address.ts";
import { ParseError, UsageError } from "../agent/src/base/errors.ts";
import type { TerraformDocument } from "./terraform.ts";
import type { Attributes, Resource, Value } from "./terraform-values.ts";

export interface CloudModel {
  readonly instances: readonly CloudInstance[];
  readonly vpcs: readonly CloudVpc[];
  /** Addresses of the resources that have no counterpart in the lab. */
  readonly notModelled: readonly string[];
}

export interface CloudVpc {
  readonly address: string;
  readonly cidr: Prefix;
}

export interface CloudSubnet {
  readonly address: string;
  readonly vpc: CloudVpc;
  readonly cidr: Prefix;
  /** The route table sends 0.0.0.0/0 to an attached internet gateway. */
  readonly internet: boolean;
}

export interface CloudInstance {
  readonly address: string;
  readonly subnet: CloudSubnet;
  readonly privateIp: Ip;
  /** Gets a dynamic public address at launch. */
  readonly publicAddress: boolean;
  readonly sourceDestCheck: boolean;
  readonly ingress: readonly SecurityRule[];
  readonly egress: readonly SecurityRule[];
  readonly userData: string;
  readonly tags: Readonly<Record<string, string>>;
}

export interface SecurityRule {
  readonly address: string;
  /** A name that nftables knows, or "all". */
  readonly protocol: string;
  /** Both inclusive; undefined for all ports and for protocols that have none. */
  readonly ports: { readonly from: number; readonly to: number } | undefined;
  readonly peer: Prefix;
}

/** @throws UsageError naming the resource when the stack contradicts itself or asks for what the lab can't do */
export function readCloud(document: TerraformDocument): CloudModel {
  return new CloudReader(document).read();
}

/** Types that are understood. */
const MODELLED = new Set([
  "aws_vpc",
  "aws_subnet",
  "aws_internet_gateway",
  "aws_route_table",
  "aws_route",
  "aws_route_table_association",
  "aws_security_group",
  "aws_vpc_security_group_ingress_rule",
  "aws_vpc_security_group_egress_rule",
  "aws_instance",
]);

/** AWS keeps the first four addresses of a subnet; the lab's instances start higher, as a person would number them. */
const FIRST_HOST = 10;

class CloudReader {
  readonly #all: readonly (Resource & { readonly values: Attributes })[];
  readonly #notModelled: readonly string[];

  constructor(document: TerraformDocument) {
    const [modelled, others] = [true, false].map((known) =>
      document.resources.filter((resource) => MODELLED.has(resource.type) === known),
    );
    this.#all = (modelled ?? []).map((resource) => ({ ...resource, values: document.attributes(resource) }));
    this.#notModelled = (others ?? []).map((resource) => resource.address);
  }

  read(): CloudModel {
    const vpcs = this.#of("aws_vpc").map((vpc) => ({
      address: vpc.address,
      cidr: prefix(vpc.values["cidr_block"], `${vpc.address}.cidr_block`),
    }));
    const subnets = this.#of("aws_subnet").map((subnet): CloudSubnet => {
      const vpc = vpcs.find((one) => one.address === subnet.values["vpc_id"]);
      if (vpc === undefined)
        throw new UsageError("lab-stack", `${subnet.address} is in a VPC that isn't in this stack`);
      const cidr = prefix(subnet.values["cidr_block"], `${subnet.address}.cidr_block`);
      return { address: subnet.address, vpc, cidr, internet: this.#reachesInternet(subnet.address, vpc) };
    });
    const instances = this.#of("aws_instance").map((one, i) =>
      this.#instance(one.address, one.values, subnets, i),
    );
    if (instances.length === 0)
      throw new UsageError("lab-stack", "the stack has no instance to build a lab around");
    return { instances, vpcs, notModelled: this.#notModelled };
  }

  #of(type: string): readonly (Resource & { readonly values: Attributes })[] {
    return this.#all.filter((resource) => resource.type === type);
  }

  #reachesInternet(subnet: string, vpc: CloudVpc): boolean {
    const tables = this.#of("aws_route_table_association")
      .filter((association) => association.values["subnet_id"] === subnet)
      .map((association) => association.values["route_table_id"]);
    const gateways = this.#of("aws_internet_gateway")
      .filter((gateway) => gateway.values["vpc_id"] === vpc.address)
      .map((gateway) => gateway.address);
    const separate = this.#of("aws_route")
      .filter((route) => tables.includes(route.values["route_table_id"] ?? null))
      .map((route) => [route.values["destination_cidr_block"], route.values["gateway_id"]] as const);
    const inline = this.#of("aws_route_table")
      .filter((table) => tables.includes(table.address))
      .flatMap((table) => objects(table.values["route"]))
      .map((route) => [route["cidr_block"], route["gateway_id"]] as const);
    return [...separate, ...inline].some(
      ([destination, gateway]) => destination === "0.0.0.0/0" && gateways.includes(text(gateway)),
    );
  }

  #instance(
    address: string,
    values: Attributes,
    subnets: readonly CloudSubnet[],
    index: number,
  ): CloudInstance {
    const subnet = subnets.find((one) => one.address === values["subnet_id"]);
    if (subnet === undefined)
      throw new UsageError("lab-stack", `${address} is in a subnet that isn't in this stack`);
    const groups = strings(values["vpc_security_group_ids"]);
    const foreign = groups.find(
      (id) => !this.#of("aws_security_group").some((group) => group.address === id),
    );
    if (foreign !== undefined) {
      throw new UsageError(
        "lab-stack",
        `${address} has the security group ${foreign}, which isn't in this stack`,
      );
    }
    const written = values["private_ip"];
    const byDefault = this.#of("aws_subnet").find((one) => one.address === subnet.address)?.values;
    return {
      address,
      subnet,
      privateIp: typeof written === "string" ? Ip.parse(written) : nthHost(subnet.cidr, FIRST_HOST + index),
      publicAddress:
        (values["associate_public_ip_address"] ?? byDefault?.["map_public_ip_on_launch"]) === true,
      sourceDestCheck: values["source_dest_check"] !== false,
      ingress: this.#rules("ingress", groups),
      egress: this.#rules("egress", groups),
      userData: userData(values),
      tags: Object.fromEntries(
        Object.entries(object(values["tags"])).map(([key, value]) => [key, text(value)]),
      ),
    };
  }

  #rules(direction: "ingress" | "egress", groups: readonly string[]): SecurityRule[] {
    for (const group of this.#of("aws_security_group")) {
      if (objects(group.values[direction]).length === 0) continue;
      throw new UsageError(
        "lab-stack",
        `${group.address} has inline ${direction} rules; the lab reads aws_vpc_security_group_${direction}_rule resources`,
      );
    }
    return this.#of(`aws_vpc_security_group_${direction}_rule`)
      .filter((rule) => groups.includes(text(rule.values["security_group_id"])))
      .map((rule) => securityRule(rule.address, rule.values));
  }
}

function securityRule(address: string, values: Attributes): SecurityRule {
  const protocol = text(values["ip_protocol"] ?? "-1");
  const peer = values["cidr_ipv4"] ?? values["cidr_ipv6"];
  if (typeof peer !== "string") {
    throw new UsageError(
      "lab-stack",
      `${address} names its peer by something other than cidr_ipv4 or cidr_ipv6`,
    );
  }
  if (protocol.startsWith("icmp") && Number(values["from_port"] ?? -1) >= 0) {
    throw new UsageError(
      "lab-stack",
      `${address} is for one type of ICMP; the lab knows only all of ICMP (from_port -1)`,
    );
  }
  const [from, to] = [Number(values["from_port"] ?? -1), Number(values["to_port"] ?? -1)];
  const hasPorts = (protocol === "udp" || protocol === "tcp") && from >= 0;
  return {
    address,
    protocol: protocol === "-1" ? "all" : protocol,
    ports: hasPorts ? { from, to } : undefined,
    peer: prefix(peer, address),
  };
}

function userData(values: Attributes): string {
  const [plain, encoded] = [values["user_data"], values["user_data_base64"]];
  if (typeof plain === "string") return plain;
  return typeof encoded === "string" ? Buffer.from(encoded, "base64").toString("utf8") : "";
}

function nthHost(cidr: Prefix, n: number): Ip {
  const bytes = cidr.ip.bytes.slice();
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) + n;
  return Ip.fromBytes(bytes);
}

function prefix(value: Value | undefined, place: string): Prefix {
  try {
    return Prefix.parse(typeof value === "string" ? value : "");
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new UsageError("lab-stack", `${place}: ${error.message}`);
  }
}

function object(value: Value | undefined): Attributes {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Attributes) : {};
}

function objects(value: Value | undefined): Attributes[] {
  return Array.isArray(value) ? (value as readonly Value[]).map(object) : [];
}

function strings(value: Value | undefined): string[] {
  return Array.isArray(value) ? (value as readonly Value[]).map(text) : [];
}

const text = (value: Value | undefined): string =>
  typeof value === "string" ? value : JSON.stringify(value ?? null);
