/** The stacks that a lab is built from, as documents that know each other. */
import { UsageError } from "../agent/src/base/errors.ts";
import { fromShown, isShown } from "./terraform-plan.ts";
import { type DocumentOptions, TerraformDocument } from "./terraform.ts";
import { asObject, type Value } from "./terraform-values.ts";

export interface StackSource {
  /** As `cdktf` calls it. */
  readonly name: string;
  /** The parsed content of cdk.tf.json, or of what `terraform show -json` prints. */
  readonly json: unknown;
}

/** @throws UsageError */
export function readDocuments(
  sources: readonly StackSource[],
  existing?: DocumentOptions["existing"],
): readonly TerraformDocument[] {
  const twice = sources.find((one, i) => sources.findIndex(({ name }) => name === one.name) !== i);
  if (twice !== undefined) throw new UsageError("lab-stack", `the stack ${twice.name} is given twice`);
  const byName = new Map<string, TerraformDocument>();
  return sources.map(({ name, json }, index) => {
    const shown = asObject(json as Value);
    const document = TerraformDocument.read(isShown(shown) ? fromShown(shown) : json, {
      name,
      index,
      others: (other) => byName.get(other),
      ...(existing === undefined ? {} : { existing }),
    });
    byName.set(name, document);
    return document;
  });
}
