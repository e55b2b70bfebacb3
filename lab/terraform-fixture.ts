/**
 * What AWS would answer: attributes that exist only after `apply`, and data sources. All are made up, the same in every run of the
 * same stacks. Ids have AWS's form, since user data, policies and the agent look at it.
 */
import { createHash } from "node:crypto";
import { ParseError } from "../agent/src/base/errors.ts";
import { asText, type Attributes, type Resource, type Value } from "./terraform-values.ts";

export const ACCOUNT = "123456789012";
export const PARTITION = "aws";
export const DEFAULT_REGION = "us-east-1";

/** Where a resource is: ids and addresses follow from it. */
export interface Place {
  readonly stack: string;
  /** How many stacks of the lab there are before it. */
  readonly stackIndex: number;
  readonly region: string;
  /** How many resources of its type there are before it in its stack. */
  readonly index: number;
}

/** RFC 2544, a hundred and more for each stack: 198.18.10.10 is the first of the first. */
export const publicAddress = (stackIndex: number, index: number): string =>
  `198.18.${10 + stackIndex}.${10 + index}`;

/** RFC 3849. Amazon gives a /56. */
const vpcIpv6 = ({ stackIndex, index }: Place): string =>
  `2001:db8:${(0x1000 + stackIndex * 0x100 + index).toString(16)}::/56`;

export function computedAttribute(
  resource: Resource,
  key: string,
  place: Place,
  written: (key: string) => Value,
): Value | undefined {
  const { type } = resource;
  switch (key) {
    case "id":
      return type in NAMED ? written(NAMED[type] ?? "name") : resourceId(resource, place);
    case "arn":
      return arn(resource, place, written);
    case "name":
      return prefixed(resource, "name_prefix", place);
    case "bucket":
      return type === "aws_s3_bucket" ? prefixed(resource, "bucket_prefix", place) : undefined;
    case "tags_all":
      return resource.written["tags"] === undefined ? {} : written("tags");
    case "ipv6_cidr_block":
      return type === "aws_vpc" ? vpcIpv6(place) : undefined;
    case "public_ip":
      return type === "aws_eip" ? publicAddress(place.stackIndex, place.index) : undefined;
    case "allocation_id":
      return type === "aws_eip" ? written("id") : undefined;
    case "availability_zone":
      return `${place.region}a`;
    case "latest_version":
    case "default_version":
      return type === "aws_launch_template" ? 1 : undefined;
    case "etag":
    case "version_id":
      return type.startsWith("aws_s3_") ? hash(place, resource.address, key).slice(0, 32) : undefined;
    case "dns_name":
      return `${resource.name}.elb.${place.region}.amazonaws.com`;
    default:
      return undefined;
  }
}

/** @throws ParseError for a data source or an attribute that has no entry */
export function dataAttribute(type: string, key: string, region: string): Value {
  const value = dataSources(region)[type]?.[key];
  if (value === undefined)
    throw new ParseError("data-source", `the lab has no value for data.${type}.….${key}`);
  return value;
}

/** The ids of data sources that look up a resource by its id. */
export const LOOKED_UP: Readonly<Record<string, readonly string[]>> = {
  aws_vpc: ["id"],
  aws_subnet: ["id"],
  aws_eip: ["id", "allocation_id", "public_ip"],
  aws_nat_gateway: ["id"],
  aws_internet_gateway: ["internet_gateway_id", "id"],
  aws_route_table: ["route_table_id", "id"],
  aws_security_group: ["id", "name"],
  aws_network_interface: ["id"],
  aws_instance: ["instance_id", "id"],
};

/** Types whose id is what they are called. */
const NAMED: Readonly<Record<string, string>> = {
  aws_s3_bucket: "bucket",
  aws_iam_role: "name",
  aws_iam_instance_profile: "name",
  aws_ssm_parameter: "name",
  aws_autoscaling_group: "name",
  aws_autoscaling_lifecycle_hook: "name",
  aws_s3_object: "key",
  aws_secretsmanager_secret: "arn",
  aws_lb: "arn",
  aws_lb_target_group: "arn",
  aws_lb_listener: "arn",
};

const ID_PREFIX: Readonly<Record<string, string>> = {
  aws_vpc: "vpc",
  aws_subnet: "subnet",
  aws_internet_gateway: "igw",
  aws_egress_only_internet_gateway: "eigw",
  aws_nat_gateway: "nat",
  aws_route_table: "rtb",
  aws_route_table_association: "rtbassoc",
  aws_security_group: "sg",
  aws_vpc_security_group_ingress_rule: "sgr",
  aws_vpc_security_group_egress_rule: "sgr",
  aws_eip: "eipalloc",
  aws_eip_association: "eipassoc",
  aws_network_interface: "eni",
  aws_network_interface_attachment: "eni-attach",
  aws_instance: "i",
  aws_launch_template: "lt",
  aws_ebs_volume: "vol",
};

