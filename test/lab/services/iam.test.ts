import { type Answer, evaluate, parsePolicy, type Policy, type Request } from "../../../lab/services/iam.ts";

describe("the evaluator", () => {
  const allow = (Condition?: Policy["Statement"][number]["Condition"], Resource = "*") => ({
    Statement: [
      {
        Effect: "Allow" as const,
        Action: "a:Do",
        Resource,
        ...(Condition === undefined ? {} : { Condition }),
      },
    ],
  });
  const ask = (context?: Request["context"]): Request => ({
    action: "a:Do",
    resource: "r/x",
    ...(context === undefined ? {} : { context }),
  });
  const deny = { Effect: "Deny" as const, Action: "a:*", Resource: "r/x" };

  test.each<[string, Policy, Request, Answer]>([
    ["nothing said is denied", { Statement: [] }, ask(), "denied"],
    ["allowed", allow(), ask(), "allowed"],
    ["an explicit deny wins", { Statement: [...allow().Statement, deny] }, ask(), "explicitly denied"],
    ["actions don't care for case", allow(), { ...ask(), action: "A:dO" }, "allowed"],
    ["resources do", allow(undefined, "R/x"), ask(), "denied"],
    ["a star covers slashes", allow(undefined, "r*"), ask(), "allowed"],
    ["a variable that is there", allow(undefined, "r/${k}"), ask({ k: "x" }), "allowed"],
    ["a variable that is missing fits nothing", allow(undefined, "r/${k}"), ask(), "denied"],
    ["StringEquals of a key that is missing", allow({ StringEquals: { k: "v" } }), ask(), "denied"],
    [
      "ForAllValues of no keys is true",
      allow({ "ForAllValues:StringEquals": { k: ["v"] } }),
      ask(),
      "allowed",
    ],
    [
      "ForAllValues of a foreign one",
      allow({ "ForAllValues:StringEquals": { k: ["v"] } }),
      ask({ k: ["v", "w"] }),
      "denied",
    ],
    ["ForAnyValue of no keys is false", allow({ "ForAnyValue:StringEquals": { k: ["v"] } }), ask(), "denied"],
    ["Null false of a key that is missing", allow({ Null: { k: "false" } }), ask(), "denied"],
    ["Null false of one that is there", allow({ Null: { k: "false" } }), ask({ k: "v" }), "allowed"],
    ["Null true of one that is there", allow({ Null: { k: "true" } }), ask({ k: "v" }), "denied"],
    ["StringNotEquals of another", allow({ StringNotEquals: { k: "v" } }), ask({ k: "w" }), "allowed"],
    ["StringNotEquals of a key that is missing", allow({ StringNotEquals: { k: "v" } }), ask(), "allowed"],
    ["StringNotLike of what is like it", allow({ StringNotLike: { k: "v*" } }), ask({ k: "vw" }), "denied"],
    ["StringEqualsIfExists without the key", allow({ StringEqualsIfExists: { k: "v" } }), ask(), "allowed"],
    [
      "StringEqualsIfExists of another",
      allow({ StringEqualsIfExists: { k: "v" } }),
      ask({ k: "w" }),
      "denied",
    ],
    [
      "StringEquals takes a star for a star",
      allow({ StringEquals: { k: "v*" } }),
      ask({ k: "vw" }),
      "denied",
    ],
    [
      "keys don't care for case",
      allow({ StringEquals: { "EC2:InstanceID": "v" } }),
      ask({ "ec2:InstanceId": "v" }),
      "allowed",
    ],
    ["values do", allow({ StringEquals: { k: "V" } }), ask({ k: "v" }), "denied"],
    [
      "unless they are told not to",
      allow({ StringEqualsIgnoreCase: { k: "V" } }),
      ask({ k: "v" }),
      "allowed",
    ],
    ["Bool", allow({ Bool: { k: "true" } }), ask({ k: "true" }), "allowed"],
    [
      "ArnLike within a part",
      allow({ ArnLike: { k: "arn:aws:ec2:*:1:instance/*" } }),
      ask({ k: "arn:aws:ec2:eu:1:instance/i" }),
      "allowed",
    ],
    [
      "ArnLike across parts",
      allow({ ArnLike: { k: "arn:aws:*" } }),
      ask({ k: "arn:aws:ec2:eu:1:instance/i" }),
      "denied",
    ],
    ["a star in a variable's value is only a star", allow(undefined, "r/${k}"), ask({ k: "*" }), "denied"],
    ["a star written as a variable is only a star", allow(undefined, "r/${*}"), ask(), "denied"],
    ["a variable's fallback", allow(undefined, "r/${k, 'x'}"), ask(), "allowed"],
    [
      "NotAction of another",
      { Statement: [{ Effect: "Allow", NotAction: "b:*", Resource: "*" }] },
      ask(),
      "allowed",
    ],
    [
      "NotResource of this one",
      { Statement: [{ Effect: "Allow", Action: "*", NotResource: "r/*" }] },
      ask(),
      "denied",
    ],
    [
      "every operator must hold",
      allow({ Null: { k: "false" }, StringEquals: { k: "v" } }),
      ask({ k: "w" }),
      "denied",
    ],
  ])("%s", (_, one, request, answer) => {
    expect(evaluate([one], request)).toBe(answer);
  });
});

test("what one policy does not allow another may, and what one denies no other allows", () => {
  const request: Request = { action: "a:Do", resource: "r" };
  const allow: Policy = { Statement: [{ Effect: "Allow", Action: "a:Do", Resource: "*" }] };
  const deny: Policy = { Statement: [{ Effect: "Deny", Action: "a:*", Resource: "*" }] };
  expect(evaluate([{ Statement: [] }, allow], request)).toBe("allowed");
  expect(evaluate([allow, deny], request)).toBe("explicitly denied");
  expect(evaluate([], request)).toBe("denied");
});

test.each<[string, string, RegExp]>([
  ["no JSON", "{", /^the policy of exit is not JSON$/],
  [
    "a condition that the lab does not know",
    policyWith({ IpAddress: { "aws:SourceIp": "10.0.0.0/8" } }),
    /operator IpAddress in the policy of exit/,
  ],
  [
    "a set that there isn't",
    policyWith({ "ForSome:StringEquals": { k: "v" } }),
    /operator ForSome:StringEquals/,
  ],
  [
    "an element that the lab does not know",
    '{"Statement":[{"Effect":"Allow","Action":"a","Resource":"*","Sidd":"x"}]}',
    /Statement\.0.*Sidd/,
  ],
  [
    "an effect that there isn't",
    '{"Statement":[{"Effect":"Perhaps","Action":"a","Resource":"*"}]}',
    /Statement\.0\.Effect/,
  ],
])("a policy with %s is refused by name", (_, text, message) => {
  expect(() => parsePolicy(text, "exit")).toThrow(message);
});

function policyWith(Condition: object): string {
  return JSON.stringify({ Statement: [{ Effect: "Allow", Action: "a", Resource: "*", Condition }] });
}
