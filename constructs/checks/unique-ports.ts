import { type Check } from "./check.ts";

/** Behind one load balancer every host is told apart by its port alone. */
export const UNIQUE_PORTS: Check = {
  id: "unique-ports",
  find: (resources) => {
    const seen = new Map<string, string>();
    return resources
      .filter(({ type }) => type === "aws_lb_listener")
      .flatMap(({ address, attributes }) => {
        const key = `${String(attributes["load_balancer_arn"])} ${String(attributes["port"])}`;
        const other = seen.get(key);
        seen.set(key, other ?? address);
        return other === undefined
          ? []
          : [`${address} has the port of ${other}, ${String(attributes["port"])}: give each host its own`];
      });
  },
};
