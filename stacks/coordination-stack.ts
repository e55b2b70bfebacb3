import { TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { CoordinationNode } from "../constructs/coordination-node.ts";
import { given } from "../constructs/given.ts";
import { derpMap } from "../constructs/relay-region.ts";
import {
  bundleFor,
  joinCommand,
  joinParameter,
  networkFor,
  output,
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
      joinParameterName: join.name,
      architecture: props.architecture,
      sessionManager: props.sessionManager,
      ...given({
        domain: props.domain,
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
      }),
    });
    output(this, "ingressPublicIp", "The public IPv4 address of the server", node.publicIp);
    output(this, "loginServer", "What exit nodes take as loginServer", node.url);
    output(this, "authKeyParameter", "What exit nodes of this region take as authKeyParameter", join.name);
    output(
      this,
      "derpMap",
      "The relay map of its network",
      node.derpMapRegion === undefined ? undefined : JSON.stringify(derpMap([node.derpMapRegion])),
    );
    output(
      this,
      "join",
      "Run it where the device is to join",
      joinCommand(props.region, join.name, node.url),
    );
  }
}
