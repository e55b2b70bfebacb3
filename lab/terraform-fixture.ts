/**
 * What AWS would answer: attributes that exist only after `apply`, and data sources. All are made up, the same in every run.
 * A resource's id is its address, so that whoever follows a reference arrives at the resource.
 */
import { ParseError } from "../agent/src/base/errors.ts";
import type { Attributes, Resource, Value } from "./terraform-values.ts";

const REGION = "us-east-1";
const ACCOUNT = "123456789012";

/** RFC 3849. Amazon gives a /56. */
const VPC_IPV6 = "2001:db8:1000::/56";

/** RFC 2544; the lab gives its one instance this public address, whichever kind the stack asks for. */
const ELASTIC_IP = "198.18.10.10";

export function computedAttribute(
  resource: Resource,
  key: string,
  written: (key: string) => Value,
): Value | undefined {
  switch (key) {
    case "id":
      return resource.address;
    case "arn":
      return `arn:aws:lab:${REGION}:${ACCOUNT}:${resource.type}/${resource.name}`;
    case "name":
      return resource.name;
    case "tags_all":
      return resource.written["tags"] === undefined ? {} : written("tags");
    case "ipv6_cidr_block":
      return resource.type === "aws_vpc" ? VPC_IPV6 : undefined;
    case "public_ip":
      return resource.type === "aws_eip" ? ELASTIC_IP : undefined;
    case "availability_zone":
      return `${REGION}a`;
    case "bucket":
    case "key":
    case "etag":
    case "version_id":
      return resource.type.startsWith("aws_s3_") ? `${resource.name}-${key}` : undefined;
    default:
      return undefined;
  }
}

/** @throws ParseError for a data source or an attribute that has no entry */
export function dataAttribute(type: string, key: string): Value {
  const value = DATA_SOURCES[type]?.[key];
  if (value === undefined)
    throw new ParseError("data-source", `the lab has no value for data.${type}.….${key}`);
  return value;
}

const DATA_SOURCES: Readonly<Record<string, Attributes>> = {
  aws_ami: { id: "ami-0123456789abcdef0", image_id: "ami-0123456789abcdef0", architecture: "arm64" },
  aws_availability_zones: {
    names: ["a", "b", "c"].map((zone) => `${REGION}${zone}`),
    zone_ids: ["use1-az1", "use1-az2", "use1-az3"],
  },
  aws_caller_identity: { account_id: ACCOUNT, id: ACCOUNT },
  aws_iam_policy_document: { json: "{}" },
  aws_partition: { partition: "aws", dns_suffix: "amazonaws.com" },
  aws_region: { name: REGION, region: REGION, id: REGION },
  aws_ssm_parameter: {
    value: "ami-0123456789abcdef0",
    insecure_value: "ami-0123456789abcdef0",
    arn: `arn:aws:ssm:${REGION}:${ACCOUNT}:parameter/lab`,
  },
};
