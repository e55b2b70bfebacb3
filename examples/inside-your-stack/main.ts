/** An exit node inside a stack and a VPC that exist already: what is there is given by its ids, the rest is a construct. */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { SecurityGroup } from "@cdktf/provider-aws/lib/security-group/index.js";
import { VpcSecurityGroupIngressRule } from "@cdktf/provider-aws/lib/vpc-security-group-ingress-rule/index.js";
import { App, TerraformStack } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { ALL_CHECKS } from "../../constructs/checks/all.ts";
import { addChecks } from "../../constructs/checks/check.ts";
import { ExitNode } from "../../constructs/exit-node.ts";

const VPC_ID = "vpc-0123456789abcdef0";

const app = new App();
const stack = new TerraformStack(app, "your-stack");
new AwsProvider(stack, "aws", { region: "eu-west-1" });

const database = new SecurityGroup(stack, "database", { vpcId: VPC_ID, description: "Your database" });

const exitNode = new ExitNode(stack, "exit-node", {
  network: {
    vpcId: VPC_ID,
    publicSubnetId: "subnet-0aaaaaaaaaaaaaaaa",
    publicSubnetZone: "eu-west-1a",
    privateSubnetId: "subnet-0bbbbbbbbbbbbbbbb",
    privateSubnetZone: "eu-west-1a",
  },
  egress: "existing-nat",
  bundle: new AgentBundle(stack, "agent"),
  loginServer: "https://control.example.com",
  authKey: new AuthKey(stack, "auth-key", { parameterName: "/your-stack/sallyport-auth-key" }),
  tags: { team: "platform" },
});

// Its groups are yours to refer to: devices behind the node reach the database, and nobody else does.
new VpcSecurityGroupIngressRule(stack, "database-from-tunnel", {
  securityGroupId: database.id,
  description: "Devices behind the exit node",
  ipProtocol: "tcp",
  fromPort: 5432,
  toPort: 5432,
  referencedSecurityGroupId: exitNode.egressSecurityGroupId,
});

addChecks(stack, ALL_CHECKS);
app.synth();
