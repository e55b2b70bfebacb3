import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { runApp } from "../stacks/app.ts";
import { APPS } from "../stacks/apps.ts";
import { findProviderMirror } from "../stacks/provider-mirror.ts";

const terraform = (args: readonly string[], cwd: string) =>
  spawnSync("terraform", args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, CHECKPOINT_DISABLE: "1", TF_CLI_CONFIG_FILE: "" },
  });
const mirror = findProviderMirror();
const hasTerraform = spawnSync("terraform", ["version"]).status === 0;

const withTerraform = requires(
  "terraform-provider-aws",
  hasTerraform && mirror !== undefined,
  hasTerraform
    ? "no filesystem mirror holds the AWS provider: make one with `terraform providers mirror` and name it in TF_CLI_CONFIG_FILE"
    : "Terraform is not installed: put `terraform` on the PATH",
);

let folder: string;
let work: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-validate-"));
  work = join(folder, "work");
  mkdirSync(work);
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Initialized once: Terraform reads the whole provider, some 700 MB, to note its hash. */
function initialize(): void {
  if (existsSync(join(work, ".terraform"))) return;
  const { status, stderr } = terraform(
    ["init", "-backend=false", `-plugin-dir=${mirror?.folder ?? ""}`],
    work,
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
}

withTerraform.each(APPS)(
  "Terraform and the AWS provider accept $what",
  ({ main, config = {} }) => {
    const appFolder = mkdtempSync(join(folder, "app-"));
    const { status, stderr, stacks } = runApp(main, appFolder, { config: JSON.stringify(config) });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const stack of Object.values(stacks)) {
      writeFileSync(join(work, "cdk.tf.json"), JSON.stringify(withProvider(stack.json, mirror?.version)));
      initialize();
      const { stdout } = terraform(["validate", "-json"], work);
      expect(JSON.parse(stdout)).toMatchObject({ valid: true, error_count: 0, warning_count: 0 });
    }
  },
  400_000,
);

/** The mirror's version may be another than the one that the bindings ask for. */
function withProvider(json: Readonly<Record<string, unknown>>, version: string | undefined): unknown {
  return { ...json, terraform: { required_providers: { aws: { source: "hashicorp/aws", version } } } };
}
