import { AwsProvider } from "@cdktf/provider-aws/lib/provider/index.js";
import { TerraformStack, Testing } from "cdktf";
import { AgentBundle } from "../../constructs/agent-bundle.ts";
import { AuthKey } from "../../constructs/auth-key.ts";
import { ExitNode } from "../../constructs/exit-node.ts";
import { SharedIngress } from "../../constructs/shared-ingress.ts";
import { TunnelNetwork } from "../../constructs/tunnel-network.ts";
import type { Hands } from "../../lab/cloud/hands.ts";
import type { RunningCloud } from "../../lab/cloud/running.ts";
import { openCloud } from "../../lab/open-cloud.ts";
import { testApp } from "../constructs/test-app.ts";

/** Two nodes behind one address, the second of a group with hooks. */
function sharedAddress(): RunningCloud {
  const stack = new TerraformStack(testApp(), "shared");
  new AwsProvider(stack, "aws", { region: "eu-west-1" });
  const network = new TunnelNetwork(stack, "network");
  const common = {
    ...{ network, sharedIngress: new SharedIngress(stack, "shared", { network }) },
    ...{ bundle: new AgentBundle(stack, "agent", { file: __filename }), loginServer: "https://c.example" },
    authKey: new AuthKey(stack, "auth-key", { parameterName: "/key" }),
  };
  new ExitNode(stack, "one", { ...common, hostname: "one", port: 41641 });
  new ExitNode(stack, "two", { ...common, hostname: "two", port: 41642, selfHealing: true });
  return openCloud([{ name: "shared", json: JSON.parse(Testing.synth(stack)) as unknown }]);
}

interface Watched {
  readonly cloud: RunningCloud;
  /** What a router would be told now: "PORT → ADDRESS". */
  ways(): readonly string[];
  /** Whoever doesn't answer the health check. */
  readonly ill: Set<string>;
  readonly asked: readonly string[];
}

async function run(): Promise<Watched> {
  const cloud = sharedAddress();
  const [ill, asked] = [new Set<string>(), [] as string[]];
  let rules = "";
  const nothing = (): Promise<void> => Promise.resolve();
  const hands: Hands = {
    ...{ addNamespace: nothing, removeNamespace: nothing, unwire: nothing, boot: nothing },
    ...{ attachVolume: nothing, detachVolume: nothing, say: () => {} },
    wire: async ({ changes }) => {
      for (const change of changes) if (change.rules.includes("flush map")) rules = change.rules;
      await Promise.resolve();
    },
    answers: async (namespace, from, { ip, port }) => {
      asked.push(`${namespace} ${from} → ${port}`);
      return Promise.resolve(!ill.has(ip));
    },
  };
  await cloud.start(hands);
  const ways = () =>
    [...rules.matchAll(/\. (\d+) : (\S+) \. (\d+)/g)].map(([, port, to, at]) => `${port} → ${to} ${at}`);
  return { cloud, ways, ill, asked };
}

const ipOf = (cloud: RunningCloud, name: string): string =>
  cloud.instances.find(({ namespace }) => namespace === name)?.interfaces[0]?.privateIps[0] ?? "";

/** Twice the time between two checks. */
const LATER_MS = 2_000;
let running: RunningCloud | undefined;
beforeEach(() => jest.useFakeTimers());
afterEach(() => {
  running?.stop();
  jest.useRealTimers();
});

test("each port leads to its own host; that of a group comes when it is in service", async () => {
  const { cloud, ways, asked } = await run();
  running = cloud;
  const [balancer] = cloud.read.model.balancers;
  const one = `41641 → ${ipOf(cloud, "one")} 41641`;
  expect(ways()).toEqual([one]);
  expect(asked).toEqual([`igw ${balancer?.privateIp.text} → 41640`]);
  expect(balancer?.subnet.cidr.contains(balancer.privateIp)).toBe(true);

  const group = cloud.read.model.groups[0];
  const region = cloud.regions.get("eu-west-1");
  const instance = cloud.instances.find(({ namespace }) => namespace === "two");
  const action = { groupName: group?.name ?? "", instanceId: instance?.id ?? "" };
  await region?.completeLifecycleAction({ ...action, hookName: group?.hooks[0]?.name ?? "" }, "CONTINUE");
  await jest.advanceTimersByTimeAsync(LATER_MS);
  expect(ways()).toEqual([one, `41642 → ${ipOf(cloud, "two")} 41642`]);
});

test("with two in service the one that is well gets the packets, and the first where none is", async () => {
  const { cloud, ways, ill } = await run();
  running = cloud;
  const group = cloud.read.model.groups[0];
  const region = cloud.regions.get("eu-west-1");
  const hook = group?.hooks.find(({ transition }) => transition.endsWith("LAUNCHING"))?.name ?? "";
  const begin = (name: string) => {
    const instanceId = cloud.instances.find(({ namespace }) => namespace === name)?.id ?? "";
    const groupName = group?.name ?? "";
    return region?.completeLifecycleAction({ groupName, instanceId, hookName: hook }, "CONTINUE");
  };
  await begin("two");
  await region?.startInstanceRefresh(group?.name ?? "");
  await begin("two-2");
  const [old, fresh] = [ipOf(cloud, "two"), ipOf(cloud, "two-2")];
  ill.add(old);
  await jest.advanceTimersByTimeAsync(LATER_MS);
  expect(ways()[1]).toBe(`41642 → ${fresh} 41642`);
  // The refresh ends the old one; what is left of the group is what serves, well or not.
  ill.add(fresh);
  await jest.advanceTimersByTimeAsync(LATER_MS);
  expect(ways()[1]).toBe(`41642 → ${fresh} 41642`);
});
