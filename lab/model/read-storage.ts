/** Volumes, buckets, parameters, secrets, and what roles may do. */
import { asNumber, asText, asTexts, optionalText } from "../terraform-values.ts";
import type { Bucket, Parameter, Role, Secret, Volume } from "./model.ts";
import type { Resources, StackResource } from "./resources.ts";

export function readVolumes(resources: Resources): readonly Volume[] {
  return resources.of("aws_ebs_volume").map((one) => ({
    id: one.id,
    address: one.address,
    region: one.region,
    zone: asText(one.values["availability_zone"] ?? `${one.region}a`),
    sizeGib: asNumber(one.values["size"], 1),
    tags: asTexts(one.values["tags"]),
  }));
}

export function readRoles(resources: Resources): readonly Role[] {
  return resources.of("aws_iam_role").map((role) => ({
    name: role.id,
    arn: asText(role.arn ?? null),
    assumeRolePolicy: asText(role.values["assume_role_policy"] ?? "{}"),
    policies: resources
      .of("aws_iam_role_policy")
      .filter((policy) => policy.values["role"] === role.id)
      .map((policy) => asText(policy.values["policy"])),
  }));
}

export function readParameters(resources: Resources): readonly Parameter[] {
  return resources.of("aws_ssm_parameter").map((one) => ({
    region: one.region,
    name: one.id,
    arn: asText(one.arn ?? null),
    type: parameterType(one),
    value: optionalText(one.values["value_wo"]) ?? optionalText(one.values["value"]) ?? "",
  }));
}

export function readSecrets(resources: Resources): readonly Secret[] {
  return resources.of("aws_secretsmanager_secret").map((one) => {
    const version = resources
      .of("aws_secretsmanager_secret_version")
      .find((other) => other.values["secret_id"] === one.id);
    return {
      region: one.region,
      arn: asText(one.arn ?? null),
      name: asText(one.values["name"] ?? one.name),
      value: optionalText(version?.values["secret_string"]),
    };
  });
}

export function readBuckets(resources: Resources): readonly Bucket[] {
  return resources.of("aws_s3_bucket").map((bucket) => ({
    region: bucket.region,
    name: bucket.id,
    objects: resources
      .of("aws_s3_object")
      .filter((object) => object.values["bucket"] === bucket.id)
      .map((object) => ({
        key: object.id,
        file: optionalText(object.values["source"]),
        content: optionalText(object.values["content"]) ?? "",
      })),
  }));
}

function parameterType({ values }: StackResource): Parameter["type"] {
  const type = values["type"];
  return type === "SecureString" || type === "StringList" ? type : "String";
}
