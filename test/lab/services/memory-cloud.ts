/** A cloud without machines: what services show and change, kept in maps. One region with one VPC. */
import {
  CloudError,
  type LabAttachment,
  type LabBucket,
  type LabCloud,
  type LabGroup,
  type LabInstance,
  type LabInterface,
  type LabParameter,
  type LabRegion,
  type LabRole,
  type LabSecret,
  type LabSubnet,
  type LabVolume,
  type LabVpc,
  type LifecycleAction,
} from "../../../lab/cloud/cloud.ts";

export const ACCOUNT = "111122223333";
export const REGION = "eu-west-1";
const ZONE = `${REGION}a`;

type Writable<T> = { -readonly [K in keyof T]: T[K] };

export class MemoryCloud implements LabCloud {
  readonly accountId = ACCOUNT;
  readonly partition = "aws";
  readonly roles = new Map<string, LabRole>();
  readonly region: MemoryRegion;
  readonly regions: ReadonlyMap<string, LabRegion>;
  readonly endpointHost: LabCloud["endpointHost"];

  /** @param namespace of the router and the endpoints */
  constructor(namespace = "", endpointIp = "198.51.100.80") {
    this.region = new MemoryRegion(namespace);
    this.regions = new Map([[REGION, this.region]]);
    this.endpointHost = { namespace, ip: endpointIp };
  }

  addRole(name: string, ...policies: readonly string[]): void {
    this.roles.set(name, {
      name,
      arn: `arn:aws:iam::${ACCOUNT}:role/${name}`,
      policies,
      assumeRolePolicy: "{}",
    });
  }

  instanceAt(_vpcId: string, privateIp: string): LabInstance | undefined {
    return [...this.region.instances.values()].find(({ interfaces }) =>
      interfaces.some(({ privateIps }) => privateIps.includes(privateIp)),
    );
  }
}

export class MemoryRegion implements LabRegion {
  readonly name = REGION;
  readonly vpcs: Map<string, LabVpc>;
  readonly subnets = new Map<string, LabSubnet>([
    subnet("subnet-public", "0"),
    subnet("subnet-private", "1"),
  ]);
  readonly instances = new Map<string, LabInstance>();
  readonly interfaces = new Map<string, Writable<LabInterface>>();
  readonly volumes = new Map<string, Writable<LabVolume>>();
  readonly groups = new Map<string, LabGroup>();
  readonly parameters = new Map<string, LabParameter>();
  readonly secrets = new Map<string, LabSecret>();
  readonly buckets = new Map<string, LabBucket>();
  /** What Auto Scaling was told. */
  readonly lifecycle: string[] = [];

  constructor(namespace: string) {
    this.vpcs = new Map([
      ["vpc-1", { id: "vpc-1", cidrBlock: "10.0.0.0/16", ipv6CidrBlock: undefined, namespace }],
    ]);
  }

  /** With its primary interface. */
  addInstance(given: Pick<LabInstance, "id"> & Partial<LabInstance> & { readonly ip?: string }): LabInstance {
    const { interfaces } = this;
    const { id } = given;
    const made: LabInstance = {
      ...{ region: REGION, zone: ZONE, instanceType: "t4g.nano", imageId: "ami-1", vpcId: "vpc-1" },
      ...{ subnetId: "subnet-private", state: "running", launchTime: Date.UTC(2026, 0, 1), userData: "" },
      ...{ tags: {}, role: undefined, instanceProfile: undefined, lifecycle: undefined, namespace: "" },
      metadataOptions: {
        ...{ httpEndpoint: "enabled", httpTokens: "required" },
        ...{ httpPutResponseHopLimit: 1, instanceMetadataTags: "disabled" },
      },
      ...given,
      get interfaces() {
        return [...interfaces.values()]
          .filter(({ attachment }) => attachment?.instanceId === id)
          .sort((a, b) => (a.attachment?.deviceIndex ?? 0) - (b.attachment?.deviceIndex ?? 0));
      },
    };
    this.instances.set(id, made);
    const eni = id.replace(/^i-/, "eni-");
    this.addInterface({ id: eni, subnetId: made.subnetId, privateIps: [given.ip ?? "10.0.1.10"] });
    this.#attach(eni, id, 0);
    return made;
  }

  addInterface(given: Pick<LabInterface, "id"> & Partial<LabInterface>): void {
    this.interfaces.set(given.id, {
      ...{ mac: macOf(given.id), vpcId: "vpc-1", subnetId: "subnet-public", zone: ZONE, description: "" },
      ...{ privateIps: ["10.0.0.10"], ipv6s: [], publicIp: undefined, allocationId: undefined },
      ...{ associationId: undefined, sourceDestCheck: true, tags: {}, attachment: undefined },
      securityGroups: [{ id: "sg-1", name: "tunnel" }],
      ...given,
    });
  }

  addVolume(id: string): void {
    this.volumes.set(id, { id, zone: ZONE, sizeGib: 1, tags: {}, attachment: undefined });
  }

