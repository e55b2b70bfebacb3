/** A virtual environment with moto and checkov, made once in dist/: by uv where it can be had, since pip takes two minutes. */
import { spawnSync } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";

const root = join(__dirname, "../..");
const folder = join(root, "dist/test-venv");
const UV = "uv==0.13.9";
const INSTALL_TIMEOUT_MS = 400_000;

/** The environment's programs' folder; undefined where Python or its packages can not be had. */
export function pythonTools(): string | undefined {
  const bin = join(folder, "bin");
  if (existsSync(join(bin, "moto_server")) && existsSync(join(bin, "checkov"))) return bin;
  if (spawnSync("python3", ["-m", "venv", folder]).status !== 0) return undefined;
  const packages = ["--quiet", "--requirement", join(__dirname, "requirements.txt")];
  const installed =
    ran(join(bin, "pip"), "install", "--quiet", UV) &&
    ran(join(bin, "uv"), "pip", "install", "--no-cache", "--python", join(bin, "python"), ...packages);
  if (installed || ran(join(bin, "pip"), "install", ...packages)) return bin;
  rmSync(folder, { recursive: true, force: true });
  return undefined;
}

function ran(program: string, ...args: readonly string[]): boolean {
  return spawnSync(program, args, { timeout: INSTALL_TIMEOUT_MS }).status === 0;
}

export const PYTHON_NEEDS =
  "moto and checkov can not be had: install python3-venv and let pip reach its package index";
