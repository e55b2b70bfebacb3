/** A virtual environment with moto and checkov, made once in dist/. */
import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(__dirname, "../..");
const folder = join(root, "dist/test-venv");
const PIP_TIMEOUT_MS = 400_000;

/** The environment's programs' folder; undefined where Python or its packages can not be had. */
export function pythonTools(): string | undefined {
  const bin = join(folder, "bin");
  if (existsSync(join(bin, "moto_server")) && existsSync(join(bin, "checkov"))) return bin;
  if (spawnSync("python3", ["-m", "venv", folder]).status !== 0) return undefined;
  const packages = ["install", "--quiet", "--requirement", join(__dirname, "requirements.txt")];
  const { status } = spawnSync(join(bin, "pip"), packages, { timeout: PIP_TIMEOUT_MS });
  if (status === 0) return bin;
  rmSync(folder, { recursive: true, force: true });
  return undefined;
}

export const PYTHON_NEEDS =
  "moto and checkov can not be had: install python3-venv and let pip reach its package index";
