import { run } from "./run.ts";

test.each([
  [["--region", "Frankfurt"], "--region is no AWS region"],
  [["--region", "eu-central-1.evil.example/"], "--region is no AWS region"],
  [["--region", "eu-central-1", "--all-regions"], "not both"],
  [["--fail-on", "sad"], "--fail-on takes relayed, unhealthy, stale"],
  [["--region", "eu-central-1", "--watch", "--interval", "1s"], "--interval is too short"],
  [["--interval", "often"], "give a duration"],
])("fleet %j is refused with the remedy", async (args, text) => {
  const { code, stderr, stdout } = await run(["fleet", ...args]);
  expect(code).toBe(2);
  expect(stderr).toContain(text);
  expect(stdout).toBe("");
});
