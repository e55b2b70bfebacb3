import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { ExitNode, type ExitNodeProps } from "../../constructs/exit-node.ts";
import { HEALTH_TAG_KEYS } from "../../constructs/health-tags.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";
import { type Synthesized, synthesize } from "./synthesized.ts";

const inExistingNetwork = { vpcId: "vpc-1", publicSubnetId: "subnet-1" };

const exitNode = (props: Partial<ExitNodeProps> = {}): Synthesized =>
  synthesize((stack) => {
    new ExitNode(stack, "exit", { network: inExistingNetwork, ...props });
  });
const instance = (props: Partial<ExitNodeProps> = {}) => exitNode(props).resource("aws_instance");

test("it has a dynamic public address in the public subnet", () => {
  expect(instance()).toMatchObject({ subnet_id: "subnet-1", associate_public_ip_address: true });
  expect(exitNode().resourceTypes).not.toContain("aws_eip");
});

test("its metadata service takes version 2 requests of the instance itself only", () => {
  expect(instance()["metadata_options"]).toEqual({
    http_endpoint: "enabled",
    http_tokens: "required",
    http_put_response_hop_limit: 1,
  });
});

test("its disk is encrypted", () => {
  expect(instance()["root_block_device"]).toMatchObject({ encrypted: true, volume_type: "gp3" });
});

test("EC2 goes on checking what it sends: exit traffic bears the instance's own address", () => {
  expect(instance()["source_dest_check"]).toBe(true);
});

test("a deploy leaves the health tags alone, and declares none of them", () => {
  const { lifecycle, tags } = instance();
  expect(lifecycle).toEqual({ ignore_changes: HEALTH_TAG_KEYS.map((key) => `tags["${key}"]`) });
  for (const key of HEALTH_TAG_KEYS) expect(tags).not.toHaveProperty([key]);
});

test("by default it is the smallest arm64 instance with the newest Amazon Linux", () => {
  expect(instance()["instance_type"]).toBe("t4g.nano");
  expect(instance()["ami"]).toMatch(/^\$\{data\.aws_ssm_parameter\..+\.insecure_value\}$/);
  expect(exitNode().data("aws_ssm_parameter")).toMatchObject([
    { name: "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64" },
  ]);
});

test("x86_64 takes the smallest of its kind and its own image", () => {
  expect(instance({ architecture: "x86_64" })["instance_type"]).toBe("t3.nano");
  expect(exitNode({ architecture: "x86_64" }).data("aws_ssm_parameter")).toMatchObject([
    { name: expect.stringMatching(/x86_64$/) },
  ]);
});

test("a given image is used, and none is looked up", () => {
  const given = exitNode({ machineImageId: "ami-0123456789abcdef0" });
  expect(given.resource("aws_instance")["ami"]).toBe("ami-0123456789abcdef0");
  expect(given.data("aws_ssm_parameter")).toEqual([]);
  expect(exitNode().data("aws_ami")).toEqual([]);
});

test("a given image is looked at when it is planned: it must be for the processor of the instance", () => {
  const given = exitNode({ machineImageId: "ami-0123456789abcdef0", architecture: "x86_64" });
  expect(given.data("aws_ami")).toMatchObject([
    {
      filter: [{ name: "image-id", values: ["ami-0123456789abcdef0"] }],
      // Amazon Linux's are deprecated after three months, and can be used on.
      include_deprecated: true,
      lifecycle: { postcondition: [{ condition: '${self.architecture == "x86_64"}' }] },
    },
  ]);
});

test("the port is the same in the firewall and in what the instance is told", () => {
  const node = exitNode({ port: 41700 });
  expect(node.resources("aws_vpc_security_group_ingress_rule")).toMatchObject([
    { from_port: 41700, to_port: 41700 },
    { from_port: 41700, to_port: 41700 },
  ]);
  expect(node.resource("aws_instance")["user_data"]).toContain('"port": 41700');
});

test("the agent is told to write health tags where its role lets it", () => {
  const told = '"healthTags": "on"';
  expect(instance()["user_data"]).not.toContain(told);
  expect(instance({ sessionManager: true })["user_data"]).toContain(told);
});

