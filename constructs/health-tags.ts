/**
 * The EC2 tags by which an instance says how it is. The agent writes them; readers, IAM conditions and
 * `ignoreChanges` name them. Their values are the agent's business.
 *
 * No `/` and no space in a key: such keys can not be offered by the instance metadata service.
 */
export const HEALTH_TAG_KEYS = [
  "sallyport:path",
  "sallyport:health",
  "sallyport:peers",
  "sallyport:endpoint",
  "sallyport:relay",
  "sallyport:egress",
  "sallyport:version",
  "sallyport:updated",
] as const;

export type HealthTagKey = (typeof HEALTH_TAG_KEYS)[number];

/** For an instance's `lifecycle.ignoreChanges`: without it the next deploy removes what the agent wrote. */
export const HEALTH_TAG_CHANGES: readonly string[] = HEALTH_TAG_KEYS.map((key) => `tags["${key}"]`);

const PRESENT_ON_EVERY_NODE: HealthTagKey = "sallyport:health";

/** For `aws ec2 describe-instances --filters`: every instance on which an agent reports. */
export const HEALTH_TAG_FILTER = `Name=tag-key,Values=${PRESENT_ON_EVERY_NODE}`;
