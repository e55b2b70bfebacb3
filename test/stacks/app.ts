import { spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Synthesized } from "../constructs/synthesized.ts";

const root = join(__dirname, "../..");
const synth = join(root, "bin/synth.mjs");

export interface Run {
  readonly status: number | null;
  readonly stderr: string;
  readonly stacks: Readonly<Record<string, Synthesized>>;
}

export interface AppOptions {
  /** The content of sallyport.config.json. */
  readonly config?: string;
  /** The context "sallyport". */
  readonly context?: Readonly<Record<string, unknown>>;
  readonly env?: Readonly<Record<string, string>>;
}

/** Any file can be an archive: only its hash matters until an instance fetches it. */
const agent = { file: __filename };

/** Runs the app as cdktf does, in `folder`, and reads what it wrote. */
export function runApp(main: string, folder: string, options: AppOptions = {}): Run {
  if (options.config !== undefined) writeFileSync(join(folder, "sallyport.config.json"), options.config);
  const { status, stderr } = spawnSync(process.execPath, [synth, join(root, main)], {
    cwd: folder,
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"] ?? "",
      SALLYPORT_AGENT_BUNDLE: __filename,
      CDKTF_OUTDIR: join(folder, "cdktf.out"),
      CDKTF_CONTEXT_JSON: JSON.stringify({ sallyport: { agent, ...options.context } }),
      ...options.env,
    },
  });
  return { status, stderr, stacks: readStacks(join(folder, "cdktf.out/stacks")) };
}

function readStacks(folder: string): Run["stacks"] {
  if (!existsSync(folder)) return {};
  const read = (id: string) => new Synthesized(readFileSync(join(folder, id, "cdk.tf.json"), "utf8"));
  return Object.fromEntries(readdirSync(folder).map((id) => [id, read(id)]));
}
