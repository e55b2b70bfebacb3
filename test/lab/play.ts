/** Scenarios as `sallyport lab test` plays them, with the built program. */
import { spawn } from "node:child_process";
import { join } from "node:path";
import { LAB_PROGRAM } from "./bundle.ts";

export interface Played {
  readonly code: number | null;
  readonly lines: readonly string[];
  /** Those with a tick or a cross. */
  readonly steps: readonly string[];
  /** Those with a cross. */
  readonly failed: readonly string[];
}

const root = join(__dirname, "../..");

/** By their names. */
export const ours = (name: string): string => join(root, "lab/scenarios", `${name}.lab.yaml`);
export const example = (name: string): string => join(root, "examples", name, `${name}.lab.yaml`);

export function play(scenario: string): Promise<Played> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [LAB_PROGRAM, "test", scenario]);
    let said = "";
    child.stdout.on("data", (text) => (said += String(text)));
    child.stderr.on("data", (text) => (said += String(text)));
    child.on("error", reject);
    child.on("close", (code) => {
      const lines = said.split("\n");
      const steps = lines.filter((line) => /^ {2}[✓✗]/.test(line));
      resolve({ code, lines, steps, failed: steps.filter((line) => line.includes("✗")) });
    });
  });
}
