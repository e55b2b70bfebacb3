import { type Check, list, object } from "./check.ts";

const SSH = 22;

/** Session Manager needs no port at all. */
export const NO_SSH: Check = {
  id: "no-ssh",
  find: (resources) =>
    resources
      .filter(({ type, attributes }) => {
        if (type === "aws_vpc_security_group_ingress_rule")
          return opens(attributes, attributes["ip_protocol"]);
        if (type !== "aws_security_group") return false;
        return list(attributes["ingress"]).some((rule) => opens(object(rule), object(rule)["protocol"]));
      })
      .map(({ address }) => `${address} lets SSH in: remove it and set sessionManager instead`),
};

function opens(rule: Readonly<Record<string, unknown>>, protocol: unknown): boolean {
  if (protocol === "-1") return true;
  if (protocol !== "tcp") return false;
  return Number(rule["from_port"]) <= SSH && Number(rule["to_port"]) >= SSH;
}
