/** `npm start`: install what is missing, build, and show the lab's demo. The lab runs in this process: signals and exit code are its own. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { tryBuild } from "./build.mjs";
import { ensureInstalled, root, say } from "./install.mjs";

const lab = join(root, "dist/lab/lab.mjs");
if (!ensureInstalled() || (await tryBuild()) === undefined) {
  process.exitCode = 1;
} else if (existsSync(lab)) {
  process.argv = [process.execPath, lab, "demo", ...process.argv.slice(2)];
  await import(pathToFileURL(lab).href);
} else {
  say("lab/main.ts is not in this checkout, so there is nothing to show");
  process.exitCode = 1;
}
