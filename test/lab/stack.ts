import { Testing } from "cdktf";
import type { RunningCloud } from "../../lab/cloud/running.ts";
import { openCloud } from "../../lab/open-cloud.ts";
import { planTopology, type Topology } from "../../lab/topology.ts";
import { DEFAULT_WORLD, type World } from "../../lab/world.ts";
import { parseConfig } from "../../stacks/config.ts";
import { ExitNodeStack } from "../../stacks/exit-node-stack.ts";
import { testApp } from "../constructs/test-app.ts";

/** A node that joins a network of others, from an image that has the agent: the network and an instance with one interface, and nothing else. */
const BARE = {
  ...{ agent: "image", egress: "direct" },
  machineImageId: "ami-0123456789abcdef0",
  loginServer: "https://control.example.com",
};

/** The exit-node stack's Terraform JSON, as `cdktf synth` writes it, with some fields of the configuration set. */
export function synthesize(config: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  return synthesizeAsConfigured({ ...BARE, ...config });
}

/** As above, and all that the stack brings where nothing is configured. */
export function synthesizeWhole(): Record<string, unknown> {
  return synthesizeAsConfigured({ agent: { file: __filename } });
}

function synthesizeAsConfigured(config: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const parsed = parseConfig([{ name: "test", content: config }]);
  const place = { region: parsed.regions[0] ?? "us-east-1", index: 0 };
  const stack = new ExitNodeStack(testApp(), "exit-node-stack", { ...parsed, ...place });
  return JSON.parse(Testing.synth(stack)) as Record<string, unknown>;
}

export function exitNodeCloud(config: Readonly<Record<string, unknown>> = {}): RunningCloud {
  return openCloud([{ name: "exit-node-stack", json: synthesize(config) }]);
}

/** The stack with the world of `npm start` around it. */
export function exitNodeTopology(
  config: Readonly<Record<string, unknown>> = {},
  world: World = DEFAULT_WORLD,
): Topology {
  return planTopology(exitNodeCloud(config), world);
}