/** An id such as "eni-0123456789abcdef0" for what is called `name` in a lab. */
export function madeUpId(prefix: string, name: string): string {
  return `${prefix}-0${createHash("sha256").update(`${prefix}/${name}`).digest("hex").slice(0, 16)}`;
}

function resourceId(resource: Resource, place: Place): string {
  const prefix = ID_PREFIX[resource.type];
  if (prefix === undefined) return resource.address;
  return madeUpId(prefix, `${place.stack}/${resource.address}`);
}

/** Terraform adds 26 digits to a prefix. */
function prefixed(resource: Resource, prefixKey: string, place: Place): string {
  const prefix = resource.written[prefixKey];
  const suffix = hash(place, resource.address).slice(0, 12);
  return typeof prefix === "string"
    ? `${prefix}${suffix}`
    : `${resource.name.toLowerCase().slice(0, 19)}-${suffix}`;
}

const hash = (place: Place, ...names: readonly string[]): string =>
  createHash("sha256")
    .update([place.stack, ...names].join("/"))
    .digest("hex");

/** https://docs.aws.amazon.com/service-authorization/latest/reference/ */
function arn(resource: Resource, place: Place, written: (key: string) => Value): string {
  const regional = (service: string, rest: string): string =>
    `arn:${PARTITION}:${service}:${place.region}:${ACCOUNT}:${rest}`;
  const called = (key: string): string => asText(written(key));
  switch (resource.type) {
    case "aws_s3_bucket":
      return `arn:${PARTITION}:s3:::${called("bucket")}`;
    case "aws_s3_object":
      return `arn:${PARTITION}:s3:::${called("bucket")}/${called("key")}`;
    case "aws_iam_role":
      return `arn:${PARTITION}:iam::${ACCOUNT}:role/${called("name")}`;
    case "aws_iam_instance_profile":
      return `arn:${PARTITION}:iam::${ACCOUNT}:instance-profile/${called("name")}`;
    case "aws_ssm_parameter":
      return regional("ssm", `parameter/${called("name").replace(/^\//, "")}`);
    case "aws_secretsmanager_secret":
      return regional(
        "secretsmanager",
        `secret:${called("name")}-${hash(place, resource.address).slice(0, 6)}`,
      );
    case "aws_autoscaling_group":
      return groupArn(place.region, called("name"));
    case "aws_lb":
      return regional("elasticloadbalancing", `loadbalancer/net/${loadBalancerName(resource, place)}`);
    case "aws_lb_target_group":
      return regional("elasticloadbalancing", `targetgroup/${loadBalancerName(resource, place)}`);
    case "aws_lb_listener":
      return regional("elasticloadbalancing", `listener/net/${loadBalancerName(resource, place)}`);
    case "aws_instance":
    case "aws_ebs_volume":
    case "aws_network_interface":
      return regional("ec2", `${EC2_KIND[resource.type] ?? ""}/${called("id")}`);
    default:
      return regional("lab", `${resource.type}/${resource.name}`);
  }
}

const EC2_KIND: Readonly<Record<string, string>> = {
  aws_instance: "instance",
  aws_ebs_volume: "volume",
  aws_network_interface: "network-interface",
};

const loadBalancerName = (resource: Resource, place: Place): string => {
  const digits = hash(place, resource.address);
  return `tf-lb-${digits.slice(0, 12)}/${digits.slice(12, 28)}`;
};

const groupArn = (region: string, name: string): string =>
  `arn:${PARTITION}:autoscaling:${region}:${ACCOUNT}:autoScalingGroup:${groupUuid(name)}:autoScalingGroupName/${name}`;

function groupUuid(name: string): string {
  const digits = createHash("sha256").update(name).digest("hex");
  return [8, 12, 16, 20, 32].map((end, i) => digits.slice([0, 8, 12, 16, 20][i], end)).join("-");
}

const AMI = "ami-0123456789abcdef0";

function dataSources(region: string): Readonly<Record<string, Attributes>> {
  return {
    aws_ami: { id: AMI, image_id: AMI, architecture: "arm64" },
    aws_availability_zones: {
      names: ["a", "b", "c"].map((zone) => `${region}${zone}`),
      zone_ids: ["az1", "az2", "az3"].map((zone) => `${region}-${zone}`),
    },
    aws_caller_identity: { account_id: ACCOUNT, id: ACCOUNT },
    aws_ec2_instance_type_offerings: { locations: ["a", "b", "c"].map((zone) => `${region}${zone}`) },
    aws_partition: { partition: PARTITION, dns_suffix: "amazonaws.com", id: PARTITION },
    aws_region: { name: region, region, id: region },
    aws_ssm_parameter: {
      value: AMI,
      insecure_value: AMI,
      arn: `arn:${PARTITION}:ssm:${region}:${ACCOUNT}:parameter/lab`,
    },
  };
}
