/** EC2's descriptions: filtered, paged, in the words of its XML. */
import type { InstanceState, LabInstance, LabInterface, LabVolume } from "../cloud/cloud.ts";
import type { Parameters } from "./parameters.ts";
import { AwsError, type Call, page } from "./service.ts";
import type { XmlFields } from "./xml.ts";

/** The most that one page has. */
const PAGE_LIMIT = 1000;

export function instances(call: Call, asked: Parameters): XmlFields {
  const all = named(
    call.region.instances,
    asked.list("InstanceId"),
    "InvalidInstanceID.NotFound",
    "instance",
  );
  const { shown, nextToken } = chosen(all, asked, instanceFilters);
  const reservationSet = shown.map((instance) => ({
    reservationId: instance.id.replace(/^i-/, "r-"),
    ownerId: call.cloud.accountId,
    groupSet: {},
    instancesSet: { item: instanceFields(call, instance) },
  }));
  return { reservationSet: { item: reservationSet }, nextToken };
}

export function interfaces(call: Call, asked: Parameters): XmlFields {
  const ids = asked.list("NetworkInterfaceId");
  const all = named(call.region.interfaces, ids, "InvalidNetworkInterfaceID.NotFound", "networkInterface");
  const { shown, nextToken } = chosen(all, asked, interfaceFilters);
  return { networkInterfaceSet: { item: shown.map((one) => interfaceFields(call, one)) }, nextToken };
}

export function volumes(call: Call, asked: Parameters): XmlFields {
  const all = named(call.region.volumes, asked.list("VolumeId"), "InvalidVolume.NotFound", "volume");
  const { shown, nextToken } = chosen(all, asked, volumeFilters);
  const volumeSet = shown.map((volume) => ({
    volumeId: volume.id,
    size: volume.sizeGib,
    availabilityZone: volume.zone,
    status: volume.attachment === undefined ? "available" : "in-use",
    volumeType: "gp3",
    encrypted: true,
    attachmentSet:
      volume.attachment === undefined
        ? {}
        : { item: { volumeId: volume.id, ...volume.attachment, deleteOnTermination: false } },
    ...tagSet(volume.tags),
  }));
  return { volumeSet: { item: volumeSet }, nextToken };
}

export function tags({ region }: Call, asked: Parameters): XmlFields {
  const of = (kind: string, resources: Iterable<{ id: string; tags: Readonly<Record<string, string>> }>) =>
    [...resources].flatMap((one) =>
      Object.entries(one.tags).map(([key, value]) => ({
        resourceId: one.id,
        resourceType: kind,
        ...{ key, value },
      })),
    );
  const all = [
    ...of("instance", region.instances.values()),
    ...of("network-interface", region.interfaces.values()),
    ...of("volume", region.volumes.values()),
  ];
  const { shown, nextToken } = chosen(all, asked, ({ resourceId, resourceType, key, value }) => ({
    "resource-id": [resourceId],
    "resource-type": [resourceType],
    key: [key],
    value: [value],
    [`tag:${key}`]: [value],
  }));
  return { tagSet: { item: shown }, nextToken };
}

export function regions({ cloud }: Call, asked: Parameters): XmlFields {
  const wanted = asked.list("RegionName");
  const missing = wanted.find((name) => !cloud.regions.has(name));
  if (missing !== undefined)
    throw new AwsError("InvalidParameterValue", `Invalid region provided: ${missing}`);
  const all = [...cloud.regions.keys()]
    .filter((name) => wanted.length === 0 || wanted.includes(name))
    .map((name) => ({
      regionName: name,
      regionEndpoint: `ec2.${name}.amazonaws.com`,
      optInStatus: "opt-in-not-required",
    }));
  const { shown } = chosen(all, asked, ({ regionName, optInStatus }) => ({
    "region-name": [regionName],
    "opt-in-status": [optInStatus],
  }));
  return { regionInfo: { item: shown } };
}

function instanceFields(call: Call, instance: LabInstance): XmlFields {
  const { id, state, role, lifecycle } = instance;
  const [primary] = instance.interfaces;
  const { accountId, partition } = call.cloud;
  const isGone = state === "terminated";
  return {
    instanceId: id,
    imageId: instance.imageId,
    instanceState: instanceStateFields(state),
    instanceType: instance.instanceType,
    launchTime: new Date(instance.launchTime).toISOString(),
    placement: { availabilityZone: instance.zone, tenancy: "default" },
    ...(isGone ? {} : { subnetId: instance.subnetId, vpcId: instance.vpcId }),
    privateIpAddress: isGone ? undefined : primary?.privateIps[0],
    // Elastic addresses of the second interface, too: EC2 shows the first there is.
    ipAddress: instance.interfaces.find(({ publicIp }) => publicIp !== undefined)?.publicIp,
    sourceDestCheck: primary?.sourceDestCheck,
    ...(role === undefined
      ? {}
      : {
          iamInstanceProfile: {
            arn: `arn:${partition}:iam::${accountId}:instance-profile/${instance.instanceProfile ?? role}`,
          },
        }),
    ...(lifecycle === undefined ? {} : { instanceLifecycle: undefined }),
    metadataOptions: {
      state: "applied",
      httpTokens: instance.metadataOptions.httpTokens,
      httpPutResponseHopLimit: instance.metadataOptions.httpPutResponseHopLimit,
      httpEndpoint: instance.metadataOptions.httpEndpoint,
      instanceMetadataTags: instance.metadataOptions.instanceMetadataTags,
    },
    networkInterfaceSet: { item: instance.interfaces.map((one) => interfaceFields(call, one)) },
    ...tagSet(instance.tags),
  };
}

export function instanceStateFields(state: InstanceState): XmlFields {
  return { code: STATE_CODES[state], name: state };
}

