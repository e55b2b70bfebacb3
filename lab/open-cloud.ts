/** From the stacks' JSON to a cloud that can run. */
import { RunningCloud, type RunningOptions } from "./cloud/running.ts";
import { readDocuments, type StackSource } from "./documents.ts";
import { readCloud } from "./model/read.ts";
import { ENDPOINT_HOST } from "./topology.ts";

export interface OpenCloudOptions {
  /** Where the content of objects lies. @default the file that the stack names */
  readonly objectFile?: RunningOptions["objectFile"];
}

/** @throws UsageError */
export function openCloud(sources: readonly StackSource[], options: OpenCloudOptions = {}): RunningCloud {
  return new RunningCloud(readCloud(readDocuments(sources)), {
    now: () => Date.now(),
    objectFile: options.objectFile ?? ((_, __, source) => source ?? ""),
    endpointHost: ENDPOINT_HOST,
  });
}
