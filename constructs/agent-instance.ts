/**
 * The machine under every node: one instance, or an autoscaling group that replaces it. Which of them, the node's construct
 * decides; what they have in common (metadata version 2, encrypted disk, health tags left alone) is here.
 */
import { AutoscalingGroup } from "@cdktf/provider-aws/lib/autoscaling-group/index.js";
import { Instance } from "@cdktf/provider-aws/lib/instance/index.js";
import { LaunchTemplate } from "@cdktf/provider-aws/lib/launch-template/index.js";
import { NetworkInterfaceAttachmentA } from "@cdktf/provider-aws/lib/network-interface-attachment/index.js";
import { Fn, type ITerraformDependable, TerraformLocal, Token } from "cdktf";
import { Construct } from "constructs";
import { HEALTH_TAG_CHANGES } from "./health-tags.ts";
import { type Architecture, checkArchitecture, machineImage, SMALLEST_INSTANCE } from "./machine-image.ts";

/** What every node lets its user choose of its machine. */
export interface MachineProps {
  /**
   * The processor: it must fit `instanceType`, `machineImageId` and the bundle.
   * @default "arm64"
   */
  readonly architecture?: Architecture;
  /**
   * @default "t4g.nano", or "t3.nano" for x86_64
   */
  readonly instanceType?: string;
  /**
   * An image such as "ami-0123456789abcdef0", made from Amazon Linux 2023 or Debian 12 or later. Without a bundle it must
   * have the agent and its systemd units: sallyport-agent.service for the tunnel, sallyport-relay.service for a relay.
   * Each plan looks at it: it must be there and fit `architecture`.
   * @default the newest Amazon Linux 2023; a newer one replaces the node at the next deploy
   */
  readonly machineImageId?: string;
  /**
   * Tags of the instance, beside those that the agent writes.
   * @default only a Name
   */
  readonly tags?: Readonly<Record<string, string>>;
}

export interface AgentInstanceProps extends MachineProps {
  /** For errors: the construct whose props these are. */
  readonly owner: string;
  readonly subnetId: string;
  readonly securityGroupId: string;
  readonly publicAddress: boolean;
  readonly userData: string;
  readonly instanceProfileName: string | undefined;
  /** Attached at index 1 of a single instance. */
  readonly ingressInterfaceId: string | undefined;
  /** Behind a load balancer: where a group puts its instances. @default none */
  readonly targetGroupArn?: string;
  /** Makes it an autoscaling group. */
  readonly group: GroupSettings | undefined;
  /** What it does not refer to, and needs from its start to its end. */
  readonly dependsOn: readonly ITerraformDependable[];
}

export interface GroupSettings {
  readonly name: string;
  readonly launchHook: string;
  readonly terminateHook: string;
}

/** What the smallest Amazon Linux image needs, and room for two versions of the agent. */
const DISK_GIB = 8;
/** A month: old enough not to disturb, young enough for kernel updates. */
const MAX_LIFETIME_S = 30 * 86_400;
/** From a start to a proven tunnel: the fetch of the agent may have to wait for its role. */
const LAUNCH_TIMEOUT_S = 600;
/** To let go of interface and volume and to log out: seconds; a node that can not say so is not waited for longer. */
const TERMINATE_TIMEOUT_S = 120;
/** Terraform's own ten minutes end while a launch that never gets well is waited for. */
const DELETE_TIMEOUT = "20m";
const GRACE_PERIOD_S = 300;

const METADATA = { httpEndpoint: "enabled", httpTokens: "required", httpPutResponseHopLimit: 1 };

export class AgentInstance extends Construct {
  /** Undefined for a group: its instances come and go. */
  readonly instance: Instance | undefined;
  readonly group: AutoscalingGroup | undefined;
  readonly launchTemplate: LaunchTemplate | undefined;

  constructor(scope: Construct, id: string, props: AgentInstanceProps) {
    super(scope, id);
    const architecture = props.architecture ?? "arm64";
    const instanceType = props.instanceType ?? SMALLEST_INSTANCE[architecture];
    checkArchitecture(instanceType, architecture, props.owner);
    const ami = machineImage(this, props.machineImageId, architecture, props.owner);
    if (props.group === undefined) {
      this.instance = this.#single(props, ami, instanceType);
      return;
    }
    this.launchTemplate = this.#template(props, ami, instanceType);
    this.group = this.#group(props, props.group, this.launchTemplate);
  }

