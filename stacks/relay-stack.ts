import { TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { given } from "../constructs/given.ts";
import { derpMap } from "../constructs/relay-region.ts";
import { RelayNode } from "../constructs/relay-node.ts";
import { bundleFor, networkFor, output, prepare, relayRegionFor, type StackProps } from "./parts.ts";

/** One relay in one region, for whatever network puts its entry into its relay map. */
export class RelayStack extends TerraformStack {
  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id);
    prepare(this, id, props);
    const node = new RelayNode(this, "relay", {
      network: networkFor(this, props),
      region: relayRegionFor(props),
      architecture: props.architecture,
      sessionManager: props.sessionManager,
      ...given({
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
        bundle: bundleFor(this, props),
      }),
    });
    output(this, "ingressPublicIp", "The public IPv4 address of the relay", node.publicIp);
    output(this, "derpMap", "A relay map with this relay", JSON.stringify(derpMap([node.derpMapRegion])));
    output(this, "healthTagFilter", "For aws ec2 describe-instances --filters", node.healthTagFilter);
  }
}
