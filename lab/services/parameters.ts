/**
 * The parameters of a query protocol: `Filter.1.Name=x&Filter.1.Value.1=y`. Lists of Auto Scaling have `.member` before the
 * number.
 */
import { AwsError } from "./service.ts";

export class Parameters {
  readonly #values: ReadonlyMap<string, string>;

  constructor(values: Iterable<readonly [string, string]>) {
    this.#values = new Map([...values].map(([name, value]) => [name.replaceAll(".member.", "."), value]));
  }

  get(name: string): string | undefined {
    return this.#values.get(name);
  }

  /** @throws AwsError when it is not there */
  need(name: string): string {
    const value = this.#values.get(name);
    if (value !== undefined && value !== "") return value;
    throw new AwsError("MissingParameter", `The request must contain the parameter ${name}`);
  }

  is(name: string): boolean {
    return this.#values.get(name) === "true";
  }

  /** `name.1`, `name.2`… */
  list(name: string): readonly string[] {
    return this.items(name).flatMap((item) => item.get("") ?? []);
  }

  /** What follows `name.1.`, `name.2.`… */
  items(name: string): readonly Parameters[] {
    const items = new Map<number, [string, string][]>();
    for (const [key, value] of this.#values) {
      const [, number = "", rest = ""] = key.startsWith(`${name}.`)
        ? (/^(\d+)(?:\.(.*))?$/.exec(key.slice(name.length + 1)) ?? [])
        : [];
      if (number === "") continue;
      const item = items.get(Number(number)) ?? [];
      items.set(Number(number), item);
      item.push([rest, value]);
    }
    return [...items].sort(([a], [b]) => a - b).map(([, values]) => new Parameters(values));
  }

  /** @throws AwsError for a parameter that is none of these: what the lab does not do, it does not pass over */
  only(...known: readonly string[]): void {
    const stray = [...this.#values.keys()]
      .map((name) => name.split(".")[0] ?? "")
      .find((name) => !known.includes(name));
    if (stray === undefined) return;
    throw new AwsError("UnknownParameter", `The parameter ${stray} is not recognized (by the lab)`);
  }
}
