/** `lab test`: plays scenarios one after the other and says in a table how each went. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { OperationError, UsageError } from "../../agent/src/base/errors.ts";
import { BuildFailure } from "../failure.ts";
import { whatIsMissing } from "../lab.ts";
import { runScenario, type RunOptions, type ScenarioResult } from "../scenario/run.ts";
import { readScenario } from "../scenario/scenario.ts";

/** @param files scenarios or folders; none for all of lab/scenarios and examples. @throws SallyportError */
export async function test(files: readonly string[], options: RunOptions): Promise<number> {
  const missing = await whatIsMissing();
  if (missing !== undefined)
    throw new OperationError("lab-unavailable", `no lab can be built here: ${missing}`);
  const found = files.length === 0 ? allScenarios(options.root) : files.flatMap(scenariosIn);
  // All are read before the first is played: a mistake in the last must not cost the time of the others.
  const scenarios = found.map(readScenario);
  const results: ScenarioResult[] = [];
  for (const scenario of scenarios) {
    options.say(`\n${scenario.name}: ${scenario.about}`);
    results.push(await played(scenario, options));
  }
  for (const line of table(results)) options.say(line);
  return results.every(({ ok }) => ok) ? 0 : 1;
}

async function played(
  scenario: ReturnType<typeof readScenario>,
  options: RunOptions,
): Promise<ScenarioResult> {
  const start = performance.now();
  try {
    return await runScenario(scenario, options);
  } catch (error) {
    const said = error instanceof Error ? error.message : String(error);
    options.say(`  ✗ ${said}`);
    const tookMs = performance.now() - start;
    const kept = error instanceof BuildFailure ? error.kept : undefined;
    return { name: scenario.name, ok: false, steps: [], builtMs: tookMs, tookMs, kept };
  }
}

function table(results: readonly ScenarioResult[]): readonly string[] {
  const width = Math.max(...results.map(({ name }) => name.length), 8);
  return [
    "",
    `${"scenario".padEnd(width)}  result  built    took`,
    ...results.map(({ name, ok, builtMs, tookMs, kept }) => {
      const times = [builtMs, tookMs].map((ms) => `${(ms / 1000).toFixed(1)} s`.padStart(7)).join(" ");
      const where = kept === undefined ? "" : `  kept: ${kept}`;
      return `${name.padEnd(width)}  ${ok ? "ok    " : "FAILED"} ${times}${where}`;
    }),
  ];
}

/** Those of the lab, and of the examples. */
export function allScenarios(root: string): readonly string[] {
  const examples = join(root, "examples");
  return [
    ...scenariosIn(join(root, "lab/scenarios")),
    ...readdirSync(examples)
      .map((name) => join(examples, name))
      .filter((path) => statSync(path).isDirectory())
      .flatMap(scenariosIn),
  ];
}

function scenariosIn(path: string): readonly string[] {
  if (!existsSync(path)) throw new UsageError("lab-scenario", `${path} is not there`);
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .filter((name) => name.endsWith(".lab.yaml"))
    .sort()
    .map((name) => join(path, name));
}
