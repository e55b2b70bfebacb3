/**
 * The JSON that the data source aws_iam_policy_document makes of its blocks.
 * https://registry.terraform.io/providers/hashicorp/aws/5.100.0/docs/data-sources/iam_policy_document
 */
import { UsageError } from "../agent/src/base/errors.ts";
import { asObjects, asStrings, asText, type Attributes, optionalText } from "./terraform-values.ts";

const STATEMENT = "sid effect actions not_actions resources not_resources condition principals".split(" ");
const DOCUMENT = "version policy_id statement provider depends_on lifecycle".split(" ");

/** @param declared its arguments, resolved. @throws UsageError for what the lab can not put together */
export function policyDocument(declared: Attributes, place: string): string {
  refuseOthers(declared, DOCUMENT, place);
  return JSON.stringify({
    Version: optionalText(declared["version"]) ?? "2012-10-17",
    Id: optionalText(declared["policy_id"]),
    Statement: asObjects(declared["statement"]).map((block) => statementOf(block, place)),
  });
}

function statementOf(block: Attributes, place: string) {
  refuseOthers(block, STATEMENT, place);
  const principals = asObjects(block["principals"]);
  return {
    Sid: optionalText(block["sid"]),
    Effect: optionalText(block["effect"]) ?? "Allow",
    ...list("Action", block["actions"]),
    ...list("NotAction", block["not_actions"]),
    ...list("Resource", block["resources"]),
    ...list("NotResource", block["not_resources"]),
    Principal:
      principals.length === 0
        ? undefined
        : Object.fromEntries(principals.map((one) => [asText(one["type"]), texts(one["identifiers"])])),
    Condition: conditionOf(asObjects(block["condition"])),
  };
}

function conditionOf(blocks: readonly Attributes[]) {
  if (blocks.length === 0) return undefined;
  const condition: Record<string, Record<string, readonly string[]>> = {};
  for (const block of blocks) {
    const keys = (condition[asText(block["test"])] ??= {});
    const variable = asText(block["variable"]);
    keys[variable] = [...(keys[variable] ?? []), ...texts(block["values"])];
  }
  return condition;
}

function list(name: string, value: Attributes[string] | undefined) {
  const found = texts(value);
  return found.length === 0 ? {} : { [name]: found };
}

/** A variable of IAM stands there as &{…}, since ${…} is Terraform's. */
const texts = (value: Attributes[string] | undefined): readonly string[] =>
  asStrings(value).map((text) => text.replaceAll("&{", "${"));

/** Nothing is left out in silence: a policy that lacks a part judges otherwise. */
function refuseOthers(block: Attributes, known: readonly string[], place: string): void {
  const isGiven = (key: string): boolean => {
    const value = block[key];
    return value !== null && value !== undefined && !(Array.isArray(value) && value.length === 0);
  };
  const other = Object.keys(block).find((key) => !known.includes(key) && isGiven(key));
  if (other !== undefined)
    throw new UsageError(
      "lab-stack",
      `${place} has “${other}”, which the lab does not know: write it as statements`,
    );
}
