import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/**
 * `test` where the machine has what it takes, `test.skip` where it hasn't; the reason is told at the end of `npm test`.
 *
 * `name` is what is needed ("root", "terraform and its AWS provider"): the word that .ci/allowed-skips uses.
 * `reason` says what is missing and how to get it. With SALLYPORT_REQUIRE=all a skip is a failure.
 */
export function requires(name: string, available: boolean, reason: string): jest.It {
  if (available) return test;
  record(name, reason);
  return test.skip;
}

function record(name: string, reason: string): void {
  const folder = process.env["SALLYPORT_SKIPS"];
  if (folder === undefined) return;
  const file = expect.getState().testPath ?? "";
  mkdirSync(folder, { recursive: true });
  const unique = `${process.pid}-${process.hrtime.bigint()}.json`;
  writeFileSync(join(folder, unique), JSON.stringify({ name, reason, file }));
}
