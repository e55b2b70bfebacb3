import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { Testing, TerraformStack } from "cdktf";
import { testApp } from "./test-app.ts";

export type Attributes = Readonly<Record<string, unknown>>;

/** The Terraform JSON of a stack, as facts to ask for. */
export class Synthesized {
  readonly json: Readonly<Record<string, unknown>>;

  constructor(text: string) {
    this.json = JSON.parse(text) as Readonly<Record<string, unknown>>;
  }

  resources(type: string): readonly Attributes[] {
    return Object.values(this.#kinds("resource")[type] ?? {});
  }

  /** The one resource of that type. */
  resource(type: string): Attributes {
    const [first, ...others] = this.resources(type);
    if (first === undefined || others.length > 0) {
      throw new Error(`expected one ${type}, found ${this.resources(type).length}`);
    }
    return first;
  }

  get resourceTypes(): readonly string[] {
    return Object.keys(this.#kinds("resource"));
  }

  data(type: string): readonly Attributes[] {
    return Object.values(this.#kinds("data")[type] ?? {});
  }

  output(name: string): unknown {
    return this.#kinds("output")[name]?.["value"];
  }

  #kinds(section: string): Readonly<Record<string, Readonly<Record<string, Attributes>>>> {
    return (this.json[section] ?? {}) as Readonly<Record<string, Readonly<Record<string, Attributes>>>>;
  }
}

/** Synthesizes a stack of its own around what `build` makes. */
export function synthesize(build: (stack: TerraformStack) => void): Synthesized {
  const stack = new TerraformStack(testApp(), "test");
  new AwsProvider(stack, "aws", { region: "eu-west-1" });
  build(stack);
  return new Synthesized(Testing.synth(stack));
}
