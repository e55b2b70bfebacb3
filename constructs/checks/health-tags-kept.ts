import { HEALTH_TAG_CHANGES } from "../health-tags.ts";
import { type Check, list, object } from "./check.ts";

/** Otherwise the next deploy removes what the agent wrote. Instances of a group are not Terraform's, and lose nothing. */
export const HEALTH_TAGS_KEPT: Check = {
  id: "health-tags-kept",
  find: (resources) =>
    resources
      .filter(({ type }) => type === "aws_instance")
      .filter(({ attributes }) => {
        const ignored = list(object(attributes["lifecycle"])["ignore_changes"]);
        return !HEALTH_TAG_CHANGES.every((change) => ignored.includes(change));
      })
      .map(
        ({ address }) =>
          `${address} would lose its health tags: set lifecycle.ignoreChanges to HEALTH_TAG_CHANGES`,
      ),
};
