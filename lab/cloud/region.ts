/** One region of a running cloud: the operations of EC2 and Systems Manager, and through groups.ts those of Auto Scaling. */
import type { CloudModel } from "../model/model.ts";
import {
  CloudError,
  type InstanceState as StateName,
  type LabBucket,
  type LabParameter,
  type LabRegion,
  type LabSecret,
  type LabSubnet,
  type LabVpc,
  type LifecycleAction,
} from "./cloud.ts";
import { Groups, type ScalingHost } from "./groups.ts";
import type { Hands, Surroundings } from "./hands.ts";
import {
  attachment,
  type GroupState,
  groupState,
  type InstanceState,
  instanceState,
  interfaceState,
  type InterfaceState,
  type ParameterState,
  type VolumeState,
  volumeState,
  wired,
} from "./state.ts";

export class RunningRegion implements LabRegion, ScalingHost {
  readonly name: string;
  readonly vpcs: ReadonlyMap<string, LabVpc>;
  readonly subnets: ReadonlyMap<string, LabSubnet>;
  readonly instances = new Map<string, InstanceState>();
  readonly interfaces: Map<string, InterfaceState>;
  readonly volumes: ReadonlyMap<string, VolumeState>;
  readonly groups: ReadonlyMap<string, GroupState>;
  readonly parameters: Map<string, ParameterState>;
  readonly secrets: Map<string, LabSecret>;
  readonly buckets: ReadonlyMap<string, LabBucket>;
  readonly cloud: Surroundings;
  readonly now: () => number;
  readonly #hands: () => Hands | undefined;
  readonly #scaling: Groups;

  constructor(
    cloud: Surroundings,
    name: string,
    buckets: ReadonlyMap<string, LabBucket>,
    now: () => number,
    hands: () => Hands | undefined,
  ) {
    const { model } = cloud.read;
    this.cloud = cloud;
    this.name = name;
    this.buckets = buckets;
    this.now = now;
    this.#hands = hands;
    this.vpcs = vpcsIn(cloud, name);
    this.subnets = subnetsIn(model, name);
    const here = <T extends { readonly region: string }>(all: readonly T[]): readonly T[] =>
      all.filter((one) => one.region === name);
    this.interfaces = new Map(
      model.interfaces
        .filter(({ subnet }) => subnet.vpc.region === name)
        .map((one) => [one.id, interfaceState(one)]),
    );
    this.volumes = new Map(here(model.volumes).map((one) => [one.id, volumeState(one)]));
    this.groups = new Map(here(model.groups).map((one) => [one.name, groupState(one)]));
    this.parameters = new Map(here(model.parameters).map((one) => [one.name, { ...one, version: 1 }]));
    this.secrets = new Map(here(model.secrets).map((one) => [one.arn, one]));
    this.#scaling = new Groups(this);
    for (const one of model.instances) {
      if (one.template.subnet.vpc.region === name) this.#place(one);
    }
    this.#scaling.fill();
  }

  get hands(): Hands | undefined {
    return this.#hands();
  }

  async attachInterface(interfaceId: string, instanceId: string, deviceIndex: number): Promise<string> {
    const one = this.interface(interfaceId);
    const instance = this.instance(instanceId);
    if (one.attachment !== undefined) {
      throw new CloudError("InvalidNetworkInterface.InUse", `Interface: [${interfaceId}] in use.`);
    }
    if (one.zone !== instance.zone) {
      throw new CloudError(
        "InvalidParameterCombination",
        `You may not attach a network interface to an instance if they are not in the same availability zone`,
      );
    }
    if (instance.interfaces.some((other) => other.attachment?.deviceIndex === deviceIndex)) {
      throw new CloudError(
        "InvalidParameterValue",
        `Instance '${instanceId}' already has an interface attached at device index '${deviceIndex}'.`,
      );
    }
    const made = attachment(interfaceId, instanceId, deviceIndex, this.now(), false);
    one.attachment = { ...made, status: "attaching" };
    instance.interfaces.push(one);
    await this.hands?.wire(this.cloud.planOf(one.vpcId).attach(wired(one), instance.namespace, deviceIndex));
    one.attachment = made;
    return made.id;
  }

