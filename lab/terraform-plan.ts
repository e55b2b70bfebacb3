/**
 * `terraform show -json` of a plan or a state, as the Terraform JSON that terraform.ts reads: known values as they are, and where a
 * value is known only after apply the reference that stands in the configuration.
 */
import { UsageError } from "../agent/src/base/errors.ts";
import { type Attributes, asObject, asObjects, asStrings, asText, type Value } from "./terraform-values.ts";

/** Whether it is what `terraform show -json` prints. */
export const isShown = (json: Attributes): boolean => typeof json["format_version"] === "string";

/** @throws UsageError */
export function fromShown(json: Attributes): Attributes {
  const values = asObject(json["planned_values"] ?? json["values"]);
  const root = asObject(values["root_module"]);
  if (asObjects(root["child_modules"]).length > 0) {
    throw new UsageError(
      "lab-stack",
      "the plan has modules, which the lab does not read: give the JSON that `cdktf synth` wrote",
    );
  }
  const configuration = asObject(json["configuration"]);
  const configured = new Map(
    asObjects(asObject(configuration["root_module"])["resources"]).map((one) => [
      asText(one["address"]),
      one,
    ]),
  );
  const resource: Record<string, Record<string, Value>> = {};
  for (const one of asObjects(root["resources"])) {
    if (one["mode"] !== "managed") continue;
    const [type, name] = [asText(one["type"]), asText(one["name"])];
    const { expressions, provider_config_key: provider } = configured.get(`${type}.${name}`) ?? {};
    const index = one["index"] === undefined ? "" : `-${String(asText(one["index"]))}`;
    (resource[type] ??= {})[`${name}${index}`] = {
      ...merged(asObject(one["values"]), asObject(expressions), 0),
      ...(provider === undefined ? {} : { provider }),
    };
  }
  const variable = Object.entries(asObject(json["variables"])).map(([name, one]) => [
    name,
    { default: asObject(one)["value"] ?? null },
  ]);
  return {
    resource,
    variable: Object.fromEntries(variable) as Attributes,
    provider: { aws: providers(configuration) },
  };
}

/** Values win; what they don't know is what the configuration refers to. */
function merged(values: Attributes, expressions: Attributes, depth: number): Attributes {
  const referred = Object.entries(expressions).flatMap(([key, expression]): [string, Value][] => {
    const known = values[key];
    if (Array.isArray(expression) && depth < MAX_DEPTH) {
      const blocks = asObjects(known);
      return [[key, expression.map((one, i) => merged(blocks[i] ?? {}, asObject(one as Value), depth + 1))]];
    }
    if (known !== undefined && known !== null) return [];
    const unknown = referenceOf(key, asObject(expression));
    return unknown === undefined ? [] : [[key, unknown]];
  });
  const known = Object.entries(values)
    .filter(([, value]) => value !== null)
    .map(([key, value]): [string, Value] => [key, escaped(value)]);
  return Object.fromEntries([...known, ...referred]);
}

/** Blocks in blocks in blocks: the provider has no more. */
const MAX_DEPTH = 4;

/** The plan lists what an expression refers to, and not how: one reference for a single value is all that can be meant. */
function referenceOf(key: string, expression: Attributes): Value | undefined {
  const all = asStrings(expression["references"]);
  const longest = all.filter((one) => !all.some((other) => other !== one && other.startsWith(`${one}.`)));
  if (longest.length === 0) return undefined;
  if (isList(key)) return longest.map((one) => `\${${one}}`);
  return longest.length === 1 && !COMPOSED.has(key) ? `\${${longest[0]}}` : `\${known_after_apply()}`;
}

const isList = (key: string): boolean => /(_ids|groups|identifier|records)$/.test(key);
/** Attributes that are templates more often than references. */
const COMPOSED = new Set([
  "user_data",
  "user_data_base64",
  "policy",
  "assume_role_policy",
  "ipv6_cidr_block",
]);

function escaped(value: Value): Value {
  if (typeof value === "string") return value.replaceAll(/([$%])\{/g, "$1$1{");
  if (Array.isArray(value)) return (value as readonly Value[]).map(escaped);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, escaped(one)]));
}

/** The default one's key is "aws", those of others "aws.ALIAS". */
function providers(configuration: Attributes): readonly Attributes[] {
  return Object.entries(asObject(configuration["provider_config"]))
    .filter(([key]) => key === "aws" || key.startsWith("aws."))
    .map(([, one]) => {
      const written = asObject(asObject(asObject(one)["expressions"])["region"]);
      const region = written["constant_value"] ?? referenceOf("region", written);
      return {
        ...(asObject(one)["alias"] === undefined ? {} : { alias: asObject(one)["alias"] ?? null }),
        ...(region === undefined ? {} : { region }),
      };
    });
}
