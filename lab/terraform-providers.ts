/** The AWS providers of a stack: one by default, others by alias. A resource is in the region of its own. */
import { UsageError } from "../agent/src/base/errors.ts";
import { DEFAULT_REGION } from "./terraform-fixture.ts";
import { asText, type Attributes, objectAt, type Value } from "./terraform-values.ts";

type Resolve = (value: Value, place: string) => Value;

export class Providers {
  /** "aws" and "aws.ALIAS", as resources call them. */
  readonly #regions = new Map<string, string>();
  readonly #resolve: Resolve;

  /** @throws UsageError */
  constructor(written: Value | undefined, resolve: Resolve) {
    this.#resolve = resolve;
    const aws = objectAt(written ?? {}, "provider")["aws"] ?? [];
    const all = Array.isArray(aws) ? (aws as readonly Value[]) : [aws];
    for (const one of all.map((each) => objectAt(each, "provider aws"))) {
      const alias = one["alias"] === undefined ? "" : `.${asText(one["alias"])}`;
      const region = one["region"] ?? DEFAULT_REGION;
      this.#regions.set(`aws${alias}`, asText(resolve(region, `provider.aws${alias}.region`)));
    }
  }

  get defaultRegion(): string {
    return this.#regions.get("aws") ?? DEFAULT_REGION;
  }

  /** Of a resource or a data source, by what is written in it. @throws UsageError */
  regionOf({ provider, region }: Attributes, address: string): string {
    if (typeof region === "string") return asText(this.#resolve(region, `${address}.region`));
    if (typeof provider !== "string") return this.defaultRegion;
    const name = provider.replace(/^\$\{(.*)\}$/, "$1");
    const found = name === "aws" ? this.defaultRegion : this.#regions.get(name);
    if (found !== undefined) return found;
    throw new UsageError(
      "lab-stack",
      `${address} has the provider ${name}, which the stack does not configure`,
    );
  }
}