test("a changed port reaches the instance: new user data replaces it", () => {
  expect(instance()["user_data_replace_on_change"]).toBe(true);
});

test("in a network of its own it waits for the way to the internet: routes and rules", () => {
  const node = synthesize((stack) => {
    new ExitNode(stack, "exit", { network: new TunnelNetwork(stack, "network") });
  });
  expect(node.resource("aws_instance")["depends_on"]).toEqual([
    expect.stringMatching(/^aws_route\..*Ipv4/),
    expect.stringMatching(/^aws_route\..*Ipv6/),
    expect.stringMatching(/^aws_route_table_association\./),
    ...Array.from({ length: 6 }, (): unknown =>
      expect.stringMatching(/^aws_vpc_security_group_egress_rule\./),
    ),
  ]);
});

test("a replaced instance is still the same device: its keys are on a volume of their own, unless that is not wanted", () => {
  const joining = (props: Partial<ExitNodeProps>) =>
    synthesize((stack) => {
      const bundle = new AgentBundle(stack, "agent", { file: __filename });
      const loginServer = "https://control.example.com";
      new ExitNode(stack, "exit", { network: inExistingNetwork, bundle, loginServer, ...props });
    });
  const kept = joining({});
  expect(kept.resource("aws_volume_attachment")["volume_id"]).toMatch(/^\$\{aws_ebs_volume\./);
  expect(kept.resource("aws_instance")["user_data"]).toMatch(/^volume=\$\{aws_ebs_volume\./m);
  expect(joining({ keepIdentity: false }).resourceTypes).not.toContain("aws_ebs_volume");
});

test("the end of a self-healing node is not waited for so long that Terraform gives up before", () => {
  const split = { ...inExistingNetwork, privateSubnetId: "subnet-2", privateRouteTableId: "rtb-1" };
  const node = synthesize((stack) => {
    const bundle = new AgentBundle(stack, "agent", { file: __filename });
    new ExitNode(stack, "exit", { network: split, egress: "nat-gateway", selfHealing: true, bundle });
  });
  const group = node.resource("aws_autoscaling_group");
  expect(group["initial_lifecycle_hook"]).toMatchObject([
    { lifecycle_transition: "autoscaling:EC2_INSTANCE_LAUNCHING", heartbeat_timeout: 600 },
    { lifecycle_transition: "autoscaling:EC2_INSTANCE_TERMINATING", heartbeat_timeout: 120 },
  ]);
  expect(group["timeouts"]).toEqual({ delete: "20m" });
});

test("tags of one's own are added, and the Name can be chosen", () => {
  expect(instance({ tags: { Name: "exit-eu", team: "net" } })["tags"]).toEqual({
    Name: "exit-eu",
    team: "net",
  });
});

test.each([0, 65536, NaN, 1.5])("port %p is refused", (port) => {
  expect(() => exitNode({ port })).toThrow(`port is ${port}: give a whole number from 1 to 65535`);
});

test.each<{ instanceType: string; architecture: "arm64" | "x86_64" }>([
  { instanceType: "t3.nano", architecture: "arm64" },
  { instanceType: "m7i-flex.large", architecture: "arm64" },
  { instanceType: "g5.xlarge", architecture: "arm64" },
  { instanceType: "t4g.nano", architecture: "x86_64" },
  { instanceType: "c7gn.medium", architecture: "x86_64" },
  { instanceType: "a1.medium", architecture: "x86_64" },
])("$instanceType is refused as $architecture, with the remedy", (props) => {
  expect(() => exitNode(props)).toThrow(
    /instanceType .+: set architecture to ".+", or choose a type such as/,
  );
});

test.each(["t4g.small", "c8gn.large", "r8gd.medium", "im4gn.large", "g5g.xlarge", "x2gd.medium"])(
  "%s is taken as arm64",
  (instanceType) => {
    expect(instance({ instanceType })["instance_type"]).toBe(instanceType);
  },
);

test("an empty image id is refused", () => {
  expect(() => exitNode({ machineImageId: "" })).toThrow("machineImageId is empty");
});
