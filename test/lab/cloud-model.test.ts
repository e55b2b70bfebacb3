import { reachesInternet } from "../../lab/model/model.ts";
import { readNodeSettings } from "../../lab/node-settings.ts";
import { openCloud } from "../../lab/open-cloud.ts";
import type { RunningCloud } from "../../lab/cloud/running.ts";
import { exitNodeCloud, synthesize, synthesizeWhole } from "./stack.ts";

const { model } = exitNodeCloud().read;
const [node] = model.instances;

test("the exit-node stack is one instance in a public subnet, with a dynamic public address", () => {
  expect(model.instances).toHaveLength(1);
  expect(model.notModelled).toEqual([]);
  expect(node?.primary.publicAddress).toMatchObject({ allocationId: undefined });
  expect(node && reachesInternet(node.template.subnet)).toBe(true);
  expect(node?.primary.sourceDestCheck).toBe(true);
  expect(node?.template.subnet.cidr.contains(node.primary.privateIp)).toBe(true);
});

test("its security group lets the tunnel's port in from everywhere and nothing else", () => {
  const rules = node?.template.groups.flatMap((group) => group.ingress) ?? [];
  expect(
    rules.map(({ protocol, ports, peer }) => [protocol, ports, peer.kind === "prefix" && peer.prefix.text]),
  ).toEqual([
    ["udp", { from: 41641, to: 41641 }, "0.0.0.0/0"],
    ["udp", { from: 41641, to: 41641 }, "::/0"],
  ]);
});

test("with the port closed in the stack no rule lets anything in", () => {
  const closed = exitNodeCloud({ openTunnelPort: false }).read.model.securityGroups;
  expect(closed.flatMap(({ ingress }) => ingress)).toEqual([]);
});

const loginServer = "https://control.example.com";

test("the agent's port and name come from the stack", () => {
  expect(settings(exitNodeCloud({ port: 50000, hostname: "tor" }))).toEqual({
    hostname: "tor",
    port: 50000,
    config: expect.objectContaining({ port: 50000, loginServer, hostname: "tor", advertiseExitNode: true }),
  });
  expect(settings(exitNodeCloud())).toEqual({
    hostname: "exit-node",
    port: 41641,
    config: expect.objectContaining({ port: 41641, loginServer, advertiseExitNode: true }),
  });
});

test.each([
  ["", /does not write \/etc\/sallyport\/agent\.json/],
  ["cat > /etc/sallyport/agent.json <<'X'\n{,}\nX\n", /is not a JSON object/],
  ["cat > /etc/sallyport/agent.json <<'X'\n{\"port\":0}\nX\n", /port is not 1 to 65535/],
])("user data %j is refused", (userData, message) => {
  expect(() => readNodeSettings({ namespace: "exit-node", userData })).toThrow(message);
});

test("the whole stack is read, and told that it is relay and coordination server at its address", () => {
  const cloud = openCloud([{ name: "stack", json: synthesizeWhole() }]);
  expect(settings(cloud).config).toMatchObject({
    relay: { address: "198.18.10.11", coordination: true },
    control: { hostname: "198.18.10.11" },
  });
  const { instances, interfaces, volumes, parameters, roles, buckets } = cloud.read.model;
  expect(instances[0]?.primary.publicAddress).toBeUndefined();
  const ingress = interfaces.find(({ id }) => id === instances[0]?.attached[0]?.interfaceId);
  expect(ingress?.publicAddress?.allocationId).toMatch(/^eipalloc-0/);
  expect(instances[0]?.volumes.map(({ volumeId }) => volumeId)).toEqual([volumes[0]?.id]);
  expect(parameters.map(({ name, value }) => [name, value])).toEqual([
    ["/sallyport/exit-node-stack/join", "pending"],
  ]);
  expect(instances[0]?.template.role).toBe(roles[0]?.name);
  expect(roles[0]?.policies.join()).toContain("${ec2:InstanceId}");
  expect(buckets[0]?.objects[0]?.file).toBe(require.resolve("./stack.ts"));
});

