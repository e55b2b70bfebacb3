/** Auto Scaling, as far as an instance of a group uses it. https://docs.aws.amazon.com/autoscaling/ec2/APIReference/ */
import type { LabGroup, LabInstance, LifecycleAction } from "../cloud/cloud.ts";
import type { Parameters } from "./parameters.ts";
import { queryParameters, xmlAnswer } from "./query-protocol.ts";
import { AwsError, type Call, denialText, page, type Service } from "./service.ts";
import type { XmlFields } from "./xml.ts";

const NAMESPACE = "http://autoscaling.amazonaws.com/doc/2011-01-01/";
/** Of a page of groups. */
const PAGE_LIMIT = 100;

export const autoscaling: Service = {
  name: "autoscaling",
  actionOf: (request) => queryParameters(request).get("Action"),
  async run(call) {
    const action = ACTIONS[call.action];
    if (action === undefined) {
      throw new AwsError("InvalidAction", `Could not find operation ${call.action} (in the lab)`);
    }
    const asked = queryParameters(call.request);
    asked.only("Action", "Version", ...action.takes);
    const fields = await action.run(call, asked);
    const parts = {
      [`${call.action}Result`]: fields,
      ResponseMetadata: { RequestId: call.requestId },
    };
    return xmlAnswer(`${call.action}Response`, parts, { namespace: NAMESPACE });
  },
  refuse({ code, message, status }, RequestId) {
    const Type = status < 500 ? "Sender" : "Receiver";
    const fields = { Error: { Type, Code: code, Message: message }, RequestId };
    return xmlAnswer("ErrorResponse", fields, { status, namespace: NAMESPACE });
  },
  faults: {
    missing: new AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403),
    malformed: new AwsError(
      "IncompleteSignature",
      "The request signature does not conform to AWS standards",
      403,
    ),
    "unknown-key": new AwsError(
      "InvalidClientTokenId",
      "The security token included in the request is invalid.",
      403,
    ),
    "wrong-token": new AwsError(
      "InvalidClientTokenId",
      "The security token included in the request is invalid.",
      403,
    ),
    expired: new AwsError("ExpiredToken", "The security token included in the request is expired", 403),
    skewed: new AwsError(
      "SignatureDoesNotMatch",
      "Signature expired: the request's time is too far off",
      403,
    ),
    "wrong-scope": new AwsError(
      "SignatureDoesNotMatch",
      "Credential should be scoped to a valid region.",
      403,
    ),
    mismatch: new AwsError(
      "SignatureDoesNotMatch",
      "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method.",
      403,
    ),
    throttled: new AwsError("Throttling", "Rate exceeded"),
  },
  denied: (denial) => new AwsError("AccessDenied", denialText(denial), 403),
};

interface Action {
  readonly takes: readonly string[];
  run(call: Call, asked: Parameters): Promise<XmlFields> | XmlFields;
}

const HOOK = ["AutoScalingGroupName", "LifecycleHookName", "InstanceId"];

const ACTIONS: Readonly<Record<string, Action>> = {
  CompleteLifecycleAction: { takes: [...HOOK, "LifecycleActionResult"], run: completeLifecycleAction },
  RecordLifecycleActionHeartbeat: { takes: HOOK, run: recordHeartbeat },
  SetInstanceHealth: {
    takes: ["InstanceId", "HealthStatus", "ShouldRespectGracePeriod"],
    run: setInstanceHealth,
  },
  StartInstanceRefresh: { takes: ["AutoScalingGroupName"], run: startInstanceRefresh },
  DescribeAutoScalingGroups: {
    takes: ["AutoScalingGroupNames", "MaxRecords", "NextToken"],
    run: describeGroups,
  },
  DescribeAutoScalingInstances: {
    takes: ["InstanceIds", "MaxRecords", "NextToken"],
    run: describeInstances,
  },
};

async function completeLifecycleAction(call: Call, asked: Parameters): Promise<XmlFields> {
  const action = lifecycleAction(call, asked);
  const result = asked.need("LifecycleActionResult");
  if (result !== "CONTINUE" && result !== "ABANDON")
    throw invalid(`Invalid lifecycle action result: ${result}`);
  await call.region.completeLifecycleAction(action, result);
  return {};
}

function recordHeartbeat(call: Call, asked: Parameters): XmlFields {
  call.region.recordLifecycleActionHeartbeat(lifecycleAction(call, asked));
  return {};
}

