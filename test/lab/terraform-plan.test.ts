import { fromShown, isShown } from "../../lab/terraform-plan.ts";
import { TerraformDocument } from "../../lab/terraform.ts";
import type { Attributes } from "../../lab/terraform-values.ts";

/** As `terraform show -json` prints a plan: what is known, and beside it what the configuration refers to. */
const PLAN: Attributes = {
  format_version: "1.2",
  planned_values: {
    root_module: {
      resources: [
        {
          ...{ address: "aws_vpc.v", mode: "managed", type: "aws_vpc", name: "v" },
          values: { cidr_block: "10.9.0.0/16", ipv6_cidr_block_network_border_group: null },
        },
        {
          ...{ address: "aws_subnet.s[0]", mode: "managed", type: "aws_subnet", name: "s", index: 0 },
          values: { cidr_block: "10.9.1.0/24", tags: { Name: "is ${literal}" } },
        },
        { address: "data.aws_region.here", mode: "data", type: "aws_region", name: "here", values: {} },
      ],
    },
  },
  configuration: {
    provider_config: { aws: { expressions: { region: { constant_value: "eu-west-3" } } } },
    root_module: {
      resources: [
        { address: "aws_vpc.v", expressions: { cidr_block: { constant_value: "10.9.0.0/16" } } },
        {
          address: "aws_subnet.s",
          expressions: { vpc_id: { references: ["aws_vpc.v.id", "aws_vpc.v"] }, cidr_block: {} },
        },
      ],
    },
  },
};

test("known values stand as they are, and what is known only after apply is what the configuration refers to", () => {
  expect(isShown(PLAN)).toBe(true);
  expect(isShown({ resource: {} })).toBe(false);
  const document = TerraformDocument.read(fromShown(PLAN));
  const [subnet] = document.resources.filter(({ type }) => type === "aws_subnet");
  expect(subnet && document.attributes(subnet)).toEqual({
    cidr_block: "10.9.1.0/24",
    tags: { Name: "is ${literal}" },
    vpc_id: expect.stringMatching(/^vpc-0[0-9a-f]{16}$/),
  });
  expect(document.resources.map(({ type }) => type)).toEqual(["aws_vpc", "aws_subnet"]);
  expect(fromShown(PLAN)["provider"]).toEqual({ aws: [{ region: "eu-west-3" }] });
});

test("a plan with modules is one sentence", () => {
  const values = { root_module: { child_modules: [{ address: "module.m" }] } };
  expect(() => fromShown({ format_version: "1.2", planned_values: values })).toThrow(
    "the plan has modules, which the lab does not read: give the JSON that `cdktf synth` wrote",
  );
});

test("a plan's resources are in the region of their provider, known or a variable's", () => {
  const vpc = (name: string): Attributes => ({
    ...{ address: `aws_vpc.${name}`, mode: "managed", type: "aws_vpc", name },
    values: { cidr_block: "10.9.0.0/16" },
  });
  const document = TerraformDocument.read(
    fromShown({
      format_version: "1.2",
      variables: { far: { value: "eu-west-1" } },
      planned_values: { root_module: { resources: [vpc("near"), vpc("far")] } },
      configuration: {
        provider_config: {
          aws: { name: "aws", expressions: { region: { constant_value: "us-west-2" } } },
          "aws.eu": { name: "aws", alias: "eu", expressions: { region: { references: ["var.far"] } } },
        },
        root_module: {
          resources: [
            { address: "aws_vpc.near", provider_config_key: "aws", expressions: {} },
            { address: "aws_vpc.far", provider_config_key: "aws.eu", expressions: {} },
          ],
        },
      },
    }),
  );
  expect(document.resources.map((one) => document.regionOf(one))).toEqual(["us-west-2", "eu-west-1"]);
});
