import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { runApp } from "../stacks/app.ts";
import { APPS } from "../stacks/apps.ts";
import { findProviderMirror, terraformConfig } from "../stacks/provider-mirror.ts";

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
  writeFileSync(join(folder, "terraformrc"), terraformConfig(mirror));
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Verdict {
  readonly valid: boolean;
  readonly diagnostics: readonly { readonly severity: string; readonly summary: string }[];
}

/** With the provider as an override no folder is initialized; that Terraform warns of overrides is all it may say. */
function validate(): Verdict {
  const { stdout } = spawnSync("terraform", ["validate", "-json"], {
    cwd: work,
    encoding: "utf8",
    env: { ...process.env, CHECKPOINT_DISABLE: "1", TF_CLI_CONFIG_FILE: join(folder, "terraformrc") },
  });
  const { valid, diagnostics } = JSON.parse(stdout) as Verdict;
  return { valid, diagnostics: diagnostics.filter(({ summary }) => !/development overrides/.test(summary)) };
}

withTerraform.each(APPS)(
  "Terraform and the AWS provider accept $what",
  ({ main, config = {} }) => {
    const appFolder = mkdtempSync(join(folder, "app-"));
    const { status, stderr, stacks } = runApp(main, appFolder, { config: JSON.stringify(config) });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    for (const stack of Object.values(stacks)) {
      writeFileSync(join(work, "cdk.tf.json"), JSON.stringify(withProvider(stack.json, mirror?.version)));
      expect(validate()).toEqual({ valid: true, diagnostics: [] });
    }
  },
  400_000,
);

/** The mirror's version may be another than the one that the bindings ask for. */
function withProvider(json: Readonly<Record<string, unknown>>, version: string | undefined): unknown {
  return { ...json, terraform: { required_providers: { aws: { source: "hashicorp/aws", version } } } };
}
