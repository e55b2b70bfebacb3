import { App, Testing } from "cdktf";
import { readCloud, type CloudModel } from "../../lab/cloud-model.ts";
import { TerraformDocument } from "../../lab/terraform.ts";
import { parseConfig } from "../../stacks/config.ts";
import { ExitNodeStack } from "../../stacks/exit-node-stack.ts";

/** The exit-node stack's Terraform JSON, as `cdktf synth` writes it, with some fields of the configuration set. */
export function synthesize(config: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
  const { regions, ...node } = parseConfig([{ name: "test", content: config }]);
  const stack = new ExitNodeStack(new App(), "exit-node-stack", {
    region: regions[0] ?? "us-east-1",
    ...node,
  });
  return JSON.parse(Testing.synth(stack)) as Record<string, unknown>;
}

export function exitNodeCloud(config: Readonly<Record<string, unknown>> = {}): CloudModel {
  return readCloud(TerraformDocument.read(synthesize(config)));
}
