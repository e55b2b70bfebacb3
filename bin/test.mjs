/**
 * `npm test`: install what is missing, build, then run the tests: the quick ones side by side, then those that own
 * namespaces and processes one after the other. `npm test -- ARGS` hands ARGS to jest.
 *
 * The last line is `N passed, N failed`, with `, N skipped` where some were; the reasons stand above it. With
 * SALLYPORT_REQUIRE=all a skip is a failure, unless .ci/allowed-skips names what it needs.
 */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { tryBuild } from "./build.mjs";
import { ensureInstalled, root, say } from "./install.mjs";
import { readAllowedSkips, readResult, summarize } from "./test-report.mjs";

const jestArgs = process.argv.slice(2);
const PASSED = { passed: 1, failed: 0, pending: [] };
const FAILED = { passed: 0, failed: 1, pending: [] };

const work = mkdtempSync(join(tmpdir(), "sallyport-test-"));
const skips = join(work, "skips");
const allowedSkips = join(root, ".ci/allowed-skips");
const vectorReads = join(work, "vector-reads");

try {
  const { failed } = report(ensureInstalled() ? await runAll() : [FAILED]);
  process.exitCode = failed === 0 ? 0 : 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

async function runAll() {
  const built = (await tryBuild()) !== undefined; // the tests that need no bundle still say what they know
  return [
    ...(built ? [] : [FAILED]),
    runJest("quick", "--maxWorkers=2"),
    runJest("real", "--runInBand"),
    ...(jestArgs.length === 0 ? [checkVectors()] : []),
  ];
}

function runJest(project, workers) {
  const outputFile = join(work, `${project}.json`);
  const jest = join(root, "node_modules/jest/bin/jest.js");
  const quiet = ["--passWithNoTests", "--json", `--outputFile=${outputFile}`];
  mkdirSync(skips, { recursive: true });
  mkdirSync(vectorReads, { recursive: true });
  const { status, signal } = spawnSync(
    process.execPath,
    [jest, "--selectProjects", project, workers, ...quiet, ...jestArgs],
    {
      cwd: root,
      stdio: ["inherit", "ignore", "inherit"], // what jest tells people goes to stderr; stdout repeats the JSON
      env: { ...process.env, SALLYPORT_SKIPS: skips, SALLYPORT_VECTOR_READS: vectorReads },
    },
  );
  if (!existsSync(outputFile)) {
    const ending = signal === null ? `ended with exit code ${status}` : `was ended by ${signal}`;
    say(`jest ${ending} before it had a result for the ${project} tests`);
    return FAILED;
  }
  return readResult(JSON.parse(readFileSync(outputFile, "utf8")), status, root);
}

/** Fails for any published case that no test has read. */
function checkVectors() {
  const check = join(root, "test/vectors/check.mjs");
  const { status } = spawnSync(process.execPath, [check, vectorReads], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  return status === 0 ? PASSED : FAILED;
}

function report(runs) {
  const { lines, failed } = summarize({
    passed: sum(runs.map((run) => run.passed)),
    failed: sum(runs.map((run) => run.failed)),
    pending: runs.flatMap((run) => run.pending),
    recorded: readdirOf(skips).map((name) => JSON.parse(readFileSync(join(skips, name), "utf8"))),
    allowed: readAllowedSkips(existsSync(allowedSkips) ? readFileSync(allowedSkips, "utf8") : ""),
    requireAll: process.env.SALLYPORT_REQUIRE === "all",
  });
  for (const line of lines) process.stdout.write(`${line}\n`);
  return { failed };
}

function readdirOf(folder) {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}
