import { TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { CoordinationNode } from "../constructs/coordination-node.ts";
import { given } from "../constructs/given.ts";
import {
  acmeFor,
  bundleFor,
  joinParameter,
  networkFor,
  output,
  outputs,
  prepare,
  relayRegionFor,
  type StackProps,
} from "./parts.ts";

/** A coordination server with a relay beside it: what exit nodes of several regions join. */
export class CoordinationStack extends TerraformStack {
  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id);
    prepare(this, id, props);
    const bundle = bundleFor(this, props);
    if (bundle === undefined) {
      throw new Error(
        "coordination-stack brings the agent itself: leave agent out, or give it a file or url.",
      );
    }
    const join = joinParameter(this, id);
    const node = new CoordinationNode(this, "coordination", {
      network: networkFor(this, props),
      bundle,
      relay: relayRegionFor(props),
      ...acmeFor(props),
      joinParameterName: join.name,
      architecture: props.architecture,
      sessionManager: props.sessionManager,
      ...given({
        hostname: props.relay?.hostname,
        domain: props.domain,
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
      }),
    });
    outputs(this, {
      what: "the server",
      ingressPublicIp: node.publicIp,
      egressPublicIps: [node.publicIp],
      tunnelPort: undefined,
      relay: node.derpMapRegion,
    });
    output(this, "loginServer", "What exit nodes take as loginServer", node.url);
    output(this, "authKeyParameter", "What exit nodes take as authKeyParameter", join.name);
    output(this, "authKeyRegion", "What exit nodes of other regions take as authKeyRegion", props.region);
    output(this, "join", "Run it where the device is to join", join.command(props.region, node.url));
  }
}
