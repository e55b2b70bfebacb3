/**
 * The lab's cloud while it runs: what the API of AWS would show and change. The lab builds it from the synthesized stacks
 * (lab/cloud/…) and moves wires, folders and instances when it changes; lab/services/ serves it as AWS does (metadata, EC2, Auto
 * Scaling, SSM, Secrets Manager, S3) and knows nothing of namespaces beyond what `ServiceHost` offers.
 *
 * Readers look at it anew for each request: everything here may change between two of them.
 */
import type { LabProcess, StartOptions } from "../processes.ts";

export interface LabCloud {
  /** Twelve digits. */
  readonly accountId: string;
  /** "aws" */
  readonly partition: string;
  /** By name, such as "eu-west-1". */
  readonly regions: ReadonlyMap<string, LabRegion>;
  /** Roles of IAM, which knows no regions, by name. */
  readonly roles: ReadonlyMap<string, LabRole>;
  /** The host on the lab's internet on whose tcp/443 every endpoint of AWS answers, and on whose port 53 names are resolved. */
  readonly endpointHost: { readonly namespace: string; readonly ip: string };
  /** The instance that a packet comes from, as the router of its VPC sees it. */
  instanceAt(vpcId: string, privateIp: string): LabInstance | undefined;
}

/** All ids are in AWS's form, such as "i-0123456789abcdef0", and the same in every run of the same stacks. */
export interface LabRegion {
  readonly name: string;
  readonly vpcs: ReadonlyMap<string, LabVpc>;
  readonly subnets: ReadonlyMap<string, LabSubnet>;
  /** Terminated ones, too. */
  readonly instances: ReadonlyMap<string, LabInstance>;
  readonly interfaces: ReadonlyMap<string, LabInterface>;
  readonly volumes: ReadonlyMap<string, LabVolume>;
  /** Autoscaling groups, by name. */
  readonly groups: ReadonlyMap<string, LabGroup>;
  /** Parameters of Systems Manager, by name. */
  readonly parameters: ReadonlyMap<string, LabParameter>;
  /** Secrets of Secrets Manager, by ARN. */
  readonly secrets: ReadonlyMap<string, LabSecret>;
  readonly buckets: ReadonlyMap<string, LabBucket>;

  // What changes it. Each throws CloudError as AWS refuses; what a caller may do at all, services judge before.

  /** @returns the attachment's id, such as "eni-attach-0…" */
  attachInterface(interfaceId: string, instanceId: string, deviceIndex: number): Promise<string>;
  detachInterface(attachmentId: string): Promise<void>;
  attachVolume(volumeId: string, instanceId: string, device: string): Promise<void>;
  detachVolume(volumeId: string): Promise<void>;
  /** Of an instance, interface or volume. */
  createTags(resourceId: string, tags: Readonly<Record<string, string>>): void;
  putParameter(name: string, value: string, options: { readonly overwrite: boolean }): LabParameter;
  completeLifecycleAction(action: LifecycleAction, result: "CONTINUE" | "ABANDON"): Promise<void>;
  recordLifecycleActionHeartbeat(action: LifecycleAction): void;
  setInstanceHealth(instanceId: string, health: "Healthy" | "Unhealthy"): Promise<void>;
  startInstanceRefresh(groupName: string): Promise<string>;
  /** Stops everything on it at once, as a failed host does. */
  terminateInstance(instanceId: string): Promise<void>;
}

export interface LabVpc {
  readonly id: string;
  readonly cidrBlock: string;
  readonly ipv6CidrBlock: string | undefined;
  /**
   * Its router's namespace. 169.254.169.254 and fd00:ec2::254 (metadata) and 169.254.169.253 and fd00:ec2::253 (DNS) are on its
   * loopback; instances reach them through it, with their private addresses.
   */
  readonly namespace: string;
}

export interface LabSubnet {
  readonly id: string;
  readonly vpcId: string;
  readonly zone: string;
  readonly cidrBlock: string;
  readonly ipv6CidrBlock: string | undefined;
}

export type InstanceState = "pending" | "running" | "shutting-down" | "terminated";

/** https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-lifecycle.html */
export type LifecycleState =
  | "Pending"
  | "Pending:Wait"
  | "Pending:Proceed"
  | "InService"
  | "Terminating"
  | "Terminating:Wait"
  | "Terminating:Proceed"
  | "Terminated";

export interface LabInstance {
  readonly id: string;
  readonly region: string;
  readonly zone: string;
  readonly instanceType: string;
  readonly imageId: string;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly state: InstanceState;
  /** When it was launched, in milliseconds since 1970. */
  readonly launchTime: number;
  /** Decoded. */
  readonly userData: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly metadataOptions: MetadataOptions;
  /** The name of its role; undefined without an instance profile. */
  readonly role: string | undefined;
  readonly instanceProfile: string | undefined;
  /** By device index, the first is the primary one. */
  readonly interfaces: readonly LabInterface[];
  /** Undefined outside of a group. */
  readonly lifecycle: LabLifecycle | undefined;
  /** Its own network namespace. */
  readonly namespace: string;
}

