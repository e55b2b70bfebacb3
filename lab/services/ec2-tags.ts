/** What EC2 takes as a tag. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions */
import { AwsError, type Call } from "./service.ts";

type Tags = Readonly<Record<string, string>>;

const MAX_TAGS = 50;
const MAX_KEY_LENGTH = 128;
const MAX_VALUE_LENGTH = 256;
/** Amazon's own, which don't count. */
const RESERVED = /^aws:/i;

/** @throws AwsError when there is no such resource, or it can not have these tags */
export function checkTags({ region }: Call, id: string, tags: Tags): void {
  const [instance, eni, volume] = [
    region.instances.get(id),
    region.interfaces.get(id),
    region.volumes.get(id),
  ];
  const found = instance ?? eni ?? volume;
  if (found === undefined || instance?.state === "terminated") {
    throw new AwsError("InvalidID", `The ID '${id}' is not valid`);
  }
  for (const [key, value] of Object.entries(tags)) {
    if (RESERVED.test(key)) {
      throw invalid(`Tag keys starting with 'aws:' are reserved for internal use`);
    }
    if (key.length > MAX_KEY_LENGTH) {
      throw invalid(`Tag key exceeds the maximum length of ${MAX_KEY_LENGTH} characters`);
    }
    if (value.length > MAX_VALUE_LENGTH) {
      throw invalid(`Tag value exceeds the maximum length of ${MAX_VALUE_LENGTH} characters`);
    }
    if (instance?.metadataOptions.instanceMetadataTags === "enabled" && !isMetadataKey(key)) {
      throw invalid(
        `'${key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{1,255}), and must not be a reserved name ('.', '..', '_index')`,
      );
    }
  }
  const together = Object.keys({ ...found.tags, ...tags }).filter((key) => !RESERVED.test(key));
  if (together.length > MAX_TAGS) {
    throw new AwsError("TagLimitExceeded", "The maximum number of Tags for a resource has been reached.");
  }
}

/** A key that becomes a path of the metadata. */
function isMetadataKey(key: string): boolean {
  return /^[0-9a-zA-Z\-_+=,.@:]{1,255}$/.test(key) && ![".", "..", "_index"].includes(key);
}

function invalid(message: string): AwsError {
  return new AwsError("InvalidParameterValue", message);
}
