import { TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { given } from "../constructs/given.ts";
import { RelayNode } from "../constructs/relay-node.ts";
import {
  acmeFor,
  bundleFor,
  networkFor,
  outputs,
  prepare,
  relayRegionFor,
  type StackProps,
} from "./parts.ts";

/** One relay in one region, for whatever network puts its entry into its relay map. */
export class RelayStack extends TerraformStack {
  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id);
    prepare(this, id, props);
    const node = new RelayNode(this, "relay", {
      network: networkFor(this, props),
      ...acmeFor(props),
      region: relayRegionFor(props),
      architecture: props.architecture,
      sessionManager: props.sessionManager,
      ...given({
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
        keepIdentity: props.keepIdentity,
        bundle: bundleFor(this, props),
      }),
    });
    outputs(this, {
      what: "the relay",
      ingressPublicIp: node.publicIp,
      egressPublicIps: [node.publicIp],
      tunnelPort: undefined,
      relay: node.derpMapRegion,
    });
  }
}
