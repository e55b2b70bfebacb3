/** Gets the stack's Terraform JSON: from a file, or by running the app that `cdktf synth` runs. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import * as z from "zod";
import { OperationError, UsageError } from "../agent/src/base/errors.ts";
import type { StackSource } from "./documents.ts";
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
 * @returns exit-node-stack's JSON
 * @throws OperationError with what the app said
 */
export async function synthesizeStack(options: Omit<AppOptions, "app">): Promise<unknown> {
  const sources = await synthesizeApp({ ...options, app: "stacks/main.ts" });
  return sources.find(({ name }) => name === STACK)?.json;
}

export interface AppOptions {
  /** The package's folder. */
  readonly root: string;
  /** The app's file, from there. */
  readonly app: string;
  /** Fields that override sallyport.config.json, as the cdktf context "sallyport" does. */
  readonly config: Readonly<Record<string, unknown>>;
  /** The agent's archive that instances fetch. */
  readonly archive: string;
}

/** All stacks of an app. @throws OperationError with what the app said */
export async function synthesizeApp({
  root,
  app,
  config,
  archive,
}: AppOptions): Promise<readonly StackSource[]> {
  // One folder per configuration: two labs at once don't take each other's stack.
  const configured = createHash("sha256")
    .update(JSON.stringify([app, config, archive]))
    .digest("hex")
    .slice(0, 12);
  const out = join(root, "dist/stacks", configured);
  mkdirSync(dirname(out), { recursive: true });
  const env = {
    ...process.env,
    CDKTF_OUTDIR: out,
    CDKTF_CONTEXT_JSON: JSON.stringify({ sallyport: { agent: { file: archive }, ...config } }),
    SALLYPORT_AGENT_BUNDLE: archive,
  };
  const command = [join(root, "bin/synth.mjs"), join(root, app)];
  await run(process.execPath, command, { cwd: root, env, timeoutMs: SYNTHESIS_TIMEOUT_MS }).catch(
    (cause: unknown) => {
      const said = cause instanceof Error ? cause.message : String(cause);
      throw new OperationError("lab-synthesis", `${app} can not be synthesized: ${said}`, { cause });
    },
  );
  return readOutput(out);
}

/** All stacks that cdktf wrote into a folder, in the order in which they can be made. @throws UsageError */
export function readOutput(out: string): readonly StackSource[] {
  const file = join(out, "manifest.json");
  const { data: manifest } = manifestShape.safeParse(readStackFile(file));
  if (manifest === undefined) {
    throw new UsageError("lab-stack", `${file} is no manifest of cdktf: run \`npx cdktf synth\` again`);
  }
  const ordered: string[] = [];
  const place = (name: string, waiting: readonly string[]): void => {
    if (ordered.includes(name)) return;
    if (waiting.includes(name)) {
      const circle = [...waiting.slice(waiting.indexOf(name)), name].join(" → ");
      throw new UsageError("lab-stack", `${file}: the stacks ${circle} wait for each other`);
    }
    for (const dependency of manifest.stacks[name]?.dependencies ?? []) place(dependency, [...waiting, name]);
    ordered.push(name);
  };
  for (const name of Object.keys(manifest.stacks)) place(name, []);
  return ordered.map((name) => ({ name, json: readStackFile(join(out, "stacks", name, "cdk.tf.json")) }));
}

const manifestShape = z.object({
  stacks: z.record(z.string(), z.object({ dependencies: z.array(z.string()).optional() })),
});
