/**
 * Exit nodes in three regions, relays in two, and one map of all: a coordination server in the first region, which the exit
 * nodes of the others join with a key that you store in their regions.
 */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformOutput, TerraformStack } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { CoordinationNode } from "../../constructs/coordination-node.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { RelayNode } from "../../constructs/relay-node.ts";
import { derpMap } from "../../constructs/relay-region.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

const RELAYS = [
  { region: "eu-central-1", regionId: 900, regionCode: "fra", regionName: "Frankfurt" },
  { region: "us-east-1", regionId: 901, regionCode: "iad", regionName: "Virginia" },
];
const EXIT_NODES = [
  { region: "eu-central-1", hostname: "exit-frankfurt" },
  { region: "us-east-1", hostname: "exit-virginia" },
  { region: "ap-southeast-1", hostname: "exit-singapore" },
];
/** Holds what devices join with; in every region, see README. */
const JOIN_PARAMETER = "/sallyport/multi-region/join";

const app = new App();

function stackIn(region: string, id: string) {
  const stack = new TerraformStack(app, id);
  new AwsProvider(stack, "aws", { region });
  const network = new TunnelNetwork(stack, "network");
  return { stack, network, bundle: new AgentBundle(stack, "agent") };
}

const relays = RELAYS.map(({ region, ...entry }) => {
  const { stack, network, bundle } = stackIn(region, `relay-${entry.regionCode}`);
  return new RelayNode(stack, "relay", { network, bundle, region: entry }).derpMapRegion;
});

const { stack: home, network: homeNetwork, bundle: homeBundle } = stackIn("eu-central-1", "coordination");
const coordination = new CoordinationNode(home, "coordination", {
  network: homeNetwork,
  bundle: homeBundle,
  relays,
  domain: "mesh.example",
});
new TerraformOutput(home, "loginServer", { value: coordination.url });
new TerraformOutput(home, "derpMap", { value: JSON.stringify(derpMap(relays)) });

for (const { region, hostname } of EXIT_NODES) {
  const { stack, network, bundle } = stackIn(region, hostname);
  const exitNode = new ExitNode(stack, "exit-node", {
    network,
    bundle,
    hostname,
    address: "elastic",
    loginServer: coordination.url,
    authKey: new AuthKey(stack, "auth-key", { parameterName: JOIN_PARAMETER }),
  });
  new TerraformOutput(stack, "address", { value: `${exitNode.publicIp}:${exitNode.port}` });
}

app.synth();
