import { readDocuments } from "../../lab/documents.ts";
import { TerraformDocument } from "../../lab/terraform.ts";
import type { Attributes, Value } from "../../lab/terraform-values.ts";
import { synthesize } from "./stack.ts";

test("every attribute of the synthesized stack is resolved", () => {
  const document = TerraformDocument.read(synthesize());
  for (const resource of document.resources) {
    expect(JSON.stringify(document.attributes(resource))).not.toContain("${");
  }
});

test("a reference arrives at the resource by its id, and at an attribute by its value", () => {
  expect(value("${aws_vpc.v.id}", { aws_vpc: { v: { cidr_block: "10.0.0.0/16" } } })).toMatch(
    /^vpc-0[0-9a-f]{16}$/,
  );
  expect(value("in ${aws_vpc.v.cidr_block}", { aws_vpc: { v: { cidr_block: "10.0.0.0/16" } } })).toBe(
    "in 10.0.0.0/16",
  );
});

test.each<[string, Value]>([
  ['${cidrsubnet("10.80.0.0/16", 2, 0)}', "10.80.0.0/18"],
  ['${cidrsubnet("10.80.0.0/16", 8, 5)}', "10.80.5.0/24"],
  ['${cidrsubnet("2001:db8::/56", 8, 255)}', "2001:db8:0:ff::/64"],
  ['${cidrhost("10.80.0.0/24", 7)}', "10.80.0.7"],
  ['${join(",", ["a", "b"])}', "a,b"],
  ['${element(["a", "b"], 3)}', "b"],
  ['${sort(["b", "a-1", "a"])}', ["a", "a-1", "b"]],
  ['${base64decode(base64encode("häuser"))}', "häuser"],
  ['${jsonencode(["a", 1])}', '["a",1]'],
  ["${data.aws_region.here.name}", "us-east-1"],
  ["${data.aws_availability_zones.z.names[1]}", "us-east-1b"],
  ["${local.port}", 41641],
  ["${var.name}", "default"],
  ["${terraform.workspace}", "default"],
  ["${aws_subnet.s[1].cidr_block}", "10.0.1.0/24"],
  ['${aws_subnet.t["b"].cidr_block}', "10.0.9.0/24"],
  ["$${aws:username}", "${aws:username}"],
])("%s is %j", (expression, expected) => {
  expect(value(expression)).toEqual(expected);
});

test.each([
  [
    "${aws_vpc.missing.id}",
    /aws_thing\.one\.attribute = \$\{aws_vpc\.missing\.id\}: there is no resource aws_vpc\.missing/,
  ],
  ["${aws_thing.one.unheard_of}", /the lab has no value for aws_thing\.one\.unheard_of/],
  ["${timestamp()}", /aws_thing\.one\.attribute = .*the function timestamp\(\) is not known/],
  ["${data.aws_moon.m.phase}", /no value for data\.aws_moon/],
  ["${aws_subnet.s.cidr_block}", /no resource aws_subnet\.s; it is repeated, as aws_subnet\.s\[0\]/],
  ["${aws_thing.one.attribute}", /refers to itself in a circle/],
  ["${1 + 1}", /aws_thing\.one\.attribute = .*not understood at/],
  ['${cidrsubnet("10.0.0.0/8", 1, 2)}', /has no subnet 2/],
  ['${cidrsubnet("nonsense", 1, 1)}', /not an address prefix/],
  ['${base64decode("%%%")}', /aws_thing\.one\.attribute = .*base64decode\(\): “%%%” is not base64/],
  ['${cidrhost("10.0.0.0/24", 256)}', /10\.0\.0\.0\/24 has no address 256/],
  ['${replace("abc", "/b/", "x")}', /replace\(\) by a regular expression/],
  ['${tonumber("many")}', /tonumber\(\): “many” is not a number/],
  ['${constructor("x")}', /the function constructor\(\) is not known/],
  ['${toString("x")}', /the function toString\(\) is not known/],
])("%s is an error that names resource and expression", (expression, message) => {
  expect(() => value(expression)).toThrow(message);
});