async function setInstanceHealth(call: Call, asked: Parameters): Promise<XmlFields> {
  const id = asked.need("InstanceId");
  const groupName = call.region.instances.get(id)?.lifecycle?.groupName;
  const group = groupName === undefined ? undefined : call.region.groups.get(groupName);
  permit(call, group, groupName ?? "*");
  if (group === undefined)
    throw invalid(`Instance Id not found - No managed instance found for instance ID ${id}`);
  const health = asked.need("HealthStatus");
  if (health !== "Healthy" && health !== "Unhealthy") throw invalid(`Invalid health status: ${health}`);
  await call.region.setInstanceHealth(id, health);
  return {};
}

async function startInstanceRefresh(call: Call, asked: Parameters): Promise<XmlFields> {
  const name = asked.need("AutoScalingGroupName");
  const group = call.region.groups.get(name);
  permit(call, group, name);
  if (group === undefined) throw unknownGroup(name);
  return { InstanceRefreshId: await call.region.startInstanceRefresh(name) };
}

function describeGroups(call: Call, asked: Parameters): XmlFields {
  call.authorize("autoscaling:DescribeAutoScalingGroups", [{ arn: "*" }]);
  const names = asked.list("AutoScalingGroupNames");
  const all = [...call.region.groups.values()].filter(
    ({ name }) => names.length === 0 || names.includes(name),
  );
  const { items, next } = paged(all, asked);
  const member = items.map((group) => ({
    AutoScalingGroupName: group.name,
    AutoScalingGroupARN: group.arn,
    MinSize: group.minSize,
    MaxSize: group.maxSize,
    DesiredCapacity: group.desiredCapacity,
    HealthCheckType: "EC2",
    Instances: { member: instancesOf(call, group).map(instanceFields) },
  }));
  return { AutoScalingGroups: { member }, NextToken: next };
}

function describeInstances(call: Call, asked: Parameters): XmlFields {
  call.authorize("autoscaling:DescribeAutoScalingInstances", [{ arn: "*" }]);
  const ids = asked.list("InstanceIds");
  const all = [...call.region.groups.values()]
    .flatMap((group) => instancesOf(call, group))
    .filter(({ id }) => ids.length === 0 || ids.includes(id));
  const { items, next } = paged(all, asked);
  const member = items.map((instance) => ({
    ...instanceFields(instance),
    AutoScalingGroupName: instance.lifecycle?.groupName,
  }));
  return { AutoScalingInstances: { member }, NextToken: next };
}

function instancesOf({ region }: Call, { instanceIds }: LabGroup): readonly LabInstance[] {
  return instanceIds.flatMap((id) => region.instances.get(id) ?? []);
}

function instanceFields({ id, zone, instanceType, lifecycle }: LabInstance): XmlFields {
  return {
    InstanceId: id,
    InstanceType: instanceType,
    AvailabilityZone: zone,
    LifecycleState: lifecycle?.state,
    HealthStatus: lifecycle?.health,
    ProtectedFromScaleIn: false,
  };
}

function paged<T>(all: readonly T[], asked: Parameters) {
  const max = asked.get("MaxRecords");
  return page(all, {
    max: max === undefined ? undefined : Number(max),
    token: asked.get("NextToken"),
    limit: PAGE_LIMIT,
  });
}

/** @throws AwsError when the caller may not, or there is no such group, hook or instance */
function lifecycleAction(call: Call, asked: Parameters): LifecycleAction {
  const [groupName, hookName, instanceId] = HOOK.map((name) => asked.need(name));
  const group = call.region.groups.get(groupName ?? "");
  permit(call, group, groupName ?? "");
  if (group === undefined) throw unknownGroup(groupName ?? "");
  if (!group.hooks.some(({ name }) => name === hookName)) {
    throw invalid(`Lifecycle hook ${hookName} not found on group ${groupName}`);
  }
  if (!group.instanceIds.includes(instanceId ?? "")) {
    throw invalid(`No active Lifecycle Action found with instance ID ${instanceId}`);
  }
  return { groupName: group.name, hookName: hookName ?? "", instanceId: instanceId ?? "" };
}

function permit(call: Call, group: LabGroup | undefined, name: string): void {
  const { cloud, region, action } = call;
  const unknown = `arn:${cloud.partition}:autoscaling:${region.name}:${cloud.accountId}:autoScalingGroup:*:autoScalingGroupName/${name}`;
  call.authorize(`autoscaling:${action}`, [{ arn: group?.arn ?? unknown }]);
}

function unknownGroup(name: string): AwsError {
  return invalid(`AutoScalingGroup name not found - AutoScalingGroup: ${name} not found`);
}

function invalid(message: string): AwsError {
  return new AwsError("ValidationError", message);
}
