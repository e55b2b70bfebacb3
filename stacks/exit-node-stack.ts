import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { TerraformOutput, TerraformStack } from "cdktf";
import type { Construct } from "constructs";
import { ExitNode } from "../constructs/exit-node.ts";
import { TunnelNetwork } from "../constructs/tunnel-network.ts";
import type { StackConfig } from "./config.ts";

export interface ExitNodeStackProps extends Omit<StackConfig, "regions"> {
  readonly region: string;
}

/** One exit node in one region, with a network of its own. */
export class ExitNodeStack extends TerraformStack {
  constructor(scope: Construct, id: string, props: ExitNodeStackProps) {
    super(scope, id);
    const { region, ...node } = props;
    new AwsProvider(this, "aws", { region });
    const network = new TunnelNetwork(this, "network");
    const exitNode = new ExitNode(this, "exit-node", { network, ...given(node) });
    new TerraformOutput(this, "ingressPublicIp", {
      value: exitNode.publicIp,
      description: "The public IPv4 address that peers reach the tunnel on",
    });
    new TerraformOutput(this, "tunnelPort", { value: exitNode.port, description: "Its UDP port" });
    new TerraformOutput(this, "healthTagFilter", {
      value: exitNode.healthTagFilter,
      description: "For aws ec2 describe-instances --filters",
    });
  }
}

type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Optional props are left out rather than passed as undefined. */
function given<T extends object>(props: T): Given<T> {
  return Object.fromEntries(Object.entries(props).filter(([, value]) => value !== undefined)) as Given<T>;
}
