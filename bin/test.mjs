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
import { join, relative } from "node:path";
import { tryBuild } from "./build.mjs";
import { ensureInstalled, root } from "./install.mjs";

const jestArgs = process.argv.slice(2);
const work = mkdtempSync(join(tmpdir(), "sallyport-test-"));
const skips = join(work, "skips");
const vectorReads = join(work, "vector-reads");

try {
  ensureInstalled();
  const runs = [
    await buildFirst(),
    runJest("quick", "--maxWorkers=2"),
    runJest("real", "--runInBand"),
    ...(jestArgs.length === 0 ? [checkVectors()] : []),
  ];
  const total = report(runs);
  process.exitCode = total.failed === 0 ? 0 : 1;
} finally {
  rmSync(work, { recursive: true, force: true });
}

/** The tests that need no bundle still say what they know. */
async function buildFirst() {
  const built = await tryBuild();
  return { passed: 0, failed: built === undefined ? 1 : 0, pending: [] };
}

function runJest(project, workers) {
  const outputFile = join(work, `${project}.json`);
  const args = [
    "--selectProjects",
    project,
    workers,
    "--passWithNoTests",
    "--json",
    `--outputFile=${outputFile}`,
  ];
  mkdirSync(skips, { recursive: true });
  mkdirSync(vectorReads, { recursive: true });
  const { status, signal } = spawnSync(
    process.execPath,
    [join(root, "node_modules/jest/bin/jest.js"), ...args, ...jestArgs],
    {
      cwd: root,
      stdio: ["inherit", "ignore", "inherit"], // what jest tells people goes to stderr; stdout repeats the JSON
      env: { ...process.env, SALLYPORT_SKIPS: skips, SALLYPORT_VECTOR_READS: vectorReads },
    },
  );
  if (!existsSync(outputFile)) {
    const ending = signal === null ? `ended with exit code ${status}` : `was ended by ${signal}`;
    print(`jest ${ending} before it had a result for the ${project} tests`);
    return { passed: 0, failed: 1, pending: [] };
  }
  return readResult(JSON.parse(readFileSync(outputFile, "utf8")), status);
}

/** A file that can not even be loaded counts as one failed test, and so does a jest that fails for another reason. */
function readResult(result, status) {
  const pending = result.testResults.flatMap(({ name, assertionResults }) =>
    assertionResults
      .filter((test) => ["pending", "todo", "disabled"].includes(test.status))
      .map((test) => ({ file: name, title: test.fullName })),
  );
  const failed = result.numFailedTests + result.numRuntimeErrorTestSuites;
  const failedOtherwise = failed === 0 && status !== 0 ? 1 : 0;
  return { passed: result.numPassedTests, failed: failed + failedOtherwise, pending };
}

/** Fails for any published case that no test has read. */
function checkVectors() {
  const check = join(root, "test/vectors/check.mjs");
  if (!existsSync(check)) return { passed: 0, failed: 0, pending: [] };
  const { status } = spawnSync(process.execPath, [check, vectorReads], {
    cwd: root,
    stdio: ["ignore", 2, 2],
  });
  return { passed: status === 0 ? 1 : 0, failed: status === 0 ? 0 : 1, pending: [] };
}

function report(runs) {
  const passed = sum(runs.map((run) => run.passed));
  const skipped = describeSkips(runs.flatMap((run) => run.pending));
  const refused = process.env.SALLYPORT_REQUIRE === "all" ? skipped.filter((skip) => !skip.allowed) : [];
  const tolerated = skipped.filter((skip) => !refused.includes(skip));
  const failed = sum(runs.map((run) => run.failed)) + refused.length;
  if (skipped.length > 0) print("");
  for (const line of new Set(tolerated.map(({ text }) => text))) print(`skipped: ${line}`);
  for (const line of new Set(refused.map(({ text }) => text))) {
    print(`failed, since SALLYPORT_REQUIRE=all allows no skip: ${line}`);
  }
  if (passed + failed + skipped.length > 0) return end(passed, failed, tolerated.length);
  print(`no test matches ${jestArgs.join(" ")}`);
  return end(0, 1, 0);
}

/** One entry for each skipped test, with what `requires` (test/skip.ts) recorded about its file. */
function describeSkips(pending) {
  const recorded = readdirOf(skips).map((name) => JSON.parse(readFileSync(join(skips, name), "utf8")));
  const allowed = allowedSkips();
  return pending.map(({ file, title }) => {
    const reasons = recorded.filter((skip) => skip.file === file);
    const where = relative(root, file);
    const words = [...new Set(reasons.map(({ name, reason }) => `${name}: ${reason}`))];
    return {
      text: words.length > 0 ? `${where}: ${words.join("; ")}` : `${where}: ${title}: no reason given`,
      allowed: reasons.length > 0 && reasons.every(({ name }) => allowed.includes(name)),
    };
  });
}

/** Lines of `name: reason`; # opens a comment. */
function allowedSkips() {
  const file = join(root, ".ci/allowed-skips");
  if (!existsSync(file)) return [];
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line.includes(":") && !line.startsWith("#"))
    .map((line) => line.slice(0, line.indexOf(":")).trim());
}

function end(passed, failed, skipped) {
  print(`${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
  return { failed };
}

function readdirOf(folder) {
  return existsSync(folder) ? readdirSync(folder) : [];
}

function sum(numbers) {
  return numbers.reduce((total, number) => total + number, 0);
}

function print(line) {
  process.stdout.write(`${line}\n`);
}
