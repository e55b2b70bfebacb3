import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HEALTH_TAG_FILTER } from "../../constructs/health-tags.ts";
import { type AppOptions, type Run, runApp } from "./app.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-stacks-"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const synth = (options?: AppOptions): Run => runApp("stacks/main.ts", folder, options);

test("with nothing configured there is one stack, exit-node-stack, with its outputs", () => {
  const { status, stacks } = synth();
  expect(status).toBe(0);
  expect(Object.keys(stacks)).toEqual(["exit-node-stack"]);
  const stack = stacks["exit-node-stack"];
  expect(stack?.output("tunnelPort")).toBe(41641);
  expect(stack?.output("healthTagFilter")).toBe(HEALTH_TAG_FILTER);
  expect(stack?.output("ingressPublicIp")).toMatch(/^\$\{aws_eip\..+\.public_ip\}$/);
}, 30_000);

test("every stack tells the same five outputs, and how to join where it is a network's server", () => {
  const { status, stacks } = synth({
    config: JSON.stringify({ stacks: ["exit-node-stack", "relay-stack", "coordination-stack"] }),
  });
  expect(status).toBe(0);
  for (const [id, stack] of Object.entries(stacks)) {
    for (const name of ["ingressPublicIp", "egressPublicIps", "tunnelPort", "derpMap", "healthTagFilter"]) {
      expect({ id, name, value: stack.output(name) }).not.toMatchObject({ value: undefined });
    }
  }
  expect(stacks["relay-stack"]?.output("tunnelPort")).toBe("none");
  expect(stacks["coordination-stack"]?.output("join")).toMatch(
    /^aws ssm get-parameter .* \| sallyport up --login-server https:\/\/\$\{aws_eip\..+\} --auth-key -$/,
  );
}, 30_000);

test("every further region is a stack of its own, with a provider in that region", () => {
  const { stacks } = synth({ config: '{ "regions": ["eu-west-1", "ap-south-1"] }' });
  expect(Object.keys(stacks).sort()).toEqual(["exit-node-stack", "exit-node-stack-ap-south-1"]);
  expect(stacks["exit-node-stack"]?.json["provider"]).toEqual({ aws: [{ region: "eu-west-1" }] });
  expect(stacks["exit-node-stack-ap-south-1"]?.json["provider"]).toEqual({ aws: [{ region: "ap-south-1" }] });
}, 30_000);

test("the context overrides the file field by field: here it closes the port that the file chose", () => {
  const { stacks } = synth({
    config: '{ "port": 41700 }',
    context: { openTunnelPort: false },
  });
  const stack = stacks["exit-node-stack"];
  expect(stack?.output("tunnelPort")).toBe(41700);
  const rules = stack?.resources("aws_vpc_security_group_ingress_rule") ?? [];
  expect(rules.filter((rule) => rule["from_port"] === 41700)).toEqual([]);
  expect(stack?.resource("aws_instance")["user_data"]).toContain('"port": 41700');
}, 30_000);

test("what can not be used ends with exit code 2 and the list of it, and nothing is written", () => {
  const { status, stderr, stacks } = synth({
    config: '{ "port": 0, "region": "eu-west-1" }',
    context: { instanceType: "t3.nano", agent: { file: "gone.tar" } },
  });
  expect(status).toBe(2);
  expect(stderr).toContain("instanceType: t3.nano is x86_64");
  expect(stderr).toContain("context sallyport: agent.file: gone.tar is not there");
  expect(stderr).toContain("sallyport.config.json: port: give a whole number from 1 to 65535");
  expect(stderr).toContain("sallyport.config.json: region: no such field");
  expect(stderr).not.toContain("    at ");
  expect(stacks).toEqual({});
}, 30_000);

test("a relay is synthesized in a network that has only a public subnet", () => {
  const network = { vpcId: "vpc-0a", publicSubnetId: "subnet-0a" };
  const { status, stacks } = synth({ config: JSON.stringify({ stacks: ["relay-stack"], network }) });
  expect(status).toBe(0);
  expect(stacks["relay-stack"]?.resource("aws_instance")["subnet_id"]).toBe("subnet-0a");
}, 30_000);

test("a node that joins a server keeps its identity over a new image, or not, as the configuration says", () => {
  const volumes = (fields: object) => {
    const loginServer = "https://control.example.com";
    const config = JSON.stringify({ loginServer, stacks: ["exit-node-stack", "relay-stack"], ...fields });
    return Object.values(synth({ config }).stacks).map((stack) => stack.resources("aws_ebs_volume").length);
  };
  expect(volumes({})).toEqual([1, 1]);
  expect(volumes({ keepIdentity: false })).toEqual([0, 0]);
}, 30_000);

test("the network's zone has the type that the node is of, or is the one that is configured", () => {
  const stackOf = (config: object) => synth({ config: JSON.stringify(config) }).stacks["exit-node-stack"];
  const typesOf = (config: object) =>
    stackOf(config)
      ?.data("aws_ec2_instance_type_offerings")
      .flatMap(({ filter }) => (filter as { readonly values: readonly string[] }[])[0]?.values);
  expect(typesOf({ architecture: "x86_64" })).toEqual(["t3.nano"]);
  expect(typesOf({ instanceType: "c7gn.medium" })).toEqual(["c7gn.medium"]);
  expect(typesOf({ availabilityZone: "us-east-1c" })).toEqual([]);
  expect(stackOf({ availabilityZone: "us-east-1c" })?.resources("aws_subnet")[1]).toMatchObject({
    availability_zone: "us-east-1c",
  });
}, 30_000);

test("a configuration file that is named and not there is an error", () => {
  const { status, stderr } = synth({ env: { SALLYPORT_CONFIG: "elsewhere.json" } });
  expect(status).toBe(2);
  expect(stderr).toContain("SALLYPORT_CONFIG names elsewhere.json, which is not there");
}, 30_000);

test("the example one-exit-node synthesizes an exit node of its own name", () => {
  const { status, stacks } = runApp("examples/one-exit-node/main.ts", folder);
  expect(status).toBe(0);
  expect(Object.keys(stacks)).toEqual(["one-exit-node"]);
  const stack = stacks["one-exit-node"];
  expect(stack?.resource("aws_instance")["user_data"]).toContain('"hostname": "exit-frankfurt"');
  expect(stack?.output("address")).toMatch(/public_ip\}:41641$/);
}, 30_000);