  async detachInterface(attachmentId: string): Promise<void> {
    const one = [...this.interfaces.values()].find((other) => other.attachment?.id === attachmentId);
    if (one?.attachment === undefined) {
      throw new CloudError(
        "InvalidAttachmentID.NotFound",
        `The interface attachment '${attachmentId}' does not exist.`,
      );
    }
    if (one.attachment.deviceIndex === 0) {
      throw new CloudError(
        "OperationNotPermitted",
        "The network interface at device index 0 cannot be detached.",
      );
    }
    const instance = this.instances.get(one.attachment.instanceId);
    one.attachment = { ...one.attachment, status: "detaching" };
    await this.hands?.unwire(this.cloud.planOf(one.vpcId).detach(wired(one)));
    one.attachment = undefined;
    if (instance !== undefined) instance.interfaces = instance.interfaces.filter((other) => other !== one);
  }

  async attachVolume(volumeId: string, instanceId: string, device: string): Promise<void> {
    const volume = this.volume(volumeId);
    const instance = this.instance(instanceId);
    if (volume.attachment !== undefined) {
      throw new CloudError("VolumeInUse", `${volumeId} is already attached to an instance`);
    }
    if (volume.zone !== instance.zone) {
      throw new CloudError(
        "InvalidVolume.ZoneMismatch",
        `The volume '${volumeId}' is not in the same availability zone as instance '${instanceId}'`,
      );
    }
    volume.attachment = { instanceId, device, status: "attaching" };
    await this.hands?.attachVolume(volumeId, instance);
    volume.attachment = { instanceId, device, status: "attached" };
  }

  async detachVolume(volumeId: string): Promise<void> {
    const volume = this.volume(volumeId);
    if (volume.attachment === undefined) {
      throw new CloudError("IncorrectState", `Volume '${volumeId}' is in the 'available' state.`);
    }
    const instance = this.instances.get(volume.attachment.instanceId);
    volume.attachment = { ...volume.attachment, status: "detaching" };
    if (instance !== undefined) await this.hands?.detachVolume(volumeId, instance);
    volume.attachment = undefined;
  }

  createTags(resourceId: string, tags: Readonly<Record<string, string>>): void {
    const resource =
      this.instances.get(resourceId) ?? this.interfaces.get(resourceId) ?? this.volumes.get(resourceId);
    if (resource === undefined) {
      throw new CloudError("InvalidID", `The ID '${resourceId}' is not valid`);
    }
    const all = { ...resource.tags, ...tags };
    if (Object.keys(all).length > MOST_TAGS) {
      throw new CloudError("TagLimitExceeded", `More than ${MOST_TAGS} tags specified.`);
    }
    resource.tags = all;
  }

  putParameter(name: string, value: string, { overwrite }: { readonly overwrite: boolean }): LabParameter {
    const known = this.parameters.get(name);
    if (known === undefined) {
      const arn = `arn:${this.cloud.partition}:ssm:${this.name}:${this.cloud.accountId}:parameter/${name.replace(/^\//, "")}`;
      const made: ParameterState = { name, arn, type: "String", value, version: 1 };
      this.parameters.set(name, made);
      return made;
    }
    if (!overwrite) {
      throw new CloudError("ParameterAlreadyExists", "The parameter already exists.");
    }
    known.value = value;
    known.version += 1;
    return known;
  }

  completeLifecycleAction(action: LifecycleAction, result: "CONTINUE" | "ABANDON"): Promise<void> {
    return this.#scaling.complete(action, result);
  }

  recordLifecycleActionHeartbeat(action: LifecycleAction): void {
    this.#scaling.heartbeat(action);
  }

  setInstanceHealth(instanceId: string, health: "Healthy" | "Unhealthy"): Promise<void> {
    return this.#scaling.setHealth(instanceId, health);
  }

  startInstanceRefresh(groupName: string): Promise<string> {
    return this.#scaling.refresh(groupName);
  }

  async terminateInstance(instanceId: string): Promise<void> {
    const instance = this.instance(instanceId);
    await this.remove(instance);
    await this.#scaling.ended(instance);
  }

  // What groups.ts needs.

  /** Puts an instance of a group among the others; it isn't wired and doesn't run yet. */
  add(instance: InstanceState): void {
    this.instances.set(instance.id, instance);
    for (const one of instance.interfaces) this.interfaces.set(one.id, one);
  }

