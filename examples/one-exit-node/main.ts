/** One exit node in a stack of one's own: relay, coordination server and exit node on one instance. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformOutput, TerraformStack } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

const app = new App();
const stack = new TerraformStack(app, "one-exit-node");
new AwsProvider(stack, "aws", { region: "eu-central-1" });

const network = new TunnelNetwork(stack, "network", { cidrBlock: "10.90.0.0/16" });
const exitNode = new ExitNode(stack, "frankfurt", {
  network,
  bundle: new AgentBundle(stack, "agent"),
  hostname: "exit-frankfurt",
  relay: { regionCode: "fra" },
  coordination: {},
  sessionManager: true,
  tags: { Name: "exit-frankfurt" },
});
new TerraformOutput(stack, "address", { value: `${exitNode.publicIp}:${exitNode.port}` });

app.synth();
