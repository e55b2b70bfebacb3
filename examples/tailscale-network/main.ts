/** An exit node for a Tailscale or headscale network: it joins with a key that lies in Secrets Manager. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformOutput, TerraformStack } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

/** Tailscale's own. For headscale: its address. */
const LOGIN_SERVER = "https://controlplane.tailscale.com";
const KEY_ARN = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:tailscale-auth-key-AbCdEf";

const app = new App();
const stack = new TerraformStack(app, "tailscale-network");
new AwsProvider(stack, "aws", { region: "eu-west-1" });

const exitNode = new ExitNode(stack, "exit-node", {
  network: new TunnelNetwork(stack, "network", { privateSubnet: true }),
  egress: "nat-gateway",
  selfHealing: true,
  bundle: new AgentBundle(stack, "agent"),
  hostname: "exit-dublin",
  loginServer: LOGIN_SERVER,
  authKey: new AuthKey(stack, "auth-key", { secretArn: KEY_ARN }),
});
new TerraformOutput(stack, "ingressPublicIp", { value: exitNode.publicIp });
new TerraformOutput(stack, "egressPublicIps", { value: exitNode.egressPublicIps });

app.synth();