test("a split egress has two interfaces, each in its subnet, and leaves by the NAT gateway", () => {
  const { instances, interfaces, natGateways } = exitNodeCloud({ egress: "nat-gateway" }).read.model;
  const [one] = instances;
  const subnet = one?.template.subnet;
  expect(subnet && reachesInternet(subnet)).toBe(false);
  expect(subnet?.routes.map(({ destination, target }) => [destination.text, target.kind])).toEqual([
    ["0.0.0.0/0", "nat"],
    ["::/0", "egress-only"],
  ]);
  expect(one?.primary.publicAddress).toBeUndefined();
  expect(one?.attached).toMatchObject([{ interfaceId: interfaces[0]?.id, deviceIndex: 1 }]);
  expect(interfaces[0]?.publicAddress?.ip.text).not.toBe(natGateways[0]?.publicIp.text);
  expect(interfaces[0] && reachesInternet(interfaces[0].subnet)).toBe(true);
});

test("a self-healing node is a group with its hooks, and a template that has the user data", () => {
  const cloud = exitNodeCloud({
    ...{ egress: "nat-gateway", selfHealing: true },
    agent: { file: __filename },
  });
  const [group] = cloud.read.model.groups;
  expect(group).toMatchObject({ minSize: 1, maxSize: 2, desiredCapacity: 1 });
  expect(group?.hooks.map(({ transition }) => transition.split("_").at(-1))).toEqual([
    "LAUNCHING",
    "TERMINATING",
  ]);
  expect(group?.template.userData).toContain("/etc/sallyport/agent.json");
  expect(cloud.instances.map(({ namespace }) => namespace)).toEqual(["exit-node"]);
});

test("what the lab doesn't rebuild is listed, and may be referred to", () => {
  const { notModelled } = changed((resources) => {
    resources["aws_cloudwatch_log_group"] = { logs: { name: "node" } };
    instanceOf(resources)["tags"] = { Name: "${aws_cloudwatch_log_group.logs.name}" };
  }).read.model;
  expect(notModelled).toEqual(["aws_cloudwatch_log_group.logs"]);
});

test("without a route to the internet gateway the subnet is not public", () => {
  const [subnet] = changed((resources) => delete resources["aws_route"]).read.model.subnets;
  expect(subnet && reachesInternet(subnet)).toBe(false);
});

test("an instance that is repeated is two, with names of their own", () => {
  const cloud = changed((resources) => (instanceOf(resources)["count"] = 2));
  expect(cloud.instances.map(({ namespace }) => namespace)).toEqual(["exit-node", "exit-node-us-east-1"]);
  expect(new Set(cloud.instances.map(({ interfaces }) => interfaces[0]?.privateIps[0])).size).toBe(2);
});

test("a VPC of another provider is in that provider's region, and what is in it, too", () => {
  const { model: far } = openCloud([
    {
      name: "two-regions",
      json: {
        provider: { aws: [{ region: "us-east-1" }, { alias: "eu", region: "eu-west-1" }] },
        resource: {
          aws_vpc: { v: { provider: "aws.eu", cidr_block: "10.0.0.0/16" } },
          aws_subnet: { s: { provider: "aws.eu", vpc_id: "${aws_vpc.v.id}", cidr_block: "10.0.0.0/24" } },
          aws_instance: { i: { provider: "aws.eu", subnet_id: "${aws_subnet.s.id}" } },
          aws_ssm_parameter: { p: { region: "eu-west-3", name: "/p" } },
        },
      },
    },
  ]).read;
  expect(far.vpcs.map(({ region }) => region)).toEqual(["eu-west-1"]);
  expect(far.subnets.map(({ zone }) => zone)).toEqual(["eu-west-1a"]);
  expect(far.regions).toEqual(["us-east-1", "eu-west-1", "eu-west-3"]);
});

