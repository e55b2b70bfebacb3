/**
 * Tells a topic when a node says that it is ill, or that its peers are relayed: EC2 sends an event for each change of a tag, so
 * nothing has to ask. The whole account's nodes of the region are watched. An agent that died says nothing: for that there is
 * `sallyport fleet --fail-on stale`.
 */
import { CloudwatchEventRule } from "@cdktf/provider-aws/lib/cloudwatch-event-rule/index.js";
import { CloudwatchEventTarget } from "@cdktf/provider-aws/lib/cloudwatch-event-target/index.js";
import { SnsTopic } from "@cdktf/provider-aws/lib/sns-topic/index.js";
import { SnsTopicPolicy } from "@cdktf/provider-aws/lib/sns-topic-policy/index.js";
import { SnsTopicSubscription } from "@cdktf/provider-aws/lib/sns-topic-subscription/index.js";
import { Construct } from "constructs";
import { isKnown } from "./checked.ts";
import { HEALTHY, type HealthTagKey } from "./health-tags.ts";

export interface HealthAlarmProps {
  /**
   * Who gets a mail; AWS asks each once whether they want it.
   * @default nobody: subscribe to the topic
   */
  readonly emails?: readonly string[];
  /**
   * Whether relayed peers are worth a message, too: one each time that the path becomes so.
   * @default true
   */
  readonly relayed?: boolean;
  /**
   * Whether it tells that the health is well again.
   * @default true
   */
  readonly recoveries?: boolean;
  /**
   * A key of yours whose policy lets EventBridge use it (events.amazonaws.com: kms:Decrypt, kms:GenerateDataKey). With SNS's
   * own key EventBridge can not publish.
   * @default not encrypted: a message names an instance and its tags
   */
  readonly kmsKeyArn?: string;
}

/** Values of a tag, as a pattern of EventBridge. */
type Values = readonly (string | Readonly<Record<string, string | readonly string[]>>)[];

const ILL: Values = [{ "anything-but": [HEALTHY] }];
const RELAYED: Values = [{ prefix: "relay:" }, "mixed", "blocked"];

export class HealthAlarm extends Construct {
  readonly topicArn: string;

  constructor(scope: Construct, id: string, props: HealthAlarmProps = {}) {
    super(scope, id);
    const { emails = [], relayed = true, recoveries = true, kmsKeyArn } = props;
    for (const email of emails) checkEmail(email);
    const topic = new SnsTopic(this, "Topic", {
      namePrefix: "sallyport-health-",
      ...(kmsKeyArn === undefined ? {} : { kmsMasterKeyId: kmsKeyArn }),
      tags: { Name: this.node.path },
    });
    this.topicArn = topic.arn;
    this.#addRule("Health", "sallyport:health", recoveries ? undefined : ILL, topic);
    if (relayed) this.#addRule("Path", "sallyport:path", RELAYED, topic);
    // No Condition: EventBridge tells SNS no source, so none would ever hold, and no message would come.
    // https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-use-resource-based.html#eb-sns-permissions
    new SnsTopicPolicy(this, "Policy", {
      arn: topic.arn,
      policy: JSON.stringify({
        Version: "2012-10-17",
        Statement: [
          {
            Sid: "HealthEvents",
            Effect: "Allow",
            Principal: { Service: "events.amazonaws.com" },
            Action: "sns:Publish",
            Resource: topic.arn,
          },
        ],
      }),
    });
    emails.forEach((endpoint, i) => {
      new SnsTopicSubscription(this, `Mail${i}`, { topicArn: topic.arn, protocol: "email", endpoint });
    });
  }

  /** Only a change of this tag counts: `sallyport:updated` changes every five minutes. */
  #addRule(id: string, key: HealthTagKey, values: Values | undefined, topic: SnsTopic): void {
    const rule = new CloudwatchEventRule(this, id, {
      namePrefix: `sallyport-${id.toLowerCase()}-`,
      description: `Nodes of Sallyport whose tag ${key} changed`,
      eventPattern: JSON.stringify({
        source: ["aws.tag"],
        "detail-type": ["Tag Change on Resource"],
        detail: {
          service: ["ec2"],
          "resource-type": ["instance"],
          "changed-tag-keys": [key],
          ...(values === undefined ? {} : { tags: { [key]: values } }),
        },
      }),
      tags: { Name: `${this.node.path}/${id}` },
    });
    new CloudwatchEventTarget(this, `${id}Target`, { rule: rule.name, arn: topic.arn });
  }
}

function checkEmail(email: string): void {
  if (!isKnown(email) || /^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(email)) return;
  throw new Error(`emails holds "${email}": give mail addresses, such as "ops@example.com".`);
}
