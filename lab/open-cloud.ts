/** From the stacks' JSON to a cloud that can run. */
import { RunningCloud, type RunningOptions } from "./cloud/running.ts";
import { readDocuments, type StackSource } from "./documents.ts";
import { existingResources, type ExistingNetwork } from "./model/existing.ts";
import { readCloud } from "./model/read.ts";
import { asObject, type Attributes, type Value } from "./terraform-values.ts";
import { ENDPOINT_HOST } from "./topology.ts";

export interface OpenCloudOptions {
  /** Where the content of objects lies. @default the file that the stack names */
  readonly objectFile?: RunningOptions["objectFile"];
  /** The network that is there before the stacks. @default none */
  readonly existing?: ExistingNetwork;
  /** Types or addresses of resources that are not built, to see what happens without them. */
  readonly leaveOut?: readonly string[];
}

/** @throws UsageError */
export function openCloud(sources: readonly StackSource[], options: OpenCloudOptions = {}): RunningCloud {
  const { existing, leaveOut = [] } = options;
  const kept = leaveOut.length === 0 ? sources : sources.map((source) => without(source, leaveOut));
  const found = (type: string, by: string, value: string): Attributes | undefined =>
    known.find((one) => one.type === type && (one.values[by] === value || (by === "id" && one.id === value)))
      ?.values;
  const known = existing === undefined ? [] : existingResources(existing, regionOf(kept));
  const documents = readDocuments(kept, existing === undefined ? undefined : found);
  return new RunningCloud(readCloud(documents, known), {
    now: () => Date.now(),
    objectFile: options.objectFile ?? ((_, __, source) => source ?? ""),
    endpointHost: ENDPOINT_HOST,
  });
}

const regionOf = (sources: readonly StackSource[]): string => readDocuments(sources)[0]?.region ?? "";

function without({ name, json }: StackSource, leaveOut: readonly string[]): StackSource {
  const document = asObject(json as Value);
  const resource = Object.entries(asObject(document["resource"]))
    .filter(([type]) => !leaveOut.includes(type))
    .map(([type, named]) => [
      type,
      Object.fromEntries(
        Object.entries(asObject(named)).filter(([one]) => !leaveOut.includes(`${type}.${one}`)),
      ),
    ]);
  return { name, json: { ...document, resource: Object.fromEntries(resource) as Attributes } };
}
