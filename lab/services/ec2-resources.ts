/** What EC2's actions are done to, with what conditions of policies may ask of it. */
import type { Context } from "./iam.ts";
import { AwsError, type Call, type Resource } from "./service.ts";

export function instanceResource(call: Call, id: string): Resource {
  const instance = call.region.instances.get(id);
  return {
    arn: arn(call, `instance/${id}`),
    context: {
      // Both spellings are in AWS's own documents; keys are the same in any case.
      "ec2:InstanceID": id,
      ...tagContext(instance?.tags),
      ...(instance === undefined
        ? {}
        : {
            "ec2:AvailabilityZone": instance.zone,
            "ec2:InstanceType": instance.instanceType,
            "ec2:InstanceProfile": instance.instanceProfile,
            "ec2:MetadataHttpTokens": instance.metadataOptions.httpTokens,
          }),
    },
  };
}

export function interfaceResource(call: Call, id: string): Resource {
  const found = call.region.interfaces.get(id);
  return {
    arn: arn(call, `network-interface/${id}`),
    context: {
      "ec2:NetworkInterfaceID": id,
      "ec2:AvailabilityZone": found?.zone,
      ...(found === undefined ? {} : { "ec2:Vpc": arn(call, `vpc/${found.vpcId}`) }),
      ...tagContext(found?.tags),
    },
  };
}

export function volumeResource(call: Call, id: string): Resource {
  const found = call.region.volumes.get(id);
  return {
    arn: arn(call, `volume/${id}`),
    context: { "ec2:VolumeID": id, "ec2:AvailabilityZone": found?.zone, ...tagContext(found?.tags) },
  };
}

/** By the kind that its id tells. @throws AwsError for a kind that the lab does not tag */
export function taggedResource(call: Call, id: string): Resource {
  if (id.startsWith("i-")) return instanceResource(call, id);
  if (id.startsWith("eni-")) return interfaceResource(call, id);
  if (id.startsWith("vol-")) return volumeResource(call, id);
  throw new AwsError("InvalidID", `The ID '${id}' is not valid`);
}

function arn({ cloud, region }: Call, resource: string): string {
  return `arn:${cloud.partition}:ec2:${region.name}:${cloud.accountId}:${resource}`;
}

function tagContext(tags: Readonly<Record<string, string>> = {}): Context {
  return Object.fromEntries(
    Object.entries(tags).flatMap(([key, value]) => [
      [`aws:ResourceTag/${key}`, value],
      [`ec2:ResourceTag/${key}`, value],
    ]),
  );
}