test("stacks refer to each other's outputs, when both are given", () => {
  const home = {
    output: { url: { value: "https://${aws_eip.e.public_ip}" } },
    resource: { aws_eip: { e: {} } },
  };
  const away = {
    data: {
      terraform_remote_state: { other: { config: { path: "/somewhere/terraform.home.tfstate" } } },
    },
    resource: { aws_thing: { one: { attribute: "${data.terraform_remote_state.other.outputs.url}" } } },
  };
  const [, second] = readDocuments([
    { name: "home", json: home },
    { name: "away", json: away },
  ]);
  const [thing] = second?.resources ?? [];
  expect(thing && second?.attribute(thing, "attribute")).toBe("https://198.18.10.10");
  const [alone] = readDocuments([{ name: "away", json: away }]);
  const [same] = alone?.resources ?? [];
  expect(() => same && alone?.attribute(same, "attribute")).toThrow(
    /refers to the stack home, which is not given/,
  );
});

describe("of a stack with several providers", () => {
  const provider = { aws: [{ region: "us-east-1" }, { alias: "eu", region: "${var.far}" }] };
  const read = (written: Attributes): TerraformDocument =>
    TerraformDocument.read({
      provider,
      variable: { far: { default: "eu-west-1" } },
      data: { aws_region: { here: {}, there: { provider: "aws.eu" } } },
      resource: { aws_ssm_parameter: { p: { name: "/p", ...written } } },
    });

  test.each<[Attributes, string]>([
    [{}, "us-east-1"],
    [{ provider: "aws" }, "us-east-1"],
    [{ provider: "aws.eu" }, "eu-west-1"],
    [{ provider: "${aws.eu}" }, "eu-west-1"],
    [{ region: "ap-south-1" }, "ap-south-1"],
    [{ provider: "aws.eu", region: "ap-south-1" }, "ap-south-1"],
  ])("a resource with %j is in %s, with all that follows from it", (written, region) => {
    const document = read(written);
    const [parameter] = document.resources;
    expect(parameter && document.regionOf(parameter)).toBe(region);
    expect(parameter && document.computed(parameter, "arn")).toContain(`:ssm:${region}:`);
  });

  test("data sources ask where their provider is", () => {
    const document = read({ description: "${data.aws_region.here.name} ${data.aws_region.there.name}" });
    const [parameter] = document.resources;
    expect(parameter && document.attribute(parameter, "description")).toBe("us-east-1 eu-west-1");
  });

  test("a provider that the stack does not have is a sentence that names the resource", () => {
    const document = read({ provider: "aws.moon" });
    const [parameter] = document.resources;
    expect(() => parameter && document.regionOf(parameter)).toThrow(
      "aws_ssm_parameter.p has the provider aws.moon, which the stack does not configure",
    );
  });
});

test.each([[undefined], [null], [[]], ["text"], [{ resource: [] }], [{ resource: { aws_vpc: 7 } }]])(
  "%j is no stack",
  (json) => {
    expect(() => TerraformDocument.read(json)).toThrow(/Terraform JSON/);
  },
);

function value(expression: string, others: object = {}): Value {
  const document = TerraformDocument.read({
    locals: { port: 41641 },
    variable: { name: { default: "default" } },
    resource: {
      aws_subnet: {
        s: { count: 2, cidr_block: "10.0.${count.index}.0/24" },
        t: { for_each: { b: 9 }, cidr_block: "10.0.${each.value}.0/24" },
      },
      ...others,
      aws_thing: { one: { attribute: expression } },
    },
  });
  const thing = document.resources.find(({ type }) => type === "aws_thing");
  if (thing === undefined) throw new Error("the thing is gone");
  return document.attribute(thing, "attribute");
}
