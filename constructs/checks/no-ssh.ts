import type { Check } from "./check.ts";
import { ingressRules, letsIn } from "./ingress-rules.ts";

const SSH = 22;

/** Session Manager needs no port at all. */
export const NO_SSH: Check = {
  id: "no-ssh",
  find: (resources) => {
    const open = ingressRules(resources).filter((rule) => letsIn(rule, "tcp", SSH));
    return [...new Set(open.map(({ address }) => address))].map(
      (address) => `${address} lets SSH in: remove it and set sessionManager instead`,
    );
  },
};