  /** Wires it and lets it boot. */
  async bring(instance: InstanceState): Promise<void> {
    const { hands } = this;
    if (hands === undefined) return;
    await hands.addNamespace(instance.namespace);
    for (const one of instance.interfaces) {
      await hands.wire(
        this.cloud.planOf(one.vpcId).attach(wired(one), instance.namespace, one.attachment?.deviceIndex ?? 0),
      );
    }
    await this.run(instance);
  }

  async run(instance: InstanceState): Promise<void> {
    setState(instance, "running");
    await this.hands?.boot(instance);
  }

  /** Ends it at once: programs, wires, namespace. What isn't its own is free then. */
  async remove(instance: InstanceState): Promise<void> {
    if (instance.state === "terminated") return;
    setState(instance, "shutting-down");
    const { hands } = this;
    // First the wires: with the namespace they would go at a time of the kernel's own choosing.
    for (const one of instance.interfaces) {
      await hands?.unwire(this.cloud.planOf(one.vpcId).detach(wired(one)));
    }
    await hands?.removeNamespace(instance.namespace);
    for (const volume of this.volumes.values()) {
      if (volume.attachment?.instanceId !== instance.id) continue;
      await hands?.detachVolume(volume.id, instance);
      volume.attachment = undefined;
    }
    for (const one of instance.interfaces) {
      const deleted = one.attachment?.deleteOnTermination === true;
      one.attachment = undefined;
      if (!deleted) continue;
      this.interfaces.delete(one.id);
      this.cloud.read.networks.addresses.release(one.model.subnet, one.model.privateIp);
    }
    instance.interfaces = [];
    setState(instance, "terminated");
  }

  /** Volumes of single instances, and the first boots of all. */
  async startAll(): Promise<void> {
    const { model } = this.cloud.read;
    for (const { id, volumes } of model.instances) {
      if (!this.instances.has(id)) continue;
      for (const { volumeId, device } of volumes) await this.attachVolume(volumeId, id, device);
    }
    await Promise.all([...this.instances.values()].map((instance) => this.run(instance)));
  }

  stop(): void {
    this.#scaling.stop();
  }

  instance(id: string): InstanceState {
    const found = this.instances.get(id);
    if (found !== undefined && found.state !== "terminated") return found;
    throw new CloudError("InvalidInstanceID.NotFound", `The instance ID '${id}' does not exist`);
  }

  private interface(id: string): InterfaceState {
    const found = this.interfaces.get(id);
    if (found !== undefined) return found;
    throw new CloudError(
      "InvalidNetworkInterfaceID.NotFound",
      `The networkInterface ID '${id}' does not exist`,
    );
  }

  private volume(id: string): VolumeState {
    const found = this.volumes.get(id);
    if (found !== undefined) return found;
    throw new CloudError("InvalidVolume.NotFound", `The volume '${id}' does not exist.`);
  }

  #place(one: CloudModel["instances"][number]): void {
    const primary = interfaceState(one.primary);
    const instance = instanceState({
      id: one.id,
      namespace: this.cloud.names.get(one.id) ?? one.id,
      template: one.template,
      primary,
      lifecycle: undefined,
      launchTime: this.now(),
    });
    for (const { interfaceId, deviceIndex } of one.attached) {
      const other = this.interface(interfaceId);
      other.attachment = attachment(interfaceId, one.id, deviceIndex, this.now(), false);
      instance.interfaces.push(other);
    }
    this.add(instance);
  }
}

/** https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html */
const MOST_TAGS = 50;

function setState(instance: InstanceState, state: StateName): void {
  instance.state = state;
}

function vpcsIn(cloud: Surroundings, region: string): ReadonlyMap<string, LabVpc> {
  return new Map(
    cloud.plans
      .filter(({ vpc }) => vpc.region === region)
      .map(({ vpc, namespace }) => [
        vpc.id,
        { id: vpc.id, cidrBlock: vpc.cidr.text, ipv6CidrBlock: vpc.ipv6?.text, namespace },
      ]),
  );
}

function subnetsIn(model: CloudModel, region: string): ReadonlyMap<string, LabSubnet> {
  return new Map(
    model.subnets
      .filter(({ vpc }) => vpc.region === region)
      .map(({ id, vpc, zone, cidr, ipv6 }) => [
        id,
        { id, vpcId: vpc.id, zone, cidrBlock: cidr.text, ipv6CidrBlock: ipv6?.text },
      ]),
  );
}
