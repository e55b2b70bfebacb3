import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { SharedIngress } from "../../constructs/shared-ingress.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";
import { synthesize } from "./synthesized.ts";

let ips: (string | undefined)[] = [];
const twoNodes = () =>
  synthesize((stack) => {
    const network = new TunnelNetwork(stack, "network");
    const sharedIngress = new SharedIngress(stack, "shared", { network });
    const common = { network, sharedIngress, bundle: new AgentBundle(stack, "agent", { file: __filename }) };
    const one = new ExitNode(stack, "one", { ...common, port: 41641 });
    const two = new ExitNode(stack, "two", { ...common, port: 41642, selfHealing: true });
    ips = [one.publicIp, two.publicIp];
  });

test("each host's own port leads to it, at one address, and keeps the client's address", () => {
  const json = twoNodes();
  expect(json.resources("aws_lb_listener").map(({ port, protocol }) => [port, protocol])).toEqual([
    [41641, "UDP"],
    [41642, "UDP"],
  ]);
  const groups = json.resources("aws_lb_target_group");
  expect(groups.map((group) => [group["port"], group["preserve_client_ip"]])).toEqual([
    [41641, "true"],
    [41642, "true"],
  ]);
  expect(json.resource("aws_lb_target_group_attachment")["port"]).toBe(41641);
  expect(json.resource("aws_autoscaling_group")["target_group_arns"]).toHaveLength(1);
  expect(json.resources("aws_eip")).toHaveLength(1);
  expect(ips[0]).toBeDefined();
  expect(ips[1]).toBe(ips[0]);
});

test("the check asks for the port that the agent opens, and the firewall lets in the subnet that it comes from", () => {
  const json = twoNodes();
  for (const { health_check: check } of json.resources("aws_lb_target_group")) {
    expect(check).toMatchObject({ protocol: "TCP", port: "41640" });
  }
  const rules = json
    .resources("aws_vpc_security_group_ingress_rule")
    .filter((rule) => rule["from_port"] === 41640);
  expect(rules).toHaveLength(2);
  for (const rule of rules) {
    expect(rule).toMatchObject({ ip_protocol: "tcp", to_port: 41640 });
    expect(rule["cidr_ipv4"]).toMatch(/data\.aws_subnet\..+\.cidr_block/);
  }
});

test("the agent announces the shared address with its own port, and listens for the check", () => {
  const text = String(twoNodes().resource("aws_instance")["user_data"]);
  expect(text).toMatch(/"endpoints": \[\s+"\$\{aws_eip\.[\w-]+\.public_ip\}:41641"\s+\]/);
  expect(text).toContain('"healthCheckPort": 41640');
});
