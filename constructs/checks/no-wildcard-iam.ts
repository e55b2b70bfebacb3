import { type Check, type CheckedResource, list, object } from "./check.ts";

/** What AWS can not limit to a resource. */
const ONLY_WILDCARD =
  /^(ec2:Describe\w+|ssmmessages:(Create|Open)(Control|Data)Channel|ssm:UpdateInstanceInformation|autoscaling:Describe\w+)$/;

/** Policies of their own, and those that are written inside what they are for. */
const WITH_POLICY = ["aws_iam_role_policy", "aws_iam_user_policy", "aws_iam_group_policy", "aws_iam_policy"];

/** No action with a star, and no resource that is a star, but for actions that know no other. */
export const NO_WILDCARD_IAM: Check = {
  id: "no-wildcard-iam",
  find: (resources) =>
    resources.flatMap((resource) =>
      policiesOf(resource)
        .flatMap((policy) => statements(policy, resources))
        .filter(isWide)
        .map(
          ({ sid }) =>
            `${resource.address} allows more than it must in ${JSON.stringify(sid ?? "a statement")}: name actions and resources`,
        ),
    ),
};

interface Statement {
  readonly sid: unknown;
  readonly effect: unknown;
  readonly actions: readonly unknown[];
  readonly resources: readonly unknown[];
  /** NotAction or NotResource: all but a few. */
  readonly allBut: boolean;
}

function isWide({ effect, actions, resources, allBut }: Statement): boolean {
  if (effect !== "Allow") return false;
  const names = actions.map(String);
  if (allBut || names.some((action) => /[*?]/.test(action))) return true;
  return resources.includes("*") && !names.every((action) => ONLY_WILDCARD.test(action));
}

function policiesOf({ type, attributes }: CheckedResource): readonly unknown[] {
  if (WITH_POLICY.includes(type)) return [attributes["policy"]];
  if (type !== "aws_iam_role") return [];
  return list(attributes["inline_policy"]).map((one) => object(one)["policy"]);
}

/** None where the text is known only when it is deployed. */
function statements(policy: unknown, all: readonly CheckedResource[]): readonly Statement[] {
  const text = typeof policy === "string" ? policy : "";
  const [, document] = /^\$\{(data\.aws_iam_policy_document\..+)\.json\}$/.exec(text) ?? [];
  if (document !== undefined) {
    const found = all.find(({ address }) => address === document);
    return list(found?.attributes["statement"]).map(object).map(ofDataSource);
  }
  return list(object(parsed(text))["Statement"])
    .map(object)
    .map((one) => ({
      ...{ sid: one["Sid"], effect: one["Effect"] },
      ...{ actions: list(one["Action"]), resources: list(one["Resource"]) },
      allBut: one["NotAction"] !== undefined || one["NotResource"] !== undefined,
    }));
}

function ofDataSource(one: Readonly<Record<string, unknown>>): Statement {
  return {
    ...{ sid: one["sid"], effect: one["effect"] ?? "Allow" },
    ...{ actions: list(one["actions"]), resources: list(one["resources"]) },
    allBut: list(one["not_actions"]).length > 0 || list(one["not_resources"]).length > 0,
  };
}

/** JSON, or Terraform's `jsonencode` of what differs from it by its equals signs. */
function parsed(text: string): unknown {
  const [, encoded] = /^\$\{jsonencode\((.*)\)\}$/s.exec(text) ?? [];
  try {
    return JSON.parse(encoded?.replaceAll(/("(?:[^"\\]|\\.)*") =/g, "$1:") ?? text) as unknown;
  } catch {
    return undefined;
  }
}
