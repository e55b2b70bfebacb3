import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { runApp } from "../stacks/app.ts";
import { APPS } from "../stacks/apps.ts";
import { CHECKOV_SKIPS } from "./checkov-skips.ts";
import { PYTHON_NEEDS, pythonTools } from "./python.ts";

const bin = pythonTools();
const withCheckov = requires("checkov", bin !== undefined, PYTHON_NEEDS);

interface Report {
  readonly results: { readonly failed_checks: readonly { check_id: string; resource: string }[] };
  readonly summary: { readonly passed: number };
}

withCheckov(
  "checkov finds nothing in any stack or example but what is allowed with its reason",
  () => {
    const folder = mkdtempSync(join(tmpdir(), "sallyport-checkov-"));
    for (const { what, main, config } of APPS) {
      const app = mkdtempSync(join(tmpdir(), "sallyport-app-"));
      expect(runApp(main, app, { config: JSON.stringify(config ?? {}) })).toMatchObject({ status: 0 });
      cpSync(join(app, "cdktf.out/stacks"), join(folder, what), { recursive: true });
      rmSync(app, { recursive: true });
    }
    const args = ["-d", folder, "--framework", "terraform_json", "--skip-download", "--quiet", "-o", "json"];
    const { stdout } = spawnSync(join(bin ?? "", "checkov"), args, { encoding: "utf8", maxBuffer: 1 << 28 });
    rmSync(folder, { recursive: true });
    const report = JSON.parse(stdout) as Report;
    const failed = report.results.failed_checks;
    const unexpected = failed.filter(({ check_id: id }) => CHECKOV_SKIPS[id] === undefined);
    expect(unexpected.map(({ check_id: id, resource }) => `${id} ${resource}`)).toEqual([]);
    const broken = new Set(failed.map(({ check_id: id }) => id));
    expect(Object.keys(CHECKOV_SKIPS).filter((id) => !broken.has(id))).toEqual([]);
    expect(report.summary.passed).toBeGreaterThan(100);
  },
  300_000,
);
