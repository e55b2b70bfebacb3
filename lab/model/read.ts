/** From the documents of some stacks to their model. */
import { UsageError } from "../../agent/src/base/errors.ts";
import type { TerraformDocument } from "../terraform.ts";
import { Addresses } from "./addresses.ts";
import type { CloudModel } from "./model.ts";
import {
  type Networks,
  readBalancers,
  readGroups,
  readInstances,
  readInterfaces,
  readNatGateways,
} from "./read-machines.ts";
import { readSecurityGroups, readSubnets, readVpcs } from "./read-networks.ts";
import { readBuckets, readParameters, readRoles, readSecrets, readVolumes } from "./read-storage.ts";
import { Resources, type StackResource } from "./resources.ts";

export interface ReadCloud {
  readonly model: CloudModel;
  /** What gives out addresses to what is launched later. */
  readonly networks: Networks;
}

/** @throws UsageError naming the resource when the stacks contradict themselves or ask for what the lab can't do */
export function readCloud(
  documents: readonly TerraformDocument[],
  existing: readonly StackResource[] = [],
): ReadCloud {
  const resources = new Resources(documents, existing);
  const vpcs = readVpcs(resources);
  const subnets = readSubnets(resources, vpcs);
  const securityGroups = readSecurityGroups(resources);
  const networks = { resources, subnets, securityGroups, addresses: new Addresses() };
  const instances = readInstances(networks);
  const groups = readGroups(networks);
  if (instances.length === 0 && groups.length === 0)
    throw new UsageError("lab-stack", "the stack has no instance to build a lab around");
  return {
    networks,
    model: {
      vpcs,
      subnets,
      securityGroups,
      instances,
      groups,
      interfaces: readInterfaces(networks),
      natGateways: readNatGateways(networks),
      balancers: readBalancers(networks),
      volumes: readVolumes(resources),
      roles: readRoles(resources),
      parameters: readParameters(resources),
      secrets: readSecrets(resources),
      buckets: readBuckets(resources),
      regions: [
        ...new Set([...documents.map(({ region }) => region), ...resources.all.map(({ region }) => region)]),
      ],
      notModelled: resources.notModelled,
    },
  };
}
