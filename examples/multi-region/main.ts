/**
 * Exit nodes in three regions, relays in two, and one map of all: a coordination server in the first region, whose join token
 * the exit nodes of all regions read from its parameter. One deploy, and no secret in any state.
 */
import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { App, TerraformOutput, TerraformStack } from "cdktf";
import type { Acme } from "../../constructs/acme.ts";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { CoordinationNode } from "../../constructs/coordination-node.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { JoinParameter } from "../../constructs/join-parameter.ts";
import { RelayNode } from "../../constructs/relay-node.ts";
import { derpMap } from "../../constructs/relay-region.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";

const HOME = "eu-central-1";
const RELAYS = [
  { region: HOME, regionId: 900, regionCode: "fra", regionName: "Frankfurt" },
  { region: "us-east-1", regionId: 901, regionCode: "iad", regionName: "Virginia" },
];
const EXIT_NODES = [
  { region: HOME, hostname: "exit-frankfurt" },
  { region: "us-east-1", hostname: "exit-virginia" },
  { region: "ap-southeast-1", hostname: "exit-singapore" },
];
/**
 * Certificates for the servers' addresses, by Let's Encrypt, so that the map can be written before the relays exist: own
 * certificates would be known, and pinned in it, only after their first start.
 */
const ACME: Acme = { termsAgreed: true };

const app = new App();

function stackIn(region: string, id: string) {
  const stack = new TerraformStack(app, id);
  new AwsProvider(stack, "aws", { region });
  const network = new TunnelNetwork(stack, "network");
  return { stack, network, bundle: new AgentBundle(stack, "agent") };
}

const relays = RELAYS.map(({ region, ...entry }) => {
  const { stack, network, bundle } = stackIn(region, `relay-${entry.regionCode}`);
  return new RelayNode(stack, "relay", { network, bundle, region: entry, acme: ACME }).derpMapRegion;
});

const { stack: home, network: homeNetwork, bundle: homeBundle } = stackIn(HOME, "coordination");
const join = new JoinParameter(home, "join-token", { name: "/sallyport/multi-region/join" });
const coordination = new CoordinationNode(home, "coordination", {
  network: homeNetwork,
  bundle: homeBundle,
  relays,
  acme: ACME,
  domain: "mesh.example",
  joinParameterName: join.name,
});
new TerraformOutput(home, "derpMap", { value: JSON.stringify(derpMap(relays)) });
new TerraformOutput(home, "join", { value: join.command(HOME, coordination.url) });

for (const { region, hostname } of EXIT_NODES) {
  const { stack, network, bundle } = stackIn(region, hostname);
  const exitNode = new ExitNode(stack, "exit-node", {
    network,
    bundle,
    hostname,
    address: "elastic",
    loginServer: coordination.url,
    authKey: new AuthKey(stack, "auth-key", { parameterName: join.name, region: HOME }),
  });
  new TerraformOutput(stack, "address", { value: `${exitNode.publicIp}:${exitNode.port}` });
}

app.synth();
