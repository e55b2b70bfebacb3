import { AGENT_CONFIG_PATH } from "../agent-user-data.ts";
import { HEALTH_TAG_CHANGES } from "../health-tags.ts";
import { type Check, list, object } from "./check.ts";
import { userData } from "./user-data.ts";

/**
 * Of nodes, which are told by the configuration that they are given: otherwise the next deploy removes what the agent wrote.
 * Instances of a group are not Terraform's, and lose nothing.
 */
export const HEALTH_TAGS_KEPT: Check = {
  id: "health-tags-kept",
  find: (resources) =>
    resources
      .filter(
        ({ type, attributes }) => type === "aws_instance" && isNode(attributes) && !keepsTags(attributes),
      )
      .map(
        ({ address }) =>
          `${address} would lose its health tags: set lifecycle.ignoreChanges to HEALTH_TAG_CHANGES`,
      ),
};

function isNode(attributes: Readonly<Record<string, unknown>>): boolean {
  return userData(attributes).includes(AGENT_CONFIG_PATH);
}

function keepsTags(attributes: Readonly<Record<string, unknown>>): boolean {
  const ignored = list(object(attributes["lifecycle"])["ignore_changes"]);
  if (ignored.includes("all") || ignored.includes("tags")) return true;
  return HEALTH_TAG_CHANGES.every((change) => ignored.includes(change));
}
