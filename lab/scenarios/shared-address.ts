/** Exit nodes behind one public address, which a network load balancer shares out by port; one of them is of a group. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformStack } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { SharedIngress } from "../../constructs/shared-ingress.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

const app = new App();
const stack = new TerraformStack(app, "shared-address");
new AwsProvider(stack, "aws", { region: "eu-west-1" });

const network = new TunnelNetwork(stack, "network");
const sharedIngress = new SharedIngress(stack, "shared", { network });
const common = {
  ...{ network, sharedIngress, loginServer: "https://control.example.com" },
  bundle: new AgentBundle(stack, "agent"),
  authKey: new AuthKey(stack, "auth-key", { parameterName: "/lab/key" }),
};
new ExitNode(stack, "one", { ...common, hostname: "one", port: 41641 });
new ExitNode(stack, "two", { ...common, hostname: "two", port: 41642, selfHealing: true });

app.synth();