test.each<[string, (resources: Resources) => void, RegExp]>([
  [
    "a subnet in another region than its VPC",
    (resources) => {
      for (const subnet of Object.values(resources["aws_subnet"] ?? {})) subnet["region"] = "eu-west-1";
    },
    /aws_subnet\.\S+ is in eu-west-1, and its VPC in us-east-1/,
  ],
  [
    "an instance with interfaces in blocks",
    (resources) => (instanceOf(resources)["network_interface"] = [{ device_index: 0 }]),
    /aws_instance\.\S+ has network_interface blocks; the lab reads aws_network_interface_attachment resources/,
  ],
  ["no instance", (resources) => delete resources["aws_instance"], /no instance/],
  [
    "a subnet from elsewhere",
    (resources) => (instanceOf(resources)["subnet_id"] = "subnet-1"),
    /aws_instance\.\S+ refers to the subnet subnet-1, which isn't in this stack/,
  ],
  [
    "a security group from elsewhere",
    (resources) => (instanceOf(resources)["vpc_security_group_ids"] = ["sg-1"]),
    /refers to the security group sg-1, which isn't in this stack/,
  ],
  [
    "an address outside of its subnet",
    (resources) => (instanceOf(resources)["private_ip"] = "192.0.2.1"),
    /has the address 192\.0\.2\.1, outside of 10\.80\.0\.0\/18/,
  ],
  [
    "a rule for one type of ICMP",
    (resources) => {
      const rule = {
        security_group_id: instanceGroup(resources),
        ip_protocol: "icmp",
        from_port: 8,
        cidr_ipv4: "0.0.0.0/0",
      };
      resources["aws_vpc_security_group_ingress_rule"] = { r: rule };
    },
    /r is for one type of ICMP/,
  ],
  [
    "a rule that names a prefix list",
    (resources) => {
      resources["aws_vpc_security_group_ingress_rule"] = {
        r: { security_group_id: instanceGroup(resources), ip_protocol: "-1", prefix_list_id: "pl-1" },
      };
    },
    /aws_vpc_security_group_ingress_rule\.r names its peer by something other/,
  ],
  [
    "a route to something else",
    (resources) => {
      for (const route of Object.values(resources["aws_route"] ?? {})) {
        delete route["gateway_id"];
        route["transit_gateway_id"] = "tgw-1";
      }
    },
    /aws_route\.\S+ leads to something the lab doesn't know/,
  ],
])("%s is refused", (_, change, message) => {
  expect(() => changed(change)).toThrow(message);
});

describe("of a group", () => {
  const grouped = (change: (resources: Resources) => void): RunningCloud => {
    const json = synthesize({ egress: "nat-gateway", selfHealing: true, agent: { file: __filename } });
    change(json["resource"] as Resources);
    return openCloud([{ name: "exit-node-stack", json }]);
  };
  const interfacesOf = (resources: Resources): Record<string, unknown>[] => {
    const [template] = Object.values(resources["aws_launch_template"] ?? {});
    return template?.["network_interfaces"] as Record<string, unknown>[];
  };

  test.each<[string, (resources: Resources) => void, RegExp]>([
    [
      "a template with a second interface",
      (resources) => interfacesOf(resources).push({ device_index: 1 }),
      /aws_launch_template\.\S+\.network_interfaces\[1\] is one more than the lab starts an instance of a group with/,
    ],
    [
      "a template whose one interface is not the first",
      (resources) => Object.assign(interfacesOf(resources)[0] ?? {}, { device_index: 1 }),
      /aws_launch_template\.\S+\.network_interfaces\[0\] has the device index 1/,
    ],
    [
      "a template with an interface that exists",
      (resources) => Object.assign(interfacesOf(resources)[0] ?? {}, { network_interface_id: "eni-1" }),
      /aws_launch_template\.\S+\.network_interfaces\[0\] names an interface that exists/,
    ],
    [
      "a size that is no number",
      (resources) => {
        for (const group of Object.values(resources["aws_autoscaling_group"] ?? {}))
          group["desired_capacity"] = "many";
      },
      /aws_autoscaling_group\.\S+\.desired_capacity is not a number: many/,
    ],
  ])("%s is refused", (_, change, message) => {
    expect(() => grouped(change)).toThrow(message);
  });
});

type Resources = Record<string, Record<string, Record<string, unknown>>>;

function changed(change: (resources: Resources) => void): RunningCloud {
  const json = synthesize();
  change(json["resource"] as Resources);
  return openCloud([{ name: "exit-node-stack", json }]);
}

function settings(cloud: RunningCloud): ReturnType<typeof readNodeSettings> {
  const [one] = cloud.instances;
  if (one === undefined) throw new Error("no instance");
  return readNodeSettings(one);
}

const instanceOf = (resources: Resources): Record<string, unknown> =>
  Object.values(resources["aws_instance"] ?? {})[0] ?? {};
const instanceGroup = (resources: Resources): unknown =>
  (instanceOf(resources)["vpc_security_group_ids"] as unknown[])[0];
