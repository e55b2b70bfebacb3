/** Gets the stack's Terraform JSON: from a file, or by running the app that `cdktf synth` runs. */
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { OperationError, UsageError } from "../agent/src/base/errors.ts";
import { run } from "./system.ts";

export const STACK = "exit-node-stack";
const SYNTHESIS_TIMEOUT_MS = 60_000;

/** @throws UsageError when the file is missing or no JSON */
export function readStackFile(file: string): unknown {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch {
    throw new UsageError(
      "lab-stack",
      `${file} can not be read: name the cdk.tf.json that \`npx cdktf synth\` wrote`,
    );
  }
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw new UsageError("lab-stack", `${file} is not JSON: run \`npx cdktf synth\` again`);
  }
}

/**
 * Runs stacks/main.ts as cdktf.json says, into dist/.
 *
 * @param root the package's folder
 * @param config fields that override sallyport.config.json, as the cdktf context "sallyport" does
 * @throws OperationError with what the app said
 */
export async function synthesizeStack(
  root: string,
  config: Readonly<Record<string, unknown>>,
): Promise<unknown> {
  // One folder per configuration: two labs at once don't take each other's stack.
  const out = join(root, "dist/stacks", Object.keys(config).join("-") || "as-configured");
  mkdirSync(dirname(out), { recursive: true });
  const app = [join(root, "bin/synth.mjs")];
  // The lab's instances run the agent from dist/, so the archive that real ones fetch need not be made.
  const agent = { file: join(root, "dist/agent/sallyport.mjs") };
  const env = {
    ...process.env,
    CDKTF_OUTDIR: out,
    CDKTF_CONTEXT_JSON: JSON.stringify({ sallyport: { agent, ...config } }),
  };
  await run(process.execPath, app, { cwd: root, env, timeoutMs: SYNTHESIS_TIMEOUT_MS }).catch(
    (cause: unknown) => {
      const said = cause instanceof Error ? cause.message : String(cause);
      throw new OperationError("lab-synthesis", `${STACK} can not be synthesized: ${said}`, { cause });
    },
  );
  return readStackFile(join(out, "stacks", STACK, "cdk.tf.json"));
}
