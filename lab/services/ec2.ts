/**
 * EC2, as far as an agent and those who watch it use it. https://docs.aws.amazon.com/AWSEC2/latest/APIReference/
 */
import type { LabInstance, LabInterface, LabVolume } from "../cloud/cloud.ts";
import * as describe from "./ec2-describe.ts";
import { checkTags } from "./ec2-tags.ts";
import { instanceResource, interfaceResource, taggedResource, volumeResource } from "./ec2-resources.ts";
import type { HttpAnswer } from "./http.ts";
import type { Context } from "./iam.ts";
import type { Parameters } from "./parameters.ts";
import { queryParameters, xmlAnswer } from "./query-protocol.ts";
import { AwsError, type Call, denialText, encodedDenial, type Resource, type Service } from "./service.ts";
import type { XmlFields } from "./xml.ts";

export const ec2: Service = {
  name: "ec2",
  actionOf: (request) => queryParameters(request).get("Action"),
  async run(call) {
    const action = ACTIONS[call.action];
    if (action === undefined) throw unknownAction(call.action);
    const asked = queryParameters(call.request);
    asked.only("Action", "Version", ...action.takes);
    const fields = await action.run(call, asked);
    return answer(call, fields);
  },
  refuse: ({ code, message, status }, RequestID) =>
    xmlAnswer("Response", { Errors: { Error: { Code: code, Message: message } }, RequestID }, { status }),
  faults: {
    missing: new AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    malformed: new AwsError("AuthFailure", "The authorization header is malformed", 401),
    "unknown-key": new AwsError("AuthFailure", NOT_VALIDATED(), 401),
    "wrong-token": new AwsError("AuthFailure", NOT_VALIDATED(), 401),
    expired: new AwsError("RequestExpired", "Request has expired."),
    skewed: new AwsError("RequestExpired", "Request has expired."),
    "wrong-scope": new AwsError("AuthFailure", "Credential should be scoped to a valid region.", 401),
    mismatch: new AwsError("SignatureDoesNotMatch", MISMATCH(), 403),
    throttled: new AwsError("RequestLimitExceeded", "Request limit exceeded.", 503),
  },
  denied: (denial) =>
    new AwsError(
      "UnauthorizedOperation",
      `You are not authorized to perform this operation. ${denialText(denial)}. ` +
        `Encoded authorization failure message: ${encodedDenial(denial)}`,
      403,
    ),
};

function NOT_VALIDATED(): string {
  return "AWS was not able to validate the provided access credentials";
}

function MISMATCH(): string {
  return "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.";
}

interface Action {
  /** Without these there is an error. */
  readonly takes: readonly string[];
  run(call: Call, asked: Parameters): Promise<XmlFields> | XmlFields;
}

const PAGED = ["MaxResults", "NextToken", "DryRun"];

const ACTIONS: Readonly<Record<string, Action>> = {
  CreateTags: { takes: ["ResourceId", "Tag", "DryRun"], run: createTags },
  AttachNetworkInterface: {
    takes: ["NetworkInterfaceId", "InstanceId", "DeviceIndex", "NetworkCardIndex", "DryRun"],
    run: attachNetworkInterface,
  },
  DetachNetworkInterface: { takes: ["AttachmentId", "Force", "DryRun"], run: detachNetworkInterface },
  AttachVolume: { takes: ["VolumeId", "InstanceId", "Device", "DryRun"], run: attachVolume },
  DetachVolume: { takes: ["VolumeId", "InstanceId", "Device", "Force", "DryRun"], run: detachVolume },
  TerminateInstances: { takes: ["InstanceId", "DryRun"], run: terminateInstances },
  DescribeInstances: described(["InstanceId", "Filter"], describe.instances),
  DescribeTags: described(["Filter"], describe.tags),
  DescribeNetworkInterfaces: described(["NetworkInterfaceId", "Filter"], describe.interfaces),
  DescribeVolumes: described(["VolumeId", "Filter"], describe.volumes),
  DescribeRegions: described(["RegionName", "Filter", "AllRegions"], describe.regions),
};

function described(takes: readonly string[], run: (call: Call, asked: Parameters) => XmlFields): Action {
  return {
    takes: [...takes, ...PAGED],
    run(call, asked) {
      permit(call, asked, [{ arn: "*" }]);
      return run(call, asked);
    },
  };
}

