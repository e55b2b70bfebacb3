/**
 * Rules that hold for every stack of ours, and for yours where you add them, in the spirit of cdk-nag: each looks at what
 * is going to be deployed, and says in one sentence what is wrong and what to do. A rule is left out by leaving it out of
 * the list.
 */
import type { TerraformStack } from "cdktf";

/** A resource as Terraform will read it. */
export interface CheckedResource {
  /** Such as "aws_instance", or "data.aws_subnet". */
  readonly type: string;
  /** Such as "aws_instance.exit-node_Machine". */
  readonly address: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

export interface Check {
  readonly id: string;
  /** What is wrong, one sentence each, beginning with the address of the resource. */
  find(resources: readonly CheckedResource[]): readonly string[];
}

/** Makes the synthesis of the stack fail where a rule is broken. */
export function addChecks(stack: TerraformStack, checks: readonly Check[]): void {
  stack.node.addValidation({
    validate: () => {
      const resources = resourcesOf(stack.toTerraform() as Readonly<Record<string, unknown>>);
      return checks.flatMap((check) => check.find(resources).map((text) => `${check.id}: ${text}`));
    },
  });
}

/** From Terraform's JSON; data sources are of a type that begins with "data.". */
export function resourcesOf(json: Readonly<Record<string, unknown>>): readonly CheckedResource[] {
  const locals = object(json["locals"]);
  const of = (section: string, prefix: string) =>
    Object.entries(object(json[section])).flatMap(([type, named]) =>
      Object.entries(object(named)).map(([name, attributes]) => ({
        type: `${prefix}${type}`,
        address: `${prefix}${type}.${name}`,
        attributes: withUserData(object(attributes), locals),
      })),
    );
  return [...of("resource", ""), ...of("data", "data.")];
}

/** Launch templates refer to their user data as a local value. */
function withUserData(
  attributes: Readonly<Record<string, unknown>>,
  locals: Readonly<Record<string, unknown>>,
): Readonly<Record<string, unknown>> {
  const text = attributes["user_data"];
  const [, name = ""] =
    /^\$\{base64encode\(local\.([\w-]+)\)\}$/.exec(typeof text === "string" ? text : "") ?? [];
  return name === "" ? attributes : { ...attributes, user_data: locals[name] };
}

export function object(value: unknown): Readonly<Record<string, unknown>> {
  const only: unknown = Array.isArray(value) && value.length === 1 ? value[0] : value;
  return typeof only === "object" && only !== null && !Array.isArray(only)
    ? (only as Readonly<Record<string, unknown>>)
    : {};
}

export function list(value: unknown): readonly unknown[] {
  if (Array.isArray(value)) return value;
  return value === undefined || value === null ? [] : [value];
}

/** Instances, and launch templates that make them. */
export function machines(resources: readonly CheckedResource[]): readonly CheckedResource[] {
  return resources.filter(({ type }) => type === "aws_instance" || type === "aws_launch_template");
}
