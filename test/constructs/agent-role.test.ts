import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AgentRole, type AgentRoleProps } from "../../constructs/agent-role.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { HEALTH_TAG_KEYS } from "../../constructs/health-tags.ts";
import { evaluate, parsePolicy, type Policy, type Request } from "../../lab/services/iam.ts";
import { synthesize } from "./synthesized.ts";
import type { TerraformStack } from "cdktf";

/** The policy as Terraform writes it, in the account and region of the test. */
function policy(props: (stack: TerraformStack) => AgentRoleProps): Policy {
  const role = synthesize((stack) => {
    new AgentRole(stack, "role", props(stack));
  });
  const text = String(role.resource("aws_iam_role_policy")["policy"])
    .replaceAll(/(?<!\$)\$\{data\.aws_partition\.\w+\.partition\}/g, "aws")
    .replaceAll(/(?<!\$)\$\{data\.aws_region\.\w+\.id\}/g, "eu-west-1")
    .replaceAll(/(?<!\$)\$\{data\.aws_caller_identity\.\w+\.account_id\}/g, "111122223333")
    .replaceAll(/(?<!\$)\$\{aws_s3_bucket\.[\w-]+\.id\}/g, "bucket")
    .replaceAll(/(?<!\$)\$\{aws_s3_object\.[\w-]+\.key\}/g, "agent.tar")
    .replaceAll("$${", "${");
  return parsePolicy(text, "the role");
}

const OWN = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0aaa";
const OTHER = "arn:aws:ec2:eu-west-1:111122223333:instance/i-0bbb";
/** What EC2 says of a request that our instance makes. */
const asItself = { "ec2:SourceInstanceARN": OWN, "ec2:InstanceId": "i-0aaa" };

describe("the agent's policy", () => {
  const own = policy((stack) => ({
    bundle: new AgentBundle(stack, "bundle", { file: __filename }),
    authKey: new AuthKey(stack, "key", { parameterName: "/mine/key" }),
    joinParameterName: "/mine/join",
    cell: { autoScalingGroupName: "mine", networkInterfaceId: "eni-1", volumeId: "vol-1" },
  }));
  const tagging = (
    resource: string,
    keys: readonly string[] | undefined,
    from: object = asItself,
  ): Request => ({
    action: "ec2:CreateTags",
    resource,
    context: {
      ...from,
      ...(resource === OTHER ? { "ec2:InstanceId": "i-0bbb" } : {}),
      ...(keys === undefined ? {} : { "aws:TagKeys": keys }),
    },
  });
  const inGroup = (name: string) => ({ "aws:ResourceTag/aws:autoscaling:groupName": name });
  const ec2 = "arn:aws:ec2:eu-west-1:111122223333";
  const ssm = "arn:aws:ssm:eu-west-1:111122223333:parameter";

  test.each<[string, Request, "allowed" | "denied"]>([
    ["its own tags", tagging(OWN, HEALTH_TAG_KEYS), "allowed"],
    ["one of them", tagging(OWN, ["sallyport:path"]), "allowed"],
    ["another key", tagging(OWN, ["Name"]), "denied"],
    ["another key among its own", tagging(OWN, ["sallyport:path", "Name"]), "denied"],
    ["no key", tagging(OWN, undefined), "denied"],
    ["another instance", tagging(OTHER, ["sallyport:path"]), "denied"],
    ["from a stolen role, outside an instance", tagging(OWN, ["sallyport:path"], {}), "denied"],
    ["DeleteTags", { ...tagging(OWN, ["sallyport:path"]), action: "ec2:DeleteTags" }, "denied"],
    ["its key", { action: "ssm:GetParameter", resource: `${ssm}/mine/key` }, "allowed"],
    ["another parameter", { action: "ssm:GetParameter", resource: `${ssm}/mine/key2` }, "denied"],
    ["reading the join token", { action: "ssm:GetParameter", resource: `${ssm}/mine/join` }, "denied"],
    ["writing the join token", { action: "ssm:PutParameter", resource: `${ssm}/mine/join` }, "allowed"],
    ["writing its key", { action: "ssm:PutParameter", resource: `${ssm}/mine/key` }, "denied"],
    ["the agent", { action: "s3:GetObject", resource: "arn:aws:s3:::bucket/agent.tar" }, "allowed"],
    ["another object", { action: "s3:GetObject", resource: "arn:aws:s3:::bucket/other" }, "denied"],
    [
      "its interface",
      { action: "ec2:AttachNetworkInterface", resource: `${ec2}:network-interface/eni-1` },
      "allowed",
    ],
    [
      "another interface",
      { action: "ec2:AttachNetworkInterface", resource: `${ec2}:network-interface/eni-2` },
      "denied",
    ],
    ["its volume", { action: "ec2:DetachVolume", resource: `${ec2}:volume/vol-1` }, "allowed"],
    ["another volume", { action: "ec2:DetachVolume", resource: `${ec2}:volume/vol-2` }, "denied"],
    [
      "an instance of its group",
      { action: "ec2:AttachVolume", resource: OTHER, context: inGroup("mine") },
      "allowed",
    ],
    [
      "one of another group",
      { action: "ec2:AttachVolume", resource: OTHER, context: inGroup("yours") },
      "denied",
    ],
    ["one of no group", { action: "ec2:AttachVolume", resource: OTHER }, "denied"],
    [
      "its group",
      {
        action: "autoscaling:CompleteLifecycleAction",
        resource:
          "arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:uuid:autoScalingGroupName/mine",
      },
      "allowed",
    ],
    [
      "another group",
      {
        action: "autoscaling:SetInstanceHealth",
        resource:
          "arn:aws:autoscaling:eu-west-1:111122223333:autoScalingGroup:uuid:autoScalingGroupName/yours",
      },
      "denied",
    ],
    ["Session Manager, where it is off", { action: "ssmmessages:OpenDataChannel", resource: "*" }, "denied"],
  ])("%s: %j is %s", (_, request, answer) => {
    expect(evaluate([own], request)).toBe(answer);
  });

  test("has a statement for nothing that is not used", () => {
    const bare = policy(() => ({}));
    expect(bare.Statement).toHaveLength(1);
    expect(evaluate([bare], tagging(OWN, ["sallyport:path"]))).toBe("allowed");
  });

  test("reads a secret and decrypts with a key of one's own, where these are named", () => {
    const [secretArn, kmsKeyArn] = [
      "arn:aws:secretsmanager:eu-west-1:111122223333:secret:key-AbCdEf",
      "arn:aws:kms:eu-west-1:111122223333:key/k",
    ];
    const named = policy((stack) => ({ authKey: new AuthKey(stack, "key", { secretArn, kmsKeyArn }) }));
    expect(evaluate([named], { action: "secretsmanager:GetSecretValue", resource: secretArn })).toBe(
      "allowed",
    );
    expect(evaluate([named], { action: "kms:Decrypt", resource: kmsKeyArn })).toBe("allowed");
    expect(evaluate([named], { action: "kms:Decrypt", resource: `${kmsKeyArn}2` })).toBe("denied");
  });
});