/** @throws AwsError: who may do it and said DryRun gets an error, too */
function permit(call: Call, asked: Parameters, resources: readonly Resource[], context: Context = {}): void {
  call.authorize(`ec2:${call.action}`, resources, { ...context, "ec2:Region": call.region.name });
  if (!asked.is("DryRun")) return;
  throw new AwsError("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412);
}

function createTags(call: Call, asked: Parameters): XmlFields {
  const ids = asked.list("ResourceId");
  const tags = Object.fromEntries(asked.items("Tag").map((tag) => [tag.need("Key"), tag.get("Value") ?? ""]));
  if (ids.length === 0)
    throw new AwsError("MissingParameter", "The request must contain the parameter resourceIdSet");
  const keys = Object.keys(tags);
  if (keys.length === 0)
    throw new AwsError("MissingParameter", "The request must contain the parameter tagSet");
  const requested = Object.fromEntries(keys.map((key) => [`aws:RequestTag/${key}`, tags[key]]));
  const resources = ids.map((id) => taggedResource(call, id));
  permit(call, asked, resources, { ...requested, "aws:TagKeys": keys });
  for (const id of ids) checkTags(call, id, tags);
  for (const id of ids) call.region.createTags(id, tags);
  return { return: true };
}

async function attachNetworkInterface(call: Call, asked: Parameters): Promise<XmlFields> {
  const [eni, id] = [asked.need("NetworkInterfaceId"), asked.need("InstanceId")];
  const index = Number(asked.need("DeviceIndex"));
  permit(call, asked, [interfaceResource(call, eni), instanceResource(call, id)]);
  findInterface(call, eni);
  findInstance(call, id);
  return { attachmentId: await call.region.attachInterface(eni, id, index), networkCardIndex: 0 };
}

async function detachNetworkInterface(call: Call, asked: Parameters): Promise<XmlFields> {
  const id = asked.need("AttachmentId");
  const eni = [...call.region.interfaces.values()].find(({ attachment }) => attachment?.id === id);
  if (eni?.attachment === undefined) {
    throw new AwsError("InvalidAttachmentID.NotFound", `The attachment '${id}' does not exist.`);
  }
  const { instanceId } = eni.attachment;
  permit(call, asked, [interfaceResource(call, eni.id), instanceResource(call, instanceId)]);
  await call.region.detachInterface(id);
  return { return: true };
}

async function attachVolume(call: Call, asked: Parameters): Promise<XmlFields> {
  const [volume, id, device] = [asked.need("VolumeId"), asked.need("InstanceId"), asked.need("Device")];
  permit(call, asked, [volumeResource(call, volume), instanceResource(call, id)]);
  findVolume(call, volume);
  findInstance(call, id);
  await call.region.attachVolume(volume, id, device);
  return attachmentFields(call, findVolume(call, volume), "attaching");
}

async function detachVolume(call: Call, asked: Parameters): Promise<XmlFields> {
  const id = asked.need("VolumeId");
  const attachedTo = call.region.volumes.get(id)?.attachment?.instanceId;
  const instance = asked.get("InstanceId") ?? attachedTo;
  permit(call, asked, [
    volumeResource(call, id),
    ...(instance === undefined ? [] : [instanceResource(call, instance)]),
  ]);
  const volume = findVolume(call, id);
  if (volume.attachment === undefined) {
    throw new AwsError("IncorrectState", `Volume '${id}' is in the 'available' state.`);
  }
  if (instance !== attachedTo) {
    throw new AwsError(
      "InvalidAttachment.NotFound",
      `The volume '${id}' is not attached to instance '${instance}'.`,
    );
  }
  await call.region.detachVolume(id);
  return attachmentFields(call, volume, "detaching");
}

async function terminateInstances(call: Call, asked: Parameters): Promise<XmlFields> {
  const ids = asked.list("InstanceId");
  permit(
    call,
    asked,
    ids.map((id) => instanceResource(call, id)),
  );
  const before = ids.map((id) => findInstance(call, id).state);
  for (const id of ids) await call.region.terminateInstance(id);
  const item = ids.map((instanceId, i) => ({
    instanceId,
    currentState: describe.instanceStateFields(findInstance(call, instanceId).state),
    previousState: describe.instanceStateFields(before[i] ?? "running"),
  }));
  return { instancesSet: { item } };
}

function attachmentFields({ now }: Call, { id, attachment }: LabVolume, status: string): XmlFields {
  return {
    volumeId: id,
    instanceId: attachment?.instanceId,
    device: attachment?.device,
    status,
    attachTime: new Date(now).toISOString(),
  };
}

function findInstance({ region }: Call, id: string): LabInstance {
  const found = region.instances.get(id);
  if (found !== undefined) return found;
  throw new AwsError("InvalidInstanceID.NotFound", `The instance ID '${id}' does not exist`);
}

function findInterface({ region }: Call, id: string): LabInterface {
  const found = region.interfaces.get(id);
  if (found !== undefined) return found;
  throw new AwsError("InvalidNetworkInterfaceID.NotFound", `The networkInterface ID '${id}' does not exist`);
}

function findVolume({ region }: Call, id: string): LabVolume {
  const found = region.volumes.get(id);
  if (found !== undefined) return found;
  throw new AwsError("InvalidVolume.NotFound", `The volume '${id}' does not exist.`);
}

function unknownAction(action: string): AwsError {
  return new AwsError(
    "InvalidAction",
    `The action ${action} is not valid for this web service (in the lab).`,
  );
}

function answer({ action, requestId }: Call, fields: XmlFields): HttpAnswer {
  return xmlAnswer(
    `${action}Response`,
    { requestId, ...fields },
    { namespace: "http://ec2.amazonaws.com/doc/2016-11-15/" },
  );
}
