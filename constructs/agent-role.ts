/**
 * What an instance may do, and as whom: one statement for each feature in use, each on exactly the resources it needs.
 */
import { IamInstanceProfile } from "@cdktf/provider-aws/lib/iam-instance-profile/index.js";
import { IamRolePolicy } from "@cdktf/provider-aws/lib/iam-role-policy/index.js";
import { IamRole } from "@cdktf/provider-aws/lib/iam-role/index.js";
import type { ITerraformDependable } from "cdktf";
import { Construct } from "constructs";
import type { AgentBundle } from "./agent-bundle.ts";
import { type AuthKey, parameterArn } from "./auth-key.ts";
import { HEALTH_TAG_KEYS } from "./health-tags.ts";
import { type Region, regionOf } from "./region.ts";

/** An Allow of an IAM policy. */
export interface PolicyStatement {
  readonly sid: string;
  readonly actions: readonly string[];
  readonly resources: readonly string[];
  /** @default none */
  readonly conditions?: PolicyConditions;
}

/** Operator → key → values. */
export type PolicyConditions = Readonly<Record<string, Readonly<Record<string, string | readonly string[]>>>>;

/** Takes part in a self-healing cell: what moves with the tunnel's address. */
export interface CellGrants {
  readonly autoScalingGroupName: string;
  /**
   * The interface that the tunnel comes in by.
   * @default none moves
   */
  readonly networkInterfaceId?: string | undefined;
  /**
   * The volume that holds the node's identity.
   * @default none moves
   */
  readonly volumeId?: string | undefined;
}

export interface AgentRoleProps {
  /**
   * Whether the agent writes its health to the tags of its own instance.
   * @default true
   */
  readonly healthTags?: boolean;
  /**
   * @default the agent is on the image, or whoever wants may fetch it
   */
  readonly bundle?: AgentBundle | undefined;
  /**
   * @default none is read
   */
  readonly authKey?: AuthKey | undefined;
  /**
   * The name of the parameter that the node writes its join token to.
   * @default none is written
   */
  readonly joinParameterName?: string | undefined;
  /**
   * @default it heals nothing
   */
  readonly cell?: CellGrants | undefined;
  /**
   * Whether Session Manager may open a shell.
   * @default false
   */
  readonly sessionManager?: boolean | undefined;
}

export class AgentRole extends Construct {
  readonly instanceProfileName: string;
  readonly roleArn: string;
  readonly statements: readonly PolicyStatement[];
  /** What lends the rights: nothing that has the role refers to it, and needs it until it is gone. */
  readonly rights: readonly ITerraformDependable[];

  constructor(scope: Construct, id: string, props: AgentRoleProps = {}) {
    super(scope, id);
    const region = regionOf(this);
    this.statements = [
      ...((props.healthTags ?? true) ? [ownHealthTags(region)] : []),
      ...(props.authKey?.statements ?? []),
      ...bundleStatements(props.bundle),
      ...(props.joinParameterName === undefined
        ? []
        : [
            {
              sid: "OwnJoinToken",
              actions: ["ssm:PutParameter"],
              resources: [parameterArn(this, props.joinParameterName)],
            },
          ]),
      ...(props.cell === undefined ? [] : cellStatements(region, props.cell)),
      ...(props.sessionManager === true ? [SESSION_MANAGER] : []),
    ];
    const role = new IamRole(this, "Role", {
      namePrefix: "sallyport-",
      assumeRolePolicy: policyDocument([{ sid: "Instance", actions: ["sts:AssumeRole"], resources: [] }], {
        Service: `ec2.${region.domain}`,
      }),
      tags: { Name: this.node.path },
    });
    this.rights =
      this.statements.length === 0
        ? []
        : [
            new IamRolePolicy(this, "Policy", {
              namePrefix: "sallyport-",
              role: role.id,
              policy: policyDocument(this.statements),
            }),
          ];
    const profile = new IamInstanceProfile(this, "Profile", { namePrefix: "sallyport-", role: role.name });
    this.roleArn = role.arn;
    this.instanceProfileName = profile.name;
  }
}

/** The JSON of a policy; with a principal, of a trust policy, which names no resources. */
export function policyDocument(
  statements: readonly PolicyStatement[],
  principal?: Readonly<Record<string, string>>,
): string {
  return JSON.stringify({
    Version: "2012-10-17",
    Statement: statements.map(({ sid, actions, resources, conditions }) => ({
      Sid: sid,
      Effect: "Allow",
      ...(principal === undefined ? { Resource: oneOrMany(resources) } : { Principal: principal }),
      Action: oneOrMany(actions),
      ...(conditions === undefined ? {} : { Condition: conditions }),
    })),
  });
}

