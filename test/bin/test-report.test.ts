import { readAllowedSkips, readResult, summarize } from "../../bin/test-report.mjs";

const root = "/repo";
const file = "test/lab/a.test.ts";
const pending = [{ file, path: `${root}/${file}`, title: "a packet arrives" }];
const recorded = [{ name: "root", reason: "run it as root", file: `${root}/${file}` }];
const quiet = { passed: 7, failed: 0, pending: [], recorded: [], allowed: [], requireAll: false };

test("the last line is what passed and failed", () => {
  expect(summarize({ ...quiet, failed: 2 })).toEqual({ failed: 2, lines: ["7 passed, 2 failed"] });
});

test("a skip is counted, and its reason stands before the counts", () => {
  expect(summarize({ ...quiet, pending, recorded })).toEqual({
    failed: 0,
    lines: [`skipped: ${file}: root: run it as root`, "7 passed, 0 failed, 1 skipped"],
  });
});

test("the same reason is said once", () => {
  expect(summarize({ ...quiet, pending: [...pending, ...pending], recorded }).lines).toHaveLength(2);
});

test("where everything is required a skip is a failure", () => {
  const { failed, lines } = summarize({ ...quiet, pending, recorded, requireAll: true });
  expect(failed).toBe(1);
  expect(lines.at(-1)).toBe("7 passed, 1 failed");
});

test("unless it stands in .ci/allowed-skips", () => {
  const { failed, lines } = summarize({ ...quiet, pending, recorded, allowed: ["root"], requireAll: true });
  expect(failed).toBe(0);
  expect(lines.at(-1)).toBe("7 passed, 0 failed, 1 skipped");
});

test("a test that is skipped without saying what it lacks is never allowed", () => {
  const { failed, lines } = summarize({ ...quiet, pending, allowed: ["root"], requireAll: true });
  expect(failed).toBe(1);
  expect(lines[0]).toContain("a packet arrives: no reason given");
});

test("nothing run at all is a failure: the arguments match no test", () => {
  expect(summarize({ ...quiet, passed: 0 })).toEqual({
    failed: 1,
    lines: ["no test matched", "0 passed, 1 failed"],
  });
});

test("the list of allowed skips has a name and a reason a line, and comments", () => {
  expect(readAllowedSkips("# name: not this\nroot: no root there\n\nterraform : none\n")).toEqual([
    "root",
    "terraform",
  ]);
});

const jestResult = {
  numPassedTests: 3,
  numFailedTests: 1,
  numRuntimeErrorTestSuites: 1,
  testResults: [
    { name: `${root}/${file}`, assertionResults: [{ status: "pending", fullName: "a packet arrives" }] },
    { name: `${root}/b.test.ts`, assertionResults: [{ status: "passed", fullName: "b" }] },
  ],
};

test("a file that can not be loaded counts as a failed test", () => {
  expect(readResult(jestResult, 1, root)).toEqual({ passed: 3, failed: 2, pending });
});

test("a jest that fails for another reason counts as a failure", () => {
  const clean = { ...jestResult, numFailedTests: 0, numRuntimeErrorTestSuites: 0 };
  expect(readResult(clean, 1, root).failed).toBe(1);
  expect(readResult(clean, 0, root).failed).toBe(0);
});
