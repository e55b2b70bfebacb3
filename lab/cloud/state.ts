/** The records of a running cloud, as they change. Only lab/cloud/ writes them; everyone else reads them as cloud.ts has them. */
import { createHash } from "node:crypto";
import { madeUpId } from "../terraform-fixture.ts";
import type { WiredInterface } from "../vpc-plan.ts";
import type * as model from "../model/model.ts";
import type {
  LabAttachment,
  LabGroup,
  LabInstance,
  LabInterface,
  LabLifecycle,
  LabParameter,
  LabVolume,
} from "./cloud.ts";

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export interface InterfaceState extends Mutable<Omit<LabInterface, "securityGroups">> {
  securityGroups: LabInterface["securityGroups"];
  readonly model: model.Interface;
}
export interface InstanceState extends Mutable<Omit<LabInstance, "interfaces">> {
  interfaces: InterfaceState[];
  readonly template: model.Template;
}
export interface VolumeState extends Mutable<LabVolume> {
  readonly region: string;
}
export interface GroupState extends Mutable<Omit<LabGroup, "instanceIds">> {
  instanceIds: string[];
  readonly model: model.Group;
  /** How many instances it ever had. */
  launched: number;
}
export type ParameterState = Mutable<LabParameter>;

export function interfaceState(one: model.Interface): InterfaceState {
  return {
    id: one.id,
    mac: macOf(one.id),
    vpcId: one.subnet.vpc.id,
    subnetId: one.subnet.id,
    zone: one.subnet.zone,
    description: one.description,
    privateIps: [one.privateIp.text],
    ipv6s: one.ipv6 === undefined ? [] : [one.ipv6.text],
    publicIp: one.publicAddress?.ip.text,
    allocationId: one.publicAddress?.allocationId,
    associationId: one.publicAddress?.associationId,
    sourceDestCheck: one.sourceDestCheck,
    securityGroups: one.groups.map(({ id, name }) => ({ id, name })),
    tags: one.tags,
    attachment: undefined,
    model: one,
  };
}

export interface NewInstance {
  readonly id: string;
  readonly namespace: string;
  readonly template: model.Template;
  readonly primary: InterfaceState;
  readonly lifecycle: LabLifecycle | undefined;
  readonly launchTime: number;
}

export function instanceState({
  id,
  namespace,
  template,
  primary,
  lifecycle,
  launchTime,
}: NewInstance): InstanceState {
  const { subnet } = template;
  primary.attachment = attachment(primary.id, id, 0, launchTime, true);
  return {
    id,
    namespace,
    template,
    region: subnet.vpc.region,
    zone: subnet.zone,
    instanceType: template.instanceType,
    imageId: template.imageId,
    vpcId: subnet.vpc.id,
    subnetId: subnet.id,
    state: "pending",
    launchTime,
    userData: template.userData,
    tags: template.tags,
    metadataOptions: template.metadata,
    role: template.role,
    instanceProfile: template.instanceProfile,
    interfaces: [primary],
    lifecycle,
  };
}

export function attachment(
  interfaceId: string,
  instanceId: string,
  deviceIndex: number,
  attachTime: number,
  deleteOnTermination: boolean,
): LabAttachment {
  const id = madeUpId("eni-attach", `${interfaceId}/${instanceId}/${attachTime}`);
  return { id, instanceId, deviceIndex, status: "attached", deleteOnTermination, attachTime };
}

export function groupState(one: model.Group): GroupState {
  const { name, arn, minSize, maxSize, desiredCapacity, hooks } = one;
  return { name, arn, minSize, maxSize, desiredCapacity, hooks, instanceIds: [], model: one, launched: 0 };
}

export function volumeState(one: model.Volume): VolumeState {
  const { id, zone, sizeGib, tags, region } = one;
  return { id, zone, sizeGib, tags, region, attachment: undefined };
}

/** Locally administered, as Nitro's are. */
function macOf(id: string): string {
  const bytes = createHash("sha256").update(id).digest().subarray(0, 5);
  return ["0e", ...Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0"))].join(":");
}

/** As its wire is made. */
export function wired(one: InterfaceState): WiredInterface {
  const { id, mac, model } = one;
  return {
    id,
    mac,
    subnet: model.subnet,
    privateIp: model.privateIp.text,
    ipv6: model.ipv6?.text,
    groups: model.groups,
    sourceDestCheck: one.sourceDestCheck,
  };
}
