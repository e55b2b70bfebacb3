import { HealthAlarm, type HealthAlarmProps } from "../../constructs/health-alarm.ts";
import { HEALTH_REASONS } from "../../agent/src/health/reasons.ts";
import { type Synthesized, synthesize } from "./synthesized.ts";

const alarm = (props: HealthAlarmProps = {}): Synthesized =>
  synthesize((stack) => {
    new HealthAlarm(stack, "alarm", props);
  });

interface Pattern {
  readonly source: readonly string[];
  readonly "detail-type": readonly string[];
  readonly detail: Readonly<Record<string, unknown>> & {
    readonly tags?: Readonly<Record<string, readonly Value[]>>;
  };
}
type Value = string | { readonly prefix?: string; readonly "anything-but"?: readonly string[] };

const patterns = (made: Synthesized): readonly Pattern[] =>
  made
    .resources("aws_cloudwatch_event_rule")
    .map((rule) => JSON.parse(String(rule["event_pattern"])) as Pattern);

/** As EventBridge compares a value: https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html */
function fits(pattern: Pattern, key: string, value: string): boolean {
  const changed = pattern.detail["changed-tag-keys"] as readonly string[];
  if (!changed.includes(key)) return false;
  const wanted = pattern.detail.tags?.[key];
  return (
    wanted?.some((one) => {
      if (typeof one === "string") return one === value;
      return one.prefix === undefined ? !one["anything-but"]?.includes(value) : value.startsWith(one.prefix);
    }) ?? true
  );
}
const told = (props: HealthAlarmProps, key: string, value: string): boolean =>
  patterns(alarm(props)).some((pattern) => fits(pattern, key, value));

test("it hears what EC2 sends when a tag of an instance changes", () => {
  for (const pattern of patterns(alarm())) {
    expect(pattern).toMatchObject({ source: ["aws.tag"], "detail-type": ["Tag Change on Resource"] });
    expect(pattern.detail).toMatchObject({ service: ["ec2"], "resource-type": ["instance"] });
  }
});

test("every reason of ill health is told, and the heartbeat is not", () => {
  for (const reason of HEALTH_REASONS)
    expect(told({ recoveries: false }, "sallyport:health", reason)).toBe(true);
  expect(told({}, "sallyport:updated", "2026-11-22T09:03:46Z")).toBe(false);
  expect(told({}, "sallyport:peers", "1/2 direct")).toBe(false);
});

test("recovery is told unless it is not wanted", () => {
  expect(told({}, "sallyport:health", "ok")).toBe(true);
  expect(told({ recoveries: false }, "sallyport:health", "ok")).toBe(false);
});

test.each(["relay:nyc", "mixed", "blocked"])("the path %s is told unless it is not wanted", (path) => {
  expect(told({}, "sallyport:path", path)).toBe(true);
  expect(told({ relayed: false }, "sallyport:path", path)).toBe(false);
});

test.each(["direct", "idle", "unknown"])("the path %s is not told", (path) => {
  expect(told({}, "sallyport:path", path)).toBe(false);
});

test("EventBridge may publish to its topic, without a condition: SNS sees none of EventBridge's", () => {
  const made = alarm();
  const policy = JSON.parse(String(made.resource("aws_sns_topic_policy")["policy"])) as {
    Statement: readonly object[];
  };
  expect(policy.Statement).toEqual([
    {
      ...{ Sid: "HealthEvents", Effect: "Allow", Principal: { Service: "events.amazonaws.com" } },
      ...{ Action: "sns:Publish", Resource: expect.stringContaining("aws_sns_topic.") },
    },
  ]);
  expect(made.resources("aws_cloudwatch_event_target")).toHaveLength(2);
});

test("mails are subscriptions, and what is none is refused", () => {
  const made = alarm({
    emails: ["a@example.com", "b@example.com"],
    kmsKeyArn: "arn:aws:kms:eu-west-1:1:key/1",
  });
  expect(made.resources("aws_sns_topic_subscription")).toMatchObject([
    { protocol: "email" },
    { protocol: "email" },
  ]);
  expect(made.resource("aws_sns_topic")).toMatchObject({
    kms_master_key_id: "arn:aws:kms:eu-west-1:1:key/1",
  });
  expect(() => alarm({ emails: ["nobody"] })).toThrow('emails holds "nobody": give mail addresses');
});