/**
 * Only its own instance, only these keys, and never without a key: ForAllValues is true of none. No DeleteTags, which
 * without keys deletes every tag.
 */
function ownHealthTags({ partition, name, accountId }: Region): PolicyStatement {
  const instance = `arn:${partition}:ec2:${name}:${accountId}:instance/`;
  return {
    sid: "OwnHealthTags",
    actions: ["ec2:CreateTags"],
    resources: [`${instance}*`],
    conditions: {
      // Terraform takes $${…} for IAM's own ${…}.
      StringEquals: { "ec2:SourceInstanceARN": `${instance}$\${ec2:InstanceId}` },
      "ForAllValues:StringEquals": { "aws:TagKeys": [...HEALTH_TAG_KEYS] },
      Null: { "aws:TagKeys": "false" },
    },
  };
}

function bundleStatements(bundle: AgentBundle | undefined): readonly PolicyStatement[] {
  if (bundle?.objectArn === undefined) return [];
  return [{ sid: "OwnBundle", actions: ["s3:GetObject"], resources: [bundle.objectArn] }];
}

function cellStatements(region: Region, cell: CellGrants): readonly PolicyStatement[] {
  const { partition, name, accountId } = region;
  const ec2 = `arn:${partition}:ec2:${name}:${accountId}`;
  const group = cell.autoScalingGroupName;
  const ownGroup = { StringEquals: { "aws:ResourceTag/aws:autoscaling:groupName": group } };
  const { networkInterfaceId, volumeId } = cell;
  const statements: (PolicyStatement | false)[] = [
    networkInterfaceId !== undefined && {
      sid: "OwnIngressInterface",
      actions: ["ec2:AttachNetworkInterface", "ec2:DetachNetworkInterface"],
      resources: [`${ec2}:network-interface/${networkInterfaceId}`],
    },
    volumeId !== undefined && {
      sid: "OwnIdentityVolume",
      actions: ["ec2:AttachVolume", "ec2:DetachVolume"],
      resources: [`${ec2}:volume/${volumeId}`],
    },
    (networkInterfaceId !== undefined || volumeId !== undefined) && {
      sid: "OwnGroupInstances",
      actions: [
        ...(networkInterfaceId === undefined
          ? []
          : ["ec2:AttachNetworkInterface", "ec2:DetachNetworkInterface"]),
        ...(volumeId === undefined ? [] : ["ec2:AttachVolume", "ec2:DetachVolume"]),
      ],
      resources: [`${ec2}:instance/*`],
      conditions: ownGroup,
    },
    // EC2 can not limit descriptions to a resource.
    networkInterfaceId !== undefined && {
      sid: "FindIngressInterface",
      actions: ["ec2:DescribeNetworkInterfaces"],
      resources: ["*"],
    },
    // Nor can Auto Scaling. It tells a node that is replaced from one that is taken down for good.
    {
      sid: "FindOwnGroup",
      actions: ["autoscaling:DescribeAutoScalingGroups"],
      resources: ["*"],
    },
    {
      sid: "OwnGroup",
      actions: [
        "autoscaling:CompleteLifecycleAction",
        "autoscaling:RecordLifecycleActionHeartbeat",
        "autoscaling:SetInstanceHealth",
      ],
      resources: [
        `arn:${partition}:autoscaling:${name}:${accountId}:autoScalingGroup:*:autoScalingGroupName/${group}`,
      ],
    },
  ];
  return statements.filter((statement) => statement !== false);
}

/** What the Session Manager agent of the image asks for; none of it can be limited to a resource. */
const SESSION_MANAGER: PolicyStatement = {
  sid: "SessionManager",
  actions: [
    "ssm:UpdateInstanceInformation",
    "ssmmessages:CreateControlChannel",
    "ssmmessages:CreateDataChannel",
    "ssmmessages:OpenControlChannel",
    "ssmmessages:OpenDataChannel",
  ],
  resources: ["*"],
};

function oneOrMany(values: readonly string[]): string | readonly string[] {
  const [first, ...others] = values;
  return first !== undefined && others.length === 0 ? first : values;
}
