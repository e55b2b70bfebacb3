import { DataAwsCallerIdentity } from "@cdktf/provider-aws/lib/data-aws-caller-identity/index.js";
import { DataAwsPartition } from "@cdktf/provider-aws/lib/data-aws-partition/index.js";
import { DataAwsRegion } from "@cdktf/provider-aws/lib/data-aws-region/index.js";
import type { Construct } from "constructs";
import { TerraformStack } from "cdktf";

/** Where a stack is deployed, as its provider says. */
export interface Region {
  /** Such as "eu-west-1". */
  readonly name: string;
  readonly accountId: string;
  /** "aws", "aws-cn" or "aws-us-gov". */
  readonly partition: string;
  /** What the names of its services end with, such as "amazonaws.com". */
  readonly domain: string;
}

/** Looked up once a stack, however many ask. */
export function regionOf(scope: Construct): Region {
  const stack = TerraformStack.of(scope);
  const region = once(stack, "SallyportRegion", (id) => new DataAwsRegion(stack, id));
  const account = once(stack, "SallyportAccount", (id) => new DataAwsCallerIdentity(stack, id));
  const partition = once(stack, "SallyportPartition", (id) => new DataAwsPartition(stack, id));
  // `id` is the region's name in every version of the provider; its `name` is deprecated in the newer ones.
  return {
    name: region.id,
    accountId: account.accountId,
    partition: partition.partition,
    domain: partition.dnsSuffix,
  };
}

function once<T extends Construct>(stack: TerraformStack, id: string, make: (id: string) => T): T {
  const found = stack.node.tryFindChild(id);
  // It was made here: nothing else has these names.
  return found === undefined ? make(id) : (found as T);
}
