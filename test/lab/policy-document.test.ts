import { evaluate, parsePolicy } from "../../lab/services/iam.ts";
import { TerraformDocument } from "../../lab/terraform.ts";
import type { Value } from "../../lab/terraform-values.ts";

const OWN_TAGS = {
  actions: ["ec2:CreateTags"],
  resources: ["arn:aws:ec2:${data.aws_region.here.name}:*:instance/*"],
  condition: [
    { test: "StringEquals", variable: "aws:ARN", values: ["&{ec2:SourceInstanceARN}"] },
    { test: "StringLike", variable: "aws:TagKeys", values: ["sallyport:*"] },
    { test: "StringLike", variable: "aws:TagKeys", values: ["other:*"] },
  ],
};

test("statements become the JSON that AWS reads", () => {
  expect(JSON.parse(document({ statement: [{ sid: "Own", ...OWN_TAGS }] }))).toEqual({
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "Own",
        Effect: "Allow",
        Action: ["ec2:CreateTags"],
        Resource: ["arn:aws:ec2:us-east-1:*:instance/*"],
        Condition: {
          StringEquals: { "aws:ARN": ["${ec2:SourceInstanceARN}"] },
          StringLike: { "aws:TagKeys": ["sallyport:*", "other:*"] },
        },
      },
    ],
  });
});

test("requests are judged by it", () => {
  const statement = [
    { actions: ["s3:*"], resources: ["*"] },
    { effect: "Deny", not_actions: ["s3:GetObject"], resources: ["*"], principals: [] },
  ];
  const policy = parsePolicy(document({ statement, source_policy_documents: [] }), "the test");
  const answer = (action: string) => evaluate([policy], { action, resource: "arn:aws:s3:::bucket/key" });
  expect([answer("s3:GetObject"), answer("s3:PutObject")]).toEqual(["allowed", "explicitly denied"]);
});

test("principals are kept", () => {
  const principals = [{ type: "Service", identifiers: ["ec2.amazonaws.com"] }];
  const { Statement } = JSON.parse(document({ statement: { actions: ["sts:AssumeRole"], principals } })) as {
    Statement: readonly unknown[];
  };
  expect(Statement).toEqual([
    { Effect: "Allow", Action: ["sts:AssumeRole"], Principal: { Service: ["ec2.amazonaws.com"] } },
  ]);
});

test.each([
  [{ source_policy_documents: ["{}"] }, /data\.aws_iam_policy_document\.d has “source_policy_documents”/],
  [{ statement: [{ actions: ["a:B"], not_principals: [{ type: "AWS" }] }] }, /has “not_principals”/],
  [
    { statement: [{ actions: ["a:B"], resources: ["${data.aws_iam_policy_document.d.json}"] }] },
    /refers to itself in a circle/,
  ],
])("%j is an error that names it", (declared, message) => {
  expect(() => document(declared)).toThrow(message);
});

function document(declared: { readonly [key: string]: Value }): string {
  const read = TerraformDocument.read({
    data: { aws_region: { here: {} }, aws_iam_policy_document: { d: declared } },
    resource: { aws_iam_policy: { p: { policy: "${data.aws_iam_policy_document.d.json}" } } },
  });
  const [policy] = read.resources;
  if (policy === undefined) throw new Error("the policy is gone");
  return String(read.attribute(policy, "policy"));
}
