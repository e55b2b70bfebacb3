/** What `npm test` says at its end, from what jest counted and what `requires` (test/skip.ts) recorded. */
import { relative } from "node:path";

/**
 * The numbers of one jest run. A file that can not even be loaded counts as one failed test, and so does a jest that
 * fails for another reason.
 */
export function readResult(result, exitCode, root) {
  const failed = result.numFailedTests + result.numRuntimeErrorTestSuites;
  return {
    passed: result.numPassedTests,
    failed: failed === 0 && exitCode !== 0 ? 1 : failed,
    pending: result.testResults.flatMap(({ name, assertionResults }) =>
      assertionResults
        .filter(({ status }) => ["pending", "todo", "disabled"].includes(status))
        .map(({ fullName }) => ({ file: relative(root, name), path: name, title: fullName })),
    ),
  };
}

/** Lines of `name: reason`; # opens a comment. Returns the names. */
export function readAllowedSkips(text) {
  return text
    .split("\n")
    .filter((line) => line.includes(":") && !line.startsWith("#"))
    .map((line) => line.slice(0, line.indexOf(":")).trim());
}

/** Returns the lines to print, the last of them the counts, and how many failed. */
export function summarize({ passed, failed, pending, recorded, allowed, requireAll }) {
  if (passed + failed + pending.length === 0)
    return { failed: 1, lines: ["no test matched", "0 passed, 1 failed"] };
  const skips = pending.map((test) => describeSkip(test, recorded, allowed));
  const refused = requireAll ? skips.filter((skip) => !skip.allowed) : [];
  const tolerated = skips.filter((skip) => !refused.includes(skip));
  const failures = failed + refused.length;
  const counts = `${passed} passed, ${failures} failed`;
  return {
    failed: failures,
    lines: [
      ...new Set(tolerated.map(({ text }) => `skipped: ${text}`)),
      ...new Set(refused.map(({ text }) => `failed, since SALLYPORT_REQUIRE=all allows no skip: ${text}`)),
      tolerated.length > 0 ? `${counts}, ${tolerated.length} skipped` : counts,
    ],
  };
}

/** Skips are recorded by file, since what a test lacks is known before its title is. */
function describeSkip({ file, path, title }, recorded, allowed) {
  const reasons = recorded.filter((skip) => skip.file === path);
  const words = [...new Set(reasons.map(({ name, reason }) => `${name}: ${reason}`))];
  return {
    text: words.length > 0 ? `${file}: ${words.join("; ")}` : `${file}: ${title}: no reason given`,
    allowed: reasons.length > 0 && reasons.every(({ name }) => allowed.includes(name)),
  };
}
