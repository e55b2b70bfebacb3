import { type Check, type CheckedResource, list, machines, object } from "./check.ts";
import { ingressRules, letsIn } from "./ingress-rules.ts";
import { userData } from "./user-data.ts";

/** A node whose agent is told a port that no rule lets in is relayed for ever, and nobody knows why. */
export const TUNNEL_PORT_OPEN: Check = {
  id: "tunnel-port-open",
  find: (resources) =>
    machines(resources).flatMap((machine) => {
      const port = portOf(userData(machine.attributes));
      if (port === undefined || isOpen(port, groupsOf(machine, resources), resources)) return [];
      return [
        `${machine.address} has its tunnel on udp/${port} and no rule lets that in: set openTunnelPort, or expect every connection to be relayed`,
      ];
    }),
};

function portOf(text: string): number | undefined {
  const [, port] = /agent\.json <<[^{]*\{\s*"port": (\d+)/.exec(text) ?? [];
  return port === undefined ? undefined : Number(port);
}

/** Of all its interfaces. A group that a launch template's agent attaches can be any of the stack's. */
function groupsOf(
  { type, address, attributes }: CheckedResource,
  all: readonly CheckedResource[],
): readonly unknown[] {
  const interfaces = all.filter((one) => one.type === "aws_network_interface");
  const ofInterfaces = (some: readonly CheckedResource[]) =>
    some.flatMap((one) => list(one.attributes["security_groups"]));
  if (type === "aws_launch_template") {
    const own = list(attributes["network_interfaces"]).flatMap((one) => list(object(one)["security_groups"]));
    return [...own, ...ofInterfaces(interfaces)];
  }
  const attached = all
    .filter((one) => one.type === "aws_network_interface_attachment")
    .filter((one) => String(one.attributes["instance_id"]).includes(`${address}.`))
    .map((one) => String(one.attributes["network_interface_id"]));
  const mine = interfaces.filter((one) => attached.some((id) => id.includes(`${one.address}.`)));
  return [...list(attributes["vpc_security_group_ids"]), ...ofInterfaces(mine)];
}

function isOpen(port: number, groups: readonly unknown[], all: readonly CheckedResource[]): boolean {
  return ingressRules(all).some((rule) => groups.includes(rule.groupId) && letsIn(rule, "udp", port));
}