  addParameter(name: string, value: string, kmsKeyArn?: string): void {
    const arn = `arn:aws:ssm:${REGION}:${ACCOUNT}:parameter/${name.replace(/^\//, "")}`;
    this.parameters.set(name, { name, arn, type: "SecureString", value, version: 1, kmsKeyArn });
  }

  addGroup(name: string, instanceIds: readonly string[]): void {
    const hook = { heartbeatTimeoutSeconds: 600, defaultResult: "CONTINUE" } as const;
    this.groups.set(name, {
      name,
      arn: `arn:aws:autoscaling:${REGION}:${ACCOUNT}:autoScalingGroup:0b3c:autoScalingGroupName/${name}`,
      ...{ minSize: 1, maxSize: 2, desiredCapacity: 1, instanceIds },
      hooks: [
        { name: `${name}-launch`, transition: "autoscaling:EC2_INSTANCE_LAUNCHING", ...hook },
        { name: `${name}-terminate`, transition: "autoscaling:EC2_INSTANCE_TERMINATING", ...hook },
      ],
    });
  }

  attachInterface(id: string, instanceId: string, deviceIndex: number): Promise<string> {
    const busy = this.interfaces.get(id)?.attachment !== undefined;
    if (busy)
      return Promise.reject(new CloudError("InvalidNetworkInterface.InUse", `Interface: [${id}] in use.`));
    return Promise.resolve(this.#attach(id, instanceId, deviceIndex));
  }

  detachInterface(attachmentId: string): Promise<void> {
    for (const eni of this.interfaces.values())
      if (eni.attachment?.id === attachmentId) eni.attachment = undefined;
    return Promise.resolve();
  }

  attachVolume(id: string, instanceId: string, device: string): Promise<void> {
    const volume = this.volumes.get(id);
    if (volume?.attachment !== undefined) {
      return Promise.reject(new CloudError("VolumeInUse", `${id} is already attached to an instance`));
    }
    if (volume !== undefined) volume.attachment = { instanceId, device, status: "attached" };
    return Promise.resolve();
  }

  detachVolume(id: string): Promise<void> {
    const volume = this.volumes.get(id);
    if (volume !== undefined) volume.attachment = undefined;
    return Promise.resolve();
  }

  createTags(id: string, tags: Readonly<Record<string, string>>): void {
    const found: { tags: Readonly<Record<string, string>> } | undefined =
      this.instances.get(id) ?? this.interfaces.get(id) ?? this.volumes.get(id);
    if (found !== undefined) found.tags = { ...found.tags, ...tags };
  }

  putParameter(name: string, value: string): LabParameter {
    const version = (this.parameters.get(name)?.version ?? 0) + 1;
    this.addParameter(name, value);
    const made = { ...this.#parameter(name), version };
    this.parameters.set(name, made);
    return made;
  }

  completeLifecycleAction(action: LifecycleAction, result: string): Promise<void> {
    this.lifecycle.push(`${action.hookName} ${action.instanceId} ${result}`);
    return Promise.resolve();
  }

  recordLifecycleActionHeartbeat(action: LifecycleAction): void {
    this.lifecycle.push(`${action.hookName} ${action.instanceId} heartbeat`);
  }

  setInstanceHealth(instanceId: string, health: string): Promise<void> {
    this.lifecycle.push(`${instanceId} ${health}`);
    return Promise.resolve();
  }

  startInstanceRefresh(group: string): Promise<string> {
    this.lifecycle.push(`${group} refresh`);
    return Promise.resolve("refresh-1");
  }

  terminateInstance(id: string): Promise<void> {
    const instance = this.instances.get(id);
    if (instance !== undefined) Object.assign(instance, { state: "terminated" });
    return Promise.resolve();
  }

  #attach(id: string, instanceId: string, deviceIndex: number): string {
    const eni = this.interfaces.get(id);
    const attachment: LabAttachment = {
      id: id.replace(/^eni-/, "eni-attach-"),
      ...{
        instanceId,
        deviceIndex,
        status: "attached",
        deleteOnTermination: deviceIndex === 0,
        attachTime: 0,
      },
    };
    if (eni !== undefined) eni.attachment = attachment;
    return attachment.id;
  }

  #parameter(name: string): LabParameter {
    const found = this.parameters.get(name);
    if (found === undefined) throw new Error(`no parameter ${name}`);
    return found;
  }
}

function subnet(id: string, third: string): [string, LabSubnet] {
  return [id, { id, vpcId: "vpc-1", zone: ZONE, cidrBlock: `10.0.${third}.0/24`, ipv6CidrBlock: undefined }];
}

/** Locally administered, and another for each interface. */
function macOf(id: string): string {
  const sum = Buffer.from(id).reduce((all, byte) => (all * 31 + byte) >>> 0, 7);
  const hex = sum.toString(16).padStart(8, "0");
  return ["06", "00", ...(hex.match(/../g) ?? [])].join(":");
}
