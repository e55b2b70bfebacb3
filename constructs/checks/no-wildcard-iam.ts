import { type Check, list, object } from "./check.ts";

/** What AWS can not limit to a resource. */
const ONLY_WILDCARD =
  /^(ec2:Describe\w+|ssmmessages:(Create|Open)(Control|Data)Channel|ssm:UpdateInstanceInformation|autoscaling:Describe\w+)$/;

/** No action with a star, and no resource that is a star, but for actions that know no other. */
export const NO_WILDCARD_IAM: Check = {
  id: "no-wildcard-iam",
  find: (resources) =>
    resources
      .filter(({ type }) => type === "aws_iam_role_policy" || type === "aws_iam_policy")
      .flatMap(({ address, attributes }) =>
        statements(attributes["policy"])
          .filter((statement) => statement["Effect"] === "Allow" && isWide(statement))
          .map(
            (statement) =>
              `${address} allows more than it must in ${JSON.stringify(statement["Sid"] ?? "a statement")}: name actions and resources`,
          ),
      ),
};

function isWide(statement: Readonly<Record<string, unknown>>): boolean {
  const actions = list(statement["Action"]).map(String);
  if (statement["NotAction"] !== undefined || actions.some((action) => action.includes("*"))) return true;
  return list(statement["Resource"]).includes("*") && !actions.every((action) => ONLY_WILDCARD.test(action));
}

/** A policy from a data source is not text here, and is not looked at. */
function statements(policy: unknown): readonly Readonly<Record<string, unknown>>[] {
  if (typeof policy !== "string" || !policy.startsWith("{")) return [];
  return list((JSON.parse(policy) as Readonly<Record<string, unknown>>)["Statement"]).map(object);
}
