/**
 * Sends hostile packets through the data plane: `npm run fuzz:dataplane -- --packets 10000000 [--seed 1]`.
 *
 * It is the test of the same name, run for longer; it says how far it is every ten seconds.
 */
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./install.mjs";

const { values } = parseArgs({
  options: {
    packets: { type: "string", default: process.env.SALLYPORT_FUZZ_PACKETS ?? "1000000" },
    seed: { type: "string", default: process.env.SALLYPORT_FUZZ_SEED ?? "1" },
  },
});
const jest = join(createRequire(import.meta.url).resolve("jest"), "../../bin/jest.js");
const { status } = spawnSync(
  process.execPath,
  [jest, "--runTestsByPath", "test/agent/dataplane/fuzz.test.ts"],
  {
    cwd: root,
    stdio: "inherit",
    env: { ...process.env, SALLYPORT_FUZZ_PACKETS: values.packets, SALLYPORT_FUZZ_SEED: values.seed },
  },
);
process.exitCode = status ?? 1;
