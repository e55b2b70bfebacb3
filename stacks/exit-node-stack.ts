import { TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { ExitNode } from "../constructs/exit-node.ts";
import { given } from "../constructs/given.ts";
import {
  acmeFor,
  authKeyFor,
  bundleFor,
  joinParameter,
  networkFor,
  output,
  outputs,
  prepare,
  relayRegionFor,
  type StackProps,
} from "./parts.ts";

/**
 * One exit node in one region. Without a login server it is a network of its own: the node is its relay and its coordination
 * server, too, and leaves what devices join with in a parameter.
 */
export class ExitNodeStack extends TerraformStack {
  constructor(scope: Construct, id: string, props: StackProps) {
    super(scope, id);
    prepare(this, id, props);
    const { loginServer, region } = props;
    const join = loginServer === undefined ? joinParameter(this, id) : undefined;
    const node = new ExitNode(this, "exit-node", {
      network: networkFor(this, props),
      port: props.port,
      openTunnelPort: props.openTunnelPort,
      egress: props.egress,
      exitTraffic: props.exitTraffic,
      architecture: props.architecture,
      selfHealing: props.selfHealing,
      sessionManager: props.sessionManager,
      ...given({
        address: props.address,
        natGatewayId: props.natGatewayId,
        keepIdentity: props.keepIdentity,
        instanceType: props.instanceType,
        machineImageId: props.machineImageId,
        // "exit-node" and, of further regions, "exit-node-eu-west-1"
        hostname: props.hostname ?? id.replace("-stack", ""),
        loginServer,
        bundle: bundleFor(this, props),
        authKey: authKeyFor(this, props),
      }),
      ...(join === undefined
        ? {}
        : {
            ...acmeFor(props),
            relay: relayRegionFor(props),
            coordination: { joinParameterName: join.name, ...given({ domain: props.domain }) },
          }),
    });
    outputs(this, {
      what: "the tunnel",
      ingressPublicIp: node.publicIp,
      egressPublicIps: node.egressPublicIps,
      tunnelPort: node.port,
      relay: node.derpMapRegion,
    });
    if (join === undefined || node.loginServer === undefined) return;
    output(this, "join", "Run it where the device is to join", join.command(region, node.loginServer));
  }
}
