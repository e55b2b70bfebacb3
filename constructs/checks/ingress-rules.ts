/** What security groups let in, however the rule is written: as a resource of either kind, or inside its group. */
import { type CheckedResource, list, object } from "./check.ts";

export interface IngressRule {
  /** Of the resource that the rule is, or is in. */
  readonly address: string;
  /** As others refer to it. */
  readonly groupId: unknown;
  /** "tcp", "udp", …; "-1" is all of them. */
  readonly protocol: string;
  readonly from: number;
  readonly to: number;
}

/** IANA's numbers, which AWS takes too. */
const BY_NUMBER: Readonly<Record<string, string>> = { "6": "tcp", "17": "udp", all: "-1" };

export function ingressRules(resources: readonly CheckedResource[]): readonly IngressRule[] {
  return resources.flatMap(({ type, address, attributes }) => {
    switch (type) {
      case "aws_vpc_security_group_ingress_rule":
        return [rule(address, attributes["security_group_id"], attributes, attributes["ip_protocol"])];
      case "aws_security_group_rule":
        if (attributes["type"] !== "ingress") return [];
        return [rule(address, attributes["security_group_id"], attributes, attributes["protocol"])];
      case "aws_security_group":
      case "aws_default_security_group":
        return list(attributes["ingress"])
          .map(object)
          .map((one) => rule(address, `\${${address}.id}`, one, one["protocol"]));
      default:
        return [];
    }
  });
}

export function letsIn(rule: IngressRule, protocol: "tcp" | "udp", port: number): boolean {
  return rule.protocol === "-1" || (rule.protocol === protocol && rule.from <= port && rule.to >= port);
}

function rule(
  address: string,
  groupId: unknown,
  ports: Readonly<Record<string, unknown>>,
  protocol: unknown,
): IngressRule {
  const name = String(protocol).toLowerCase();
  const [from, to] = [Number(ports["from_port"]), Number(ports["to_port"])];
  return { address, groupId, protocol: BY_NUMBER[name] ?? name, from, to };
}
