/** Plays a scenario in a lab of its own and says, step by step, what came true. */
import { relative, resolve } from "node:path";
import { UsageError } from "../../agent/src/base/errors.ts";
import { labArchive } from "../archive.ts";
import type { StackSource } from "../documents.ts";
import { failuresOf, keepLogs } from "../failure.ts";
import { openCloud } from "../open-cloud.ts";
import { Session, type SessionOptions } from "../session.ts";
import { readStackFile, synthesizeApp } from "../synthesis.ts";
import { Captures } from "./captures.ts";
import { type Scenario, worldOf } from "./scenario.ts";
import { type StepResult, Steps } from "./steps.ts";

export interface RunOptions {
  /** The package's folder. */
  readonly root: string;
  readonly agent: string;
  readonly self: readonly string[];
  readonly say: (line: string) => void;
}

export interface ScenarioResult {
  readonly name: string;
  readonly ok: boolean;
  readonly steps: readonly StepResult[];
  /** From the first namespace until all hosts had joined. */
  readonly builtMs: number;
  readonly tookMs: number;
  /** Where logs and captures lie; undefined when all was well. */
  readonly kept: string | undefined;
}

/** @throws SallyportError where the lab can't be built */
export async function runScenario(scenario: Scenario, options: RunOptions): Promise<ScenarioResult> {
  const started = performance.now();
  const session = await openScenario(scenario, options, () => {});
  const builtMs = performance.now() - started;
  const captures = new Captures(session.lab);
  let kept: string | undefined;
  try {
    const results = await new Steps(session, options.say).run(scenario.steps);
    const ok = results.every((step) => step.ok);
    await captures.stop();
    if (!ok) {
      kept = failuresOf(options.root, scenario.name);
      keepLogs(session.lab.folder, kept);
    }
    return { name: scenario.name, ok, steps: results, builtMs, tookMs: performance.now() - started, kept };
  } finally {
    await captures.stop();
    await session.close();
  }
}

/** The lab of a scenario, before its first step. */
export async function openScenario(
  scenario: Scenario,
  options: RunOptions & Pick<SessionOptions, "name" | "onChange">,
  onLeftovers: (ids: readonly string[]) => void,
): Promise<Session> {
  const { root, agent, self, say } = options;
  const sources = await sourcesOf(scenario, options);
  const cloud = openCloud(sources, {
    ...(scenario.leaveOut === undefined ? {} : { leaveOut: scenario.leaveOut }),
    ...(scenario.existing === undefined ? {} : { existing: scenario.existing }),
    objectFile: (_bucket, _key, source) => (source === undefined ? "" : resolve(root, source)),
  });
  const { store, names } = scenario;
  const keepLogsIn = failuresOf(root, options.name ?? scenario.name);
  return Session.open({
    ...{ cloud, world: worldOf(scenario), agent, self, store, names, say, onLeftovers, keepLogsIn },
    ...(options.name === undefined ? {} : { name: options.name }),
    ...(options.onChange === undefined ? {} : { onChange: options.onChange }),
  });
}

async function sourcesOf(
  { stacks, folder }: Scenario,
  { root, agent }: Pick<RunOptions, "root" | "agent">,
): Promise<readonly StackSource[]> {
  if ("files" in stacks) {
    return stacks.files.map((file) => ({
      name: nameOfFile(file),
      json: readStackFile(resolve(folder, file)),
    }));
  }
  const archive = await labArchive(root, agent);
  const app = relative(root, resolve(folder, stacks.app));
  const all = await synthesizeApp({ root, app, config: stacks.config ?? {}, archive });
  const missing = stacks.only?.find((name) => !all.some((one) => one.name === name));
  if (missing !== undefined) {
    const there = all.map(({ name }) => name).join(", ");
    throw new UsageError("lab-scenario", `${stacks.app} has no stack ${missing}; there are ${there}`);
  }
  return all.filter(({ name }) => stacks.only?.includes(name) ?? true);
}

/** cdktf writes STACK/cdk.tf.json. */
export function nameOfFile(file: string): string {
  const parts = file.split("/");
  const own = (parts.at(-1) ?? file).replace(/\.json$/, "");
  return own === "cdk.tf" ? (parts.at(-2) ?? own) : own;
}