  #single(props: AgentInstanceProps, ami: string, instanceType: string): Instance {
    const instance = new Instance(this, "Instance", {
      ami,
      instanceType,
      subnetId: props.subnetId,
      vpcSecurityGroupIds: [props.securityGroupId],
      associatePublicIpAddress: props.publicAddress,
      sourceDestCheck: true,
      ebsOptimized: true,
      metadataOptions: METADATA,
      rootBlockDevice: {
        encrypted: true,
        volumeType: "gp3",
        volumeSize: DISK_GIB,
        deleteOnTermination: true,
      },
      userData: props.userData,
      userDataReplaceOnChange: true,
      ...(props.instanceProfileName === undefined ? {} : { iamInstanceProfile: props.instanceProfileName }),
      tags: this.#tags(props),
      lifecycle: { ignoreChanges: [...HEALTH_TAG_CHANGES] },
      dependsOn: [...props.dependsOn],
    });
    if (props.ingressInterfaceId !== undefined) {
      new NetworkInterfaceAttachmentA(this, "Ingress", {
        instanceId: instance.id,
        networkInterfaceId: props.ingressInterfaceId,
        deviceIndex: 1,
      });
    }
    return instance;
  }

  #template(props: AgentInstanceProps, ami: string, instanceType: string): LaunchTemplate {
    return new LaunchTemplate(this, "Template", {
      namePrefix: "sallyport-",
      imageId: ami,
      instanceType,
      ebsOptimized: "true",
      updateDefaultVersion: true,
      metadataOptions: METADATA,
      // No interface of its own is named, so that a replacement can start before the old node ends.
      networkInterfaces: [
        {
          deviceIndex: 0,
          subnetId: props.subnetId,
          securityGroups: [props.securityGroupId],
          associatePublicIpAddress: String(props.publicAddress),
          deleteOnTermination: "true",
        },
      ],
      blockDeviceMappings: [
        {
          deviceName: "/dev/xvda",
          ebs: { encrypted: "true", volumeType: "gp3", volumeSize: DISK_GIB, deleteOnTermination: "true" },
        },
      ],
      // A local value, since a function's argument can hold neither quotes nor lines.
      userData: Fn.base64encode(new TerraformLocal(this, "UserData", props.userData).asString),
      ...(props.instanceProfileName === undefined
        ? {}
        : { iamInstanceProfile: { name: props.instanceProfileName } }),
      tags: { Name: this.node.path },
    });
  }

  #group(props: AgentInstanceProps, settings: GroupSettings, template: LaunchTemplate): AutoscalingGroup {
    return new AutoscalingGroup(this, "Group", {
      name: settings.name,
      // The new node starts beside the old one, which ends when the new one has taken over.
      minSize: 1,
      desiredCapacity: 1,
      maxSize: 2,
      vpcZoneIdentifier: [props.subnetId],
      launchTemplate: { id: template.id, version: Token.asString(template.latestVersion) },
      ...(props.targetGroupArn === undefined ? {} : { targetGroupArns: [props.targetGroupArn] }),
      healthCheckType: "EC2",
      healthCheckGracePeriod: GRACE_PERIOD_S,
      maxInstanceLifetime: MAX_LIFETIME_S,
      // With hooks of its own: an instance that is there already would never pass through one made later.
      initialLifecycleHook: [
        hook(settings.launchHook, "autoscaling:EC2_INSTANCE_LAUNCHING", LAUNCH_TIMEOUT_S),
        hook(settings.terminateHook, "autoscaling:EC2_INSTANCE_TERMINATING", TERMINATE_TIMEOUT_S),
      ],
      instanceRefresh: {
        strategy: "Rolling",
        preferences: { minHealthyPercentage: 100, maxHealthyPercentage: 200, skipMatching: true },
      },
      waitForCapacityTimeout: "0",
      timeouts: { delete: DELETE_TIMEOUT },
      tag: Object.entries(this.#tags(props)).map(([key, value]) => ({ key, value, propagateAtLaunch: true })),
      dependsOn: [...props.dependsOn],
    });
  }

  #tags({ tags }: AgentInstanceProps): Record<string, string> {
    return { Name: this.node.scope?.node.path ?? this.node.path, ...tags };
  }
}

/** It goes on when nobody answers in time: a node that can not say so may still be the only one there is. */
function hook(name: string, lifecycleTransition: string, heartbeatTimeout: number) {
  return { name, lifecycleTransition, heartbeatTimeout, defaultResult: "CONTINUE" };
}
