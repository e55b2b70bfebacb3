/**
 * Reads the Terraform JSON that `cdktf synth` writes for one stack and resolves every expression in it, as a plan would:
 * references between resources and between stacks, data sources from a fixture, and the few functions our stacks use.
 *
 * It knows nothing of networks; lab/model/ makes sense of the resources.
 */
import { ParseError, UsageError } from "../agent/src/base/errors.ts";
import { callFunction } from "./terraform-functions.ts";
import { policyDocument } from "./policy-document.ts";
import { computedAttribute, dataAttribute, LOOKED_UP, type Place } from "./terraform-fixture.ts";
import { parseTemplate, type Expression } from "./terraform-expression.ts";
import { Providers } from "./terraform-providers.ts";
import { asText, type Attributes, objectAt, type Resource, type Value } from "./terraform-values.ts";

export interface DocumentOptions {
  /** How the other stacks call it. @default "stack" */
  readonly name?: string;
  /** How many stacks of the lab there are before it. @default 0 */
  readonly index?: number;
  /** The other stacks of the lab, whose outputs it may refer to. */
  readonly others?: (name: string) => TerraformDocument | undefined;
  /** What exists already, by type and id: attributes for data sources that look it up. */
  readonly existing?: (type: string, by: string, value: string) => Attributes | undefined;
}

export class TerraformDocument {
  readonly name: string;
  /** Of the provider that resources have where they name none. */
  readonly region: string;
  readonly resources: readonly Resource[];
  readonly #options: DocumentOptions;
  readonly #byAddress: ReadonlyMap<string, Resource>;
  /** How many resources of its type there are before it. */
  readonly #indexes: ReadonlyMap<Resource, number>;
  readonly #providers: Providers;
  readonly #data: Attributes;
  readonly #outputs: Attributes;
  readonly #locals: Attributes;
  readonly #variables: Attributes;
  /** What is being evaluated now, to find cycles: address and attribute. */
  readonly #open = new Set<string>();
  /** The repeated resource whose attribute is being evaluated. */
  #repeated: Resource["repeated"];

