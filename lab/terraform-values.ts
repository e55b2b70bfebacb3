/** What stands in Terraform's JSON: resources, and the values of their attributes. */
export type Value = string | number | boolean | null | readonly Value[] | { readonly [key: string]: Value };
export type Attributes = { readonly [key: string]: Value };

export interface Resource {
  readonly type: string;
  readonly name: string;
  /** "aws_vpc.exit-node_vpc_1A2B": how expressions and messages call it. */
  readonly address: string;
  /** The attributes as written, with all expressions unresolved. */
  readonly written: Attributes;
}
