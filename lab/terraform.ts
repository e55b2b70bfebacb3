/**
 * Reads the Terraform JSON that `cdktf synth` writes for one stack and resolves every expression in it, as a plan would:
 * references between resources, data sources from a fixture, and the few functions our stacks use.
 *
 * It knows nothing of networks; cloud-model.ts makes sense of the resources.
 */
import { ParseError, UsageError } from "../agent/src/base/errors.ts";
import { callFunction } from "./terraform-functions.ts";
import { computedAttribute, dataAttribute } from "./terraform-fixture.ts";
import { parseTemplate, type Expression } from "./terraform-expression.ts";
import type { Attributes, Resource, Value } from "./terraform-values.ts";

export class TerraformDocument {
  readonly resources: readonly Resource[];
  readonly #byAddress: ReadonlyMap<string, Resource>;
  readonly #locals: Attributes;
  readonly #variables: Attributes;
  /** What is being evaluated now, to find cycles: address and attribute. */
  readonly #open = new Set<string>();

  private constructor(document: Attributes) {
    this.resources = section(document, "resource").flatMap(([type, named]) =>
      Object.entries(asObject(named, `resource ${type}`)).map(([name, written]) => ({
        type,
        name,
        address: `${type}.${name}`,
        written: asObject(written, `${type}.${name}`),
      })),
    );
    this.#byAddress = new Map(this.resources.map((resource) => [resource.address, resource]));
    this.#locals = asObject(document["locals"] ?? {}, "locals");
    this.#variables = asObject(document["variable"] ?? {}, "variable");
  }

  /** @param json the parsed content of cdk.tf.json. @throws UsageError when it is not such a document */
  static read(json: unknown): TerraformDocument {
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      throw new UsageError(
        "lab-stack",
        "the stack's Terraform JSON is not an object: run `npx cdktf synth` again",
      );
    }
    return new TerraformDocument(json as Attributes);
  }

  /** Every attribute of a resource, resolved. @throws UsageError naming the resource and the expression */
  attributes(resource: Resource): Attributes {
    const repeated = ["count", "for_each"].find((key) => resource.written[key] !== undefined);
    if (repeated !== undefined) {
      throw new UsageError(
        "lab-stack",
        `${resource.address} is repeated by ${repeated}, which the lab does not unroll`,
      );
    }
    const entries = Object.entries(resource.written)
      .filter(([key]) => !META_ARGUMENTS.has(key))
      .map(([key]) => [key, this.attribute(resource, key)] as const);
    return Object.fromEntries(entries);
  }

  attribute(resource: Resource, key: string): Value {
    const written = resource.written[key];
    const place = `${resource.address}.${key}`;
    if (written === undefined) {
      const computed = computedAttribute(resource, key, (other) => this.attribute(resource, other));
      if (computed === undefined) throw new UsageError("lab-expression", `the lab has no value for ${place}`);
      return computed;
    }
    if (this.#open.has(place))
      throw new UsageError("lab-expression", `${place} refers to itself in a circle`);
    this.#open.add(place);
    try {
      return this.#resolve(written, place);
    } finally {
      this.#open.delete(place);
    }
  }

  #resolve(value: Value, place: string): Value {
    if (typeof value === "string") return this.#resolveText(value, place);
    if (Array.isArray(value))
      return (value as readonly Value[]).map((item, i) => this.#resolve(item, `${place}[${i}]`));
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value).map(([key, item]) => [key, this.#resolve(item, `${place}.${key}`)]);
    return Object.fromEntries(entries) as Value;
  }

  #resolveText(text: string, place: string): Value {
    if (!text.includes("${") && !text.includes("%{")) return text.replaceAll("$${", "${");
    try {
      return this.#evaluate(parseTemplate(text));
    } catch (error) {
      if (!(error instanceof ParseError)) throw error;
      throw new UsageError(
        "lab-expression",
        `the lab can not evaluate ${place} = ${shorten(text)}: ${error.message}`,
      );
    }
  }

  #evaluate(expression: Expression): Value {
    switch (expression.kind) {
      case "literal":
        return expression.value;
      case "list":
        return expression.items.map((item) => this.#evaluate(item));
      case "template":
        return expression.parts.map((part) => asText(this.#evaluate(part))).join("");
      case "call":
        return callFunction(
          expression.name,
          expression.arguments.map((argument) => this.#evaluate(argument)),
        );
      case "reference":
        return this.#follow(expression.path);
    }
  }

  #follow(path: readonly (string | number)[]): Value {
    const [head = "", second = "", third = ""] = path.map(String);
    if (head === "data") return descend(dataAttribute(second, String(path[3] ?? "")), path.slice(4), path);
    if (head === "local") return descend(this.#named(this.#locals, second, "local"), path.slice(2), path);
    if (head === "var") {
      const variable = asObject(this.#named(this.#variables, second, "var"), `variable ${second}`);
      return descend(variable["default"], path.slice(2), path);
    }
    const resource = this.#byAddress.get(`${head}.${second}`);
    if (resource === undefined) throw new ParseError("expression", `there is no resource ${head}.${second}`);
    if (third === "") throw new ParseError("expression", "a whole resource is not a value the lab can use");
    return descend(this.attribute(resource, third), path.slice(3), path);
  }

  #named(map: Attributes, name: string, kind: string): Value {
    const value = map[name];
    if (value === undefined) throw new ParseError("expression", `there is no ${kind}.${name}`);
    return this.#resolve(value, `${kind}.${name}`);
  }
}

/** What Terraform itself reads and the provider never sees; "//" is cdktf's metadata. */
const META_ARGUMENTS = new Set(["//", "lifecycle", "depends_on", "provider", "provisioner", "connection"]);

function descend(
  value: Value | undefined,
  steps: readonly (string | number)[],
  path: readonly (string | number)[],
): Value {
  let current = value;
  for (const step of steps) {
    current =
      typeof current === "object" && current !== null
        ? (current as Readonly<Record<string | number, Value>>)[step]
        : undefined;
  }
  if (current === undefined) throw new ParseError("expression", `the lab has no value for ${path.join(".")}`);
  return current;
}

function section(document: Attributes, name: string): [string, Value][] {
  return Object.entries(asObject(document[name] ?? {}, name));
}

function asObject(value: Value, place: string): Attributes {
  const only = Array.isArray(value) && value.length === 1 ? (value as readonly Value[])[0] : value;
  if (typeof only !== "object" || only === null || Array.isArray(only)) {
    throw new UsageError("lab-stack", `${place} of the stack's Terraform JSON is not an object`);
  }
  return only as Attributes;
}

function asText(value: Value): string {
  if (typeof value === "object") throw new ParseError("expression", "a list or object inside a text");
  return String(value);
}

const shorten = (text: string): string => (text.length <= 120 ? text : `${text.slice(0, 117)}…`);