  private constructor(document: Attributes, options: DocumentOptions) {
    this.#options = options;
    this.name = options.name ?? "stack";
    this.#data = objectAt(document["data"] ?? {}, "data");
    this.#outputs = objectAt(document["output"] ?? {}, "output");
    this.#locals = objectAt(document["locals"] ?? {}, "locals");
    this.#variables = objectAt(document["variable"] ?? {}, "variable");
    this.#byAddress = new Map();
    this.resources = [];
    this.#providers = new Providers(document["provider"], (value, place) => this.#resolve(value, place));
    this.region = this.#providers.defaultRegion;
    this.resources = section(document, "resource").flatMap(([type, named]) =>
      Object.entries(objectAt(named, `resource ${type}`)).flatMap(([name, written]) =>
        this.#unrolled({
          type,
          name,
          address: `${type}.${name}`,
          written: objectAt(written, `${type}.${name}`),
        }),
      ),
    );
    this.#byAddress = new Map(this.resources.map((resource) => [resource.address, resource]));
    this.#indexes = indexesOf(this.resources);
  }

  /** @param json the parsed content of cdk.tf.json. @throws UsageError when it is not such a document */
  static read(json: unknown, options: DocumentOptions = {}): TerraformDocument {
    if (typeof json !== "object" || json === null || Array.isArray(json)) {
      throw new UsageError(
        "lab-stack",
        "the stack's Terraform JSON is not an object: run `npx cdktf synth` again",
      );
    }
    return new TerraformDocument(json as Attributes, options);
  }

  /** Every attribute of a resource, resolved. @throws UsageError naming the resource and the expression */
  attributes(resource: Resource): Attributes {
    const entries = Object.entries(resource.written)
      .filter(([key]) => !META_ARGUMENTS.has(key))
      .map(([key]) => [key, this.attribute(resource, key)] as const);
    return Object.fromEntries(entries);
  }

  attribute(resource: Resource, key: string): Value {
    const written = resource.written[key];
    const place = `${resource.address}.${key}`;
    if (written === undefined || written === null) return this.#computed(resource, key, place);
    return this.#in(resource, () => this.#once(place, () => this.#resolve(written, place)));
  }

  /** Its own, or its provider's. @throws UsageError */
  regionOf(resource: Resource): string {
    if (!resource.type.startsWith("aws_")) return this.region;
    const { address, written } = resource;
    return this.#in(resource, () =>
      this.#once(`${address}: region`, () => this.#providers.regionOf(written, address)),
    );
  }

  /** An output, by name. @throws UsageError */
  output(name: string): Value {
    const written = this.#outputs[name];
    if (written === undefined)
      throw new UsageError("lab-expression", `the stack ${this.name} has no output ${name}`);
    const place = `output.${name}`;
    return this.#once(`${this.name}: ${place}`, () =>
      this.#resolve(objectAt(written, place)["value"] ?? null, place),
    );
  }

  /** An attribute as text, or undefined where the lab has none. */
  computed(resource: Resource, key: string): string | undefined {
    const has = resource.written[key] !== undefined || this.#fixture(resource, key) !== undefined;
    return has ? asText(this.attribute(resource, key)) : undefined;
  }

  /** The id that a resource has after `apply`. */
  id(resource: Resource): string {
    return asText(this.attribute(resource, "id"));
  }

  #computed(resource: Resource, key: string, place: string): Value {
    const found = this.#fixture(resource, key);
    if (found === undefined) throw new UsageError("lab-expression", `the lab has no value for ${place}`);
    return found;
  }

  #fixture(resource: Resource, key: string): Value | undefined {
    const where: Place = {
      stack: this.name,
      stackIndex: this.#options.index ?? 0,
      region: this.regionOf(resource),
      index: this.#indexes.get(resource) ?? 0,
    };
    return computedAttribute(resource, key, where, (other) =>
      this.#once(`${resource.address}.${key}…${other}`, () => this.attribute(resource, other)),
    );
  }

  /** With what `count` or `for_each` gives the resource. */
  #in<T>({ repeated }: Resource, evaluate: () => T): T {
    const outer = this.#repeated;
    this.#repeated = repeated;
    try {
      return evaluate();
    } finally {
      this.#repeated = outer;
    }
  }

  #once<T>(place: string, evaluate: () => T): T {
    if (this.#open.has(place))
      throw new UsageError("lab-expression", `${place} refers to itself in a circle`);
    this.#open.add(place);
    try {
      return evaluate();
    } finally {
      this.#open.delete(place);
    }
  }

  /** One resource for each of `count` or `for_each`. */
  #unrolled(resource: Resource): readonly Resource[] {
    const { count, for_each: each } = resource.written;
    const copy = (key: string | number, value: Value): Resource => ({
      ...resource,
      address: `${resource.address}[${JSON.stringify(key)}]`,
      repeated: { key, value },
    });
    if (count !== undefined) {
      const times = Number(this.#resolve(count, `${resource.address}.count`));
      if (!Number.isInteger(times) || times < 0 || times > MAX_COPIES) {
        throw new UsageError(
          "lab-stack",
          `${resource.address}.count is not a number from 0 to ${MAX_COPIES}`,
        );
      }
      return Array.from({ length: times }, (_, i) => copy(i, i));
    }
    if (each === undefined) return [resource];
    const items = this.#resolve(each, `${resource.address}.for_each`);
    if (Array.isArray(items)) return (items as readonly Value[]).map((item) => copy(asText(item), item));
    return Object.entries(objectAt(items, `${resource.address}.for_each`)).map(([key, value]) =>
      copy(key, value),
    );
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
        return expression.parts.map((part) => plainText(this.#evaluate(part))).join("");
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
    const repeated = this.#repeated;
    if (head === "data") return this.#followData(path);
    if (head === "local") return descend(this.#named(this.#locals, second, "local"), path.slice(2), path);
    if (head === "terraform" && second === "workspace") return "default";
    if (head === "count" && repeated !== undefined) return repeated.key;
    if (head === "each" && repeated !== undefined) {
      return second === "key" ? repeated.key : descend(repeated.value, path.slice(2), path);
    }
    if (head === "var") {
      const variable = objectAt(this.#named(this.#variables, second, "var"), `variable ${second}`);
      return descend(variable["default"], path.slice(2), path);
    }
    const isIndexed = this.#byAddress.has(`${head}.${second}[${JSON.stringify(path[2])}]`);
    const address = isIndexed ? `${head}.${second}[${JSON.stringify(path[2])}]` : `${head}.${second}`;
    const [attribute, ...rest] = path.slice(isIndexed ? 3 : 2);
    const resource = this.#byAddress.get(address);
    if (resource === undefined) {
      const repeats = this.resources.find((one) => one.address.startsWith(`${address}[`));
      const hint = repeats === undefined ? "" : `; it is repeated, as ${repeats.address}`;
      throw new ParseError("expression", `there is no resource ${address}${hint}`);
    }
    if (attribute === undefined || third === "")
      throw new ParseError("expression", "a whole resource is not a value the lab can use");
    return descend(this.attribute(resource, String(attribute)), rest, path);
  }

  #followData(path: readonly (string | number)[]): Value {
    const [, type = "", name = "", key = ""] = path.map(String);
    if (type === "terraform_remote_state")
      return descend(this.#remoteOutput(name, path), path.slice(5), path);
    const declared = objectAt(
      objectAt(this.#data[type] ?? {}, `data ${type}`)[name] ?? {},
      `data.${type}.${name}`,
    );
    if (type === "aws_iam_policy_document" && (key === "json" || key === "minified_json")) {
      const place = `data.${type}.${name}`;
      return this.#once(place, () => policyDocument(objectAt(this.#resolve(declared, place), place), place));
    }
    const existing = this.#lookUp(type, declared, name);
    if (existing !== undefined) return descend(existing[key], path.slice(4), path);
    const region = this.#providers.regionOf(declared, `data.${type}.${name}`);
    return descend(dataAttribute(type, key, region), path.slice(4), path);
  }

  #lookUp(type: string, declared: Attributes, name: string): Attributes | undefined {
    for (const by of LOOKED_UP[type] ?? []) {
      const written = declared[by];
      if (written === undefined) continue;
      const value = asText(this.#resolve(written, `data.${type}.${name}.${by}`));
      const own = this.resources.find((one) => one.type === type && this.id(one) === value);
      if (own !== undefined) return { id: value, ...this.attributes(own) };
      const found = this.#options.existing?.(type, by, value);
      if (found !== undefined) return found;
      throw new ParseError(
        "data-source",
        `${value} is not in this stack: say what it is under “existing” of the scenario`,
      );
    }
    return undefined;
  }

  /** cdktf lets one stack read another's state, whose file or key it names TERRAFORM.STACK.tfstate or STACK.tfstate. */
  #remoteOutput(name: string, path: readonly (string | number)[]): Value {
    const states = objectAt(this.#data["terraform_remote_state"] ?? {}, "data terraform_remote_state");
    const config = objectAt(objectAt(states[name] ?? {}, name)["config"] ?? {}, `${name}.config`);
    const file = asText(config["path"] ?? config["key"] ?? "");
    const stack = /(?:^|\/)(?:terraform\.)?([^/]+)\.tfstate$/.exec(file)?.[1] ?? name;
    const other = this.#options.others?.(stack);
    if (other === undefined) {
      throw new ParseError("expression", `it refers to the stack ${stack}, which is not given: give both`);
    }
    return other.output(String(path[4] ?? ""));
  }

  #named(map: Attributes, name: string, kind: string): Value {
    const value = map[name];
    if (value === undefined) throw new ParseError("expression", `there is no ${kind}.${name}`);
    return this.#once(`${kind}.${name}`, () => this.#resolve(value, `${kind}.${name}`));
  }
}

/** What Terraform itself reads and the provider never sees (`regionOf` reads "provider"); "//" is cdktf's metadata. */
const META_ARGUMENTS = new Set([
  ...["//", "lifecycle", "depends_on", "provider", "provisioner", "connection", "count", "for_each"],
]);

/** More would be no lab. */
const MAX_COPIES = 256;

function indexesOf(resources: readonly Resource[]): ReadonlyMap<Resource, number> {
  const seen = new Map<string, number>();
  return new Map(
    resources.map((resource) => {
      const index = seen.get(resource.type) ?? 0;
      seen.set(resource.type, index + 1);
      return [resource, index];
    }),
  );
}

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
  return Object.entries(objectAt(document[name] ?? {}, name));
}

function plainText(value: Value): string {
  if (typeof value === "object") throw new ParseError("expression", "a list or object inside a text");
  return String(value);
}

const shorten = (text: string): string => (text.length <= 120 ? text : `${text.slice(0, 117)}…`);