/** https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_InstanceState.html */
const STATE_CODES = { pending: 0, running: 16, "shutting-down": 32, terminated: 48 } as const;

function interfaceFields({ cloud }: Call, eni: LabInterface): XmlFields {
  const { attachment } = eni;
  const association =
    eni.publicIp === undefined
      ? undefined
      : {
          publicIp: eni.publicIp,
          ipOwnerId: eni.allocationId === undefined ? "amazon" : cloud.accountId,
          allocationId: eni.allocationId,
          associationId: eni.associationId,
        };
  return {
    networkInterfaceId: eni.id,
    subnetId: eni.subnetId,
    vpcId: eni.vpcId,
    availabilityZone: eni.zone,
    description: eni.description,
    ownerId: cloud.accountId,
    status:
      attachment === undefined ? "available" : attachment.status === "detaching" ? "detaching" : "in-use",
    macAddress: eni.mac,
    privateIpAddress: eni.privateIps[0],
    sourceDestCheck: eni.sourceDestCheck,
    interfaceType: "interface",
    groupSet: { item: eni.securityGroups.map(({ id, name }) => ({ groupId: id, groupName: name })) },
    attachment:
      attachment === undefined
        ? undefined
        : {
            attachmentId: attachment.id,
            instanceId: attachment.instanceId,
            instanceOwnerId: cloud.accountId,
            deviceIndex: attachment.deviceIndex,
            networkCardIndex: 0,
            status: attachment.status,
            attachTime: new Date(attachment.attachTime).toISOString(),
            deleteOnTermination: attachment.deleteOnTermination,
          },
    association,
    privateIpAddressesSet: {
      item: eni.privateIps.map((ip, i) => ({
        privateIpAddress: ip,
        primary: i === 0,
        association: i === 0 ? association : undefined,
      })),
    },
    ipv6AddressesSet: { item: eni.ipv6s.map((ip) => ({ ipv6Address: ip })) },
    ...tagSet(eni.tags),
  };
}

function tagSet(all: Readonly<Record<string, string>>): XmlFields {
  return { tagSet: { item: Object.entries(all).map(([key, value]) => ({ key, value })) } };
}

type Filters = Readonly<Record<string, readonly (string | undefined)[]>>;

function instanceFilters(instance: LabInstance): Filters {
  return {
    "instance-id": [instance.id],
    "instance-state-name": [instance.state],
    "instance-type": [instance.instanceType],
    "image-id": [instance.imageId],
    "vpc-id": [instance.vpcId],
    "subnet-id": [instance.subnetId],
    "availability-zone": [instance.zone],
    "private-ip-address": [instance.interfaces[0]?.privateIps[0]],
    "ip-address": [instance.interfaces[0]?.publicIp],
    "network-interface.network-interface-id": instance.interfaces.map(({ id }) => id),
    ...tagFilters(instance.tags),
  };
}

function interfaceFilters(eni: LabInterface): Filters {
  return {
    "network-interface-id": [eni.id],
    "subnet-id": [eni.subnetId],
    "vpc-id": [eni.vpcId],
    "availability-zone": [eni.zone],
    "mac-address": [eni.mac],
    "private-ip-address": [eni.privateIps[0]],
    "addresses.private-ip-address": eni.privateIps,
    "association.public-ip": [eni.publicIp],
    "attachment.instance-id": [eni.attachment?.instanceId],
    "attachment.attachment-id": [eni.attachment?.id],
    "attachment.device-index": [eni.attachment?.deviceIndex.toString()],
    status: [eni.attachment === undefined ? "available" : "in-use"],
    ...tagFilters(eni.tags),
  };
}

function volumeFilters(volume: LabVolume): Filters {
  return {
    "volume-id": [volume.id],
    "availability-zone": [volume.zone],
    "attachment.instance-id": [volume.attachment?.instanceId],
    "attachment.device": [volume.attachment?.device],
    "attachment.status": [volume.attachment?.status],
    status: [volume.attachment === undefined ? "available" : "in-use"],
    ...tagFilters(volume.tags),
  };
}

function tagFilters(all: Readonly<Record<string, string>>): Filters {
  return {
    "tag-key": Object.keys(all),
    ...Object.fromEntries(Object.entries(all).map(([key, value]) => [`tag:${key}`, [value]])),
  };
}

function named<T>(
  all: ReadonlyMap<string, T>,
  ids: readonly string[],
  code: string,
  kind: string,
): readonly T[] {
  if (ids.length === 0) return [...all.values()];
  return ids.map((id) => {
    const found = all.get(id);
    if (found !== undefined) return found;
    throw new AwsError(code, `The ${kind} ID '${id}' does not exist`);
  });
}

/** What all filters let through, and of it one page. */
function chosen<T>(all: readonly T[], asked: Parameters, facts: (one: T) => Filters) {
  const filters = asked
    .items("Filter")
    .map((filter) => ({ name: filter.need("Name"), values: filter.list("Value") }));
  const fits = (one: T): boolean => {
    const known = facts(one);
    return filters.every(({ name, values }) => {
      const given = known[name];
      if (given === undefined && !name.startsWith("tag:")) {
        throw new AwsError("InvalidParameterValue", `The filter '${name}' is invalid (in the lab)`);
      }
      return values.some((value) => given?.some((fact) => fact !== undefined && likeFilter(value, fact)));
    });
  };
  const max = asked.get("MaxResults");
  const { items, next } = page(all.filter(fits), {
    max: max === undefined ? undefined : Number(max),
    token: asked.get("NextToken"),
    limit: PAGE_LIMIT,
  });
  return { shown: items, nextToken: next };
}

/** A star and a question mark stand for others. */
function likeFilter(pattern: string, text: string): boolean {
  const source = pattern
    .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`, "s").test(text);
}
