/** A relay of one's own for a network that is there already, with its entry for the network's relay map. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformOutput, TerraformStack } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { RelayNode } from "../../constructs/relay-node.ts";
import { derpMap } from "../../constructs/relay-region.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

const app = new App();
const stack = new TerraformStack(app, "own-relay");
new AwsProvider(stack, "aws", { region: "us-east-1" });

const relay = new RelayNode(stack, "relay", {
  network: new TunnelNetwork(stack, "network"),
  bundle: new AgentBundle(stack, "agent"),
  region: { regionId: 901, regionCode: "nyc", regionName: "New York" },
});
new TerraformOutput(stack, "derpMap", { value: JSON.stringify(derpMap([relay.derpMapRegion])) });

app.synth();
