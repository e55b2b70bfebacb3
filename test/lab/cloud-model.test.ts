import { readCloud } from "../../lab/cloud-model.ts";
import { readNodeSettings } from "../../lab/node-settings.ts";
import { TerraformDocument } from "../../lab/terraform.ts";
import { exitNodeCloud, synthesize, synthesizeWhole } from "./stack.ts";

const cloud = exitNodeCloud();
const [node] = cloud.instances;

test("the exit-node stack is one instance in a public subnet, with a dynamic public address", () => {
  expect(cloud.instances).toHaveLength(1);
  expect(cloud.notModelled).toEqual([]);
  expect(node?.subnet.internet).toBe(true);
  expect(node?.publicAddress).toBe(true);
  expect(node?.sourceDestCheck).toBe(true);
  expect(node?.subnet.cidr.contains(node.privateIp)).toBe(true);
});

test("its security group lets the tunnel's port in from everywhere and nothing else", () => {
  expect(node?.ingress.map(({ protocol, ports, peer }) => [protocol, ports, peer.text])).toEqual([
    ["udp", { from: 41641, to: 41641 }, "0.0.0.0/0"],
    ["udp", { from: 41641, to: 41641 }, "::/0"],
  ]);
});

test("with the port closed in the stack no rule lets anything in", () => {
  expect(exitNodeCloud({ openTunnelPort: false }).instances[0]?.ingress).toEqual([]);
});

const loginServer = "https://control.example.com";

test("the agent's port and name come from the stack", () => {
  const [custom] = exitNodeCloud({ port: 50000, hostname: "tor" }).instances;
  expect(custom && readNodeSettings(custom)).toEqual({
    hostname: "tor",
    port: 50000,
    config: { port: 50000, loginServer, hostname: "tor", advertiseExitNode: true },
  });
  expect(node && readNodeSettings(node)).toEqual({
    hostname: "exit-node",
    port: 41641,
    config: { port: 41641, loginServer, advertiseExitNode: true },
  });
});

test.each([
  ["", /does not write \/etc\/sallyport\/agent\.json/],
  ["cat > /etc/sallyport/agent.json <<'X'\n{,}\nX\n", /is not a JSON object/],
  ["cat > /etc/sallyport/agent.json <<'X'\n{\"port\":0}\nX\n", /port is not 1 to 65535/],
])("user data %j is refused", (userData, message) => {
  expect(() => node && readNodeSettings({ ...node, userData })).toThrow(message);
});

test("the whole stack is read, and told that it is relay and coordination server at its address", () => {
  const model = readCloud(TerraformDocument.read(synthesizeWhole()));
  const [whole] = model.instances;
  expect(model.notModelled).toContainEqual(expect.stringMatching(/^aws_eip\./));
  expect(whole && readNodeSettings(whole).config).toMatchObject({
    relay: { address: "198.18.10.10", coordination: true },
    control: { hostname: "198.18.10.10" },
  });
});

test("what the lab doesn't rebuild is listed, and may be referred to", () => {
  const model = changed((resources) => {
    resources["aws_iam_instance_profile"] = { profile: { role: "r" } };
    instanceOf(resources)["iam_instance_profile"] = "${aws_iam_instance_profile.profile.name}";
  });
  expect(model.notModelled).toEqual(["aws_iam_instance_profile.profile"]);
});

test("without a route to the internet gateway the subnet is not public", () => {
  const model = changed((resources) => delete resources["aws_route"]);
  expect(model.instances[0]?.subnet.internet).toBe(false);
});

test.each<[string, (resources: Resources) => void, RegExp]>([
  ["no instance", (resources) => delete resources["aws_instance"], /no instance/],
  [
    "a subnet from elsewhere",
    (resources) => (instanceOf(resources)["subnet_id"] = "subnet-1"),
    /aws_instance\.\S+ is in a subnet that isn't/,
  ],
  [
    "a security group from elsewhere",
    (resources) => (instanceOf(resources)["vpc_security_group_ids"] = ["sg-1"]),
    /has the security group sg-1, which isn't in this stack/,
  ],
  [
    "a repeated resource",
    (resources) => (instanceOf(resources)["count"] = 2),
    /aws_instance\.\S+ is repeated by count/,
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
    "a rule that names a group",
    (resources) => {
      resources["aws_vpc_security_group_ingress_rule"] = {
        r: {
          security_group_id: instanceGroup(resources),
          ip_protocol: "-1",
          referenced_security_group_id: "sg-1",
        },
      };
    },
    /aws_vpc_security_group_ingress_rule\.r names its peer by something other/,
  ],
])("%s is refused", (_, change, message) => {
  expect(() => changed(change)).toThrow(message);
});

type Resources = Record<string, Record<string, Record<string, unknown>>>;

function changed(change: (resources: Resources) => void): ReturnType<typeof readCloud> {
  const json = synthesize();
  change(json["resource"] as Resources);
  return readCloud(TerraformDocument.read(json));
}

const instanceOf = (resources: Resources): Record<string, unknown> =>
  Object.values(resources["aws_instance"] ?? {})[0] ?? {};
const instanceGroup = (resources: Resources): unknown =>
  (instanceOf(resources)["vpc_security_group_ids"] as unknown[])[0];
