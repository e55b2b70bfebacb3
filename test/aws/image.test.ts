import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { findProviderMirror } from "../stacks/provider-mirror.ts";
import { Cloud } from "./cloud.ts";
import { PYTHON_NEEDS, pythonTools } from "./python.ts";

const terraformReady = spawnSync("terraform", ["version"]).status === 0 && findProviderMirror() !== undefined;
const bin = terraformReady ? pythonTools() : undefined;
const withTerraform = requires(
  "terraform-provider-aws",
  terraformReady,
  "Terraform and a filesystem mirror with its AWS provider are needed: name it in TF_CLI_CONFIG_FILE",
);
const test = terraformReady ? requires("moto", bin !== undefined, PYTHON_NEEDS) : withTerraform;

const STACK = "relay-stack";

test("an image for another processor is refused when it is planned", async () => {
  const cloud = await Cloud.start(bin ?? "");
  try {
    const machineImageId = await arm64Image(cloud);
    const config = { stacks: [STACK], machineImageId, architecture: "x86_64", agent: { file: __filename } };
    cloud.synthesize("stacks/main.ts", config);
    withoutBackend(join(cloud.folder, "cdktf.out/stacks", STACK, "cdk.tf.json"));
    const refused = await cloud.plan(STACK).then(
      () => "",
      (error: Error) => error.message.replaceAll(/[\s│╷╵]+/g, " "),
    );
    expect(refused).toContain(
      `RelayNode machineImageId ${machineImageId} is for arm64 and architecture is x86_64: set architecture to "arm64", or give another image.`,
    );
  } finally {
    cloud.stop();
  }
}, 400_000);

/** Then nothing is to be initialized, since the provider is an override. */
function withoutBackend(file: string): void {
  const json = JSON.parse(readFileSync(file, "utf8")) as { readonly terraform: object };
  writeFileSync(file, JSON.stringify({ ...json, terraform: { ...json.terraform, backend: undefined } }));
}

/** EC2's own form of requests; moto checks no signature. */
async function arm64Image(cloud: Cloud): Promise<string> {
  const filter = { "Filter.1.Name": "architecture", "Filter.1.Value.1": "arm64" };
  const body = new URLSearchParams({ Action: "DescribeImages", Version: "2016-11-15", ...filter });
  const credential = "Credential=test/20260101/us-east-1/ec2/aws4_request";
  const headers = { authorization: `AWS4-HMAC-SHA256 ${credential}, SignedHeaders=host, Signature=0` };
  const answer = await (await fetch(cloud.endpoint, { method: "POST", body, headers })).text();
  const [, id = ""] = /<imageId>(ami-[0-9a-f]+)</.exec(answer) ?? [];
  return id;
}
