/** One exit node in a stack of one's own. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformOutput, TerraformStack } from "cdktf";
import { ExitNode } from "../../constructs/exit-node.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

const app = new App();
const stack = new TerraformStack(app, "one-exit-node");
new AwsProvider(stack, "aws", { region: "eu-central-1" });

const network = new TunnelNetwork(stack, "network", { cidrBlock: "10.90.0.0/16" });
const exitNode = new ExitNode(stack, "frankfurt", {
  network,
  hostname: "exit-frankfurt",
  tags: { Name: "exit-frankfurt" },
});
new TerraformOutput(stack, "address", { value: `${exitNode.publicIp}:${exitNode.port}` });

app.synth();
