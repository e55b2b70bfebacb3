/**
 * The EC2 tags by which an instance says how it is: the one place that IAM conditions, `ignoreChanges`, alarms, the agent that
 * writes them and those who read them have their names from. The agent formats and parses the values (health/node-tags.ts):
 *
 *   sallyport:path      direct | relay:CODE | mixed | idle | blocked | unknown      of the peers with traffic; a server is idle
 *   sallyport:health    ok, or the worst reason, such as udp-blocked
 *   sallyport:peers     12/14 direct         of the peers with traffic
 *   sallyport:endpoint  203.0.113.5:41641    where peers reach it, or unknown
 *   sallyport:relay     CODE                 its home relay, or none; of a relay without a tunnel its own
 *   sallyport:egress    198.51.100.7         where exit traffic comes from; unknown, or none
 *   sallyport:version   0.1.0
 *   sallyport:updated   2026-11-22T09:03:46Z
 *
 * No `/` and no space in a key: such keys can not be offered by the instance metadata service. This file imports nothing.
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

/** What `sallyport:health` says when nothing is wrong. */
export const HEALTHY = "ok";

/** The one by which instances are found on which an agent reports. */
export const PRESENT_ON_EVERY_NODE: HealthTagKey = "sallyport:health";

/** For `aws ec2 describe-instances --filters`: every instance on which an agent reports. */
export const HEALTH_TAG_FILTER = `Name=tag-key,Values=${PRESENT_ON_EVERY_NODE}`;
