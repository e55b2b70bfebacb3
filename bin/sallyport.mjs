#!/usr/bin/env node
/** The package's command: `sallyport lab …` is the lab, anything else the agent. A checkout builds what is not built yet. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { ensureInstalled, root, say } from "./install.mjs";

const [first, ...rest] = process.argv.slice(2);
const isLab = first === "lab";
const bundle = join(root, isLab ? "dist/lab/lab.mjs" : "dist/agent/sallyport.mjs");

if (!existsSync(bundle) && existsSync(join(root, "agent/src/main.ts"))) {
  say("building, since dist/ is not there yet");
  const { tryBuild } = await import("./build.mjs");
  if (ensureInstalled()) await tryBuild();
}
if (existsSync(bundle)) {
  process.argv = [process.execPath, bundle, ...(isLab ? rest : process.argv.slice(2))];
  await import(pathToFileURL(bundle).href);
} else {
  say(`${bundle} is not there: in a checkout, npm run build says why; otherwise install the package anew`);
  process.exitCode = 1;
}