export interface MetadataOptions {
  readonly httpEndpoint: "enabled" | "disabled";
  readonly httpTokens: "required" | "optional";
  readonly httpPutResponseHopLimit: number;
  readonly instanceMetadataTags: "enabled" | "disabled";
}

export interface LabLifecycle {
  readonly groupName: string;
  readonly state: LifecycleState;
  /** What the metadata shows as autoscaling/target-lifecycle-state. */
  readonly target: "InService" | "Terminated";
  readonly health: "Healthy" | "Unhealthy";
}

export interface LabInterface {
  readonly id: string;
  readonly mac: string;
  readonly vpcId: string;
  readonly subnetId: string;
  readonly zone: string;
  readonly description: string;
  readonly privateIps: readonly string[];
  readonly ipv6s: readonly string[];
  /** Elastic or dynamic. */
  readonly publicIp: string | undefined;
  /** Of its Elastic IP. */
  readonly allocationId: string | undefined;
  readonly associationId: string | undefined;
  readonly sourceDestCheck: boolean;
  readonly securityGroups: readonly { readonly id: string; readonly name: string }[];
  readonly tags: Readonly<Record<string, string>>;
  readonly attachment: LabAttachment | undefined;
}

export interface LabAttachment {
  readonly id: string;
  readonly instanceId: string;
  readonly deviceIndex: number;
  readonly status: "attaching" | "attached" | "detaching";
  readonly deleteOnTermination: boolean;
  /** In milliseconds since 1970. */
  readonly attachTime: number;
}

export interface LabVolume {
  readonly id: string;
  readonly zone: string;
  readonly sizeGib: number;
  readonly tags: Readonly<Record<string, string>>;
  readonly attachment:
    | {
        readonly instanceId: string;
        readonly device: string;
        readonly status: "attaching" | "attached" | "detaching";
      }
    | undefined;
}

export interface LabGroup {
  readonly name: string;
  readonly arn: string;
  readonly minSize: number;
  readonly maxSize: number;
  readonly desiredCapacity: number;
  readonly instanceIds: readonly string[];
  readonly hooks: readonly LabHook[];
}

export interface LabHook {
  readonly name: string;
  readonly transition: "autoscaling:EC2_INSTANCE_LAUNCHING" | "autoscaling:EC2_INSTANCE_TERMINATING";
  readonly heartbeatTimeoutSeconds: number;
  readonly defaultResult: "CONTINUE" | "ABANDON";
}

/** By instance, or by the token of the notification. */
export interface LifecycleAction {
  readonly groupName: string;
  readonly hookName: string;
  readonly instanceId: string;
}

export interface LabParameter {
  readonly name: string;
  readonly arn: string;
  readonly type: "String" | "StringList" | "SecureString";
  readonly value: string;
  readonly version: number;
  /** A key of one's own that it is encrypted with. */
  readonly kmsKeyArn?: string | undefined;
}

export interface LabSecret {
  readonly arn: string;
  readonly name: string;
  /** Undefined before anyone has written it. */
  readonly value: string | undefined;
  /** A key of one's own that it is encrypted with. */
  readonly kmsKeyArn?: string | undefined;
}

export interface LabBucket {
  readonly name: string;
  /** Keys → the file on this machine that has the content. */
  readonly objects: ReadonlyMap<string, { readonly file: string; readonly etag: string }>;
}

export interface LabRole {
  readonly name: string;
  readonly arn: string;
  /** Policy documents as JSON, as they stand in the stack with all references resolved. */
  readonly policies: readonly string[];
  readonly assumeRolePolicy: string;
}

/** As the API of AWS says no. */
export class CloudError extends Error {
  override readonly name = "CloudError";
  /** Such as "InvalidNetworkInterfaceID.NotFound". */
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

/** What services get to run in: programs in namespaces of the lab, which end with it. */
export interface ServiceHost {
  /** The command that runs the lab's program again. */
  readonly self: readonly string[];
  /** For files of theirs; it goes away with the lab. */
  readonly folder: string;
  /** What `ip netns` calls a namespace of the lab. */
  netns(namespace: string): string;
  start(namespace: string, options: Omit<StartOptions, "namespace">): LabProcess;
}

/** What `startServices(cloud, host)` of lab/services/ gives back. */
export interface LabServices {
  /** A PEM file with the certificate of the lab's own authority. */
  readonly caFile: string;
  close(): Promise<void>;
}
