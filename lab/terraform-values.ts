/** What stands in Terraform's JSON: resources, and the values of their attributes. */
import { UsageError } from "../agent/src/base/errors.ts";

export type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value };
export type Attributes = { readonly [key: string]: Value };

export interface Resource {
  readonly type: string;
  readonly name: string;
  /** "aws_vpc.exit-node_vpc_1A2B": how expressions and messages call it; with "[0]" or '["key"]' where it is repeated. */
  readonly address: string;
  /** The attributes as written, with all expressions unresolved. */
  readonly written: Attributes;
  /** What `count.index`, `each.key` and `each.value` are in it. */
  readonly repeated?: { readonly key: string | number; readonly value: Value };
}

/** A resource with everything resolved, as an apply would leave it. */
export interface EvaluatedResource {
  readonly type: string;
  readonly name: string;
  readonly address: string;
  /** In AWS's form, such as "vpc-0123456789abcdef0". */
  readonly id: string;
  readonly values: Attributes;
}

/** What has to be an object, or a list of one. @throws UsageError */
export function objectAt(value: Value, place: string): Attributes {
  const only = Array.isArray(value) && value.length === 1 ? (value as readonly Value[])[0] : value;
  if (typeof only !== "object" || only === null || Array.isArray(only)) {
    throw new UsageError("lab-stack", `${place} of the stack's Terraform JSON is not an object`);
  }
  return only as Attributes;
}

export function asObject(value: Value | undefined): Attributes {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Attributes) : {};
}

/** Blocks of Terraform: a list of objects, or one object where only one is allowed. */
export function asObjects(value: Value | undefined): readonly Attributes[] {
  if (Array.isArray(value)) return (value as readonly Value[]).map(asObject);
  return value === undefined || value === null ? [] : [asObject(value)];
}

export function asStrings(value: Value | undefined): readonly string[] {
  return Array.isArray(value) ? (value as readonly Value[]).map(asText) : [];
}

/** Undefined for null and for what isn't there. */
export function optionalText(value: Value | undefined): string | undefined {
  return value === undefined || value === null ? undefined : asText(value);
}

export const asText = (value: Value | undefined): string =>
  typeof value === "string" ? value : JSON.stringify(value ?? null);

export const asFlag = (value: Value | undefined, byDefault: boolean): boolean =>
  value === undefined || value === null ? byDefault : value === true || value === "true";

export const asNumber = (value: Value | undefined, byDefault: number): number =>
  value === undefined || value === null ? byDefault : Number(value);

export function asTexts(value: Value | undefined): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(asObject(value)).map(([key, one]) => [key, asText(one)]));
}
