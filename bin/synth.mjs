/**
 * Runs an app of stacks, as `cdktf synth` does: `node bin/synth.mjs [MAIN]`, by default stacks/main.ts.
 *
 * The app is bundled into one file under dist/, with cdktf and what it uses of the provider's bindings, and bundled again when
 * one of its sources has changed. That file runs in a fifth of the time: hundreds of small files need not be found, read and
 * transformed each time.
 */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { writeWhole } from "./files.mjs";
import { isMain, root, say } from "./install.mjs";

const MAIN = "stacks/main.ts";
/** CommonJS packages inside an ES module need what CommonJS has. */
const BANNER = `import { createRequire as __createRequire } from "node:module";
import { dirname as __dirnameOf } from "node:path";
import { fileURLToPath as __pathOf } from "node:url";
const require = __createRequire(import.meta.url), __filename = __pathOf(import.meta.url), __dirname = __dirnameOf(__filename);`;

/** Returns the bundled app's path. It lies one folder below the root, as the sources do that look for files from there. */
export async function bundledApp(main = join(root, MAIN)) {
  const name = relative(root, main)
    .replace(/\.ts$/, "")
    .replaceAll(/[^\w]+/g, "-");
  const file = join(root, "dist", `synth-${name}.mjs`);
  const sources = `${file}.sources`;
  if (existsSync(file) && existsSync(sources)) {
    const { inputs, state } = JSON.parse(readFileSync(sources, "utf8"));
    if (stateOf(inputs) === state) return file;
  }
  const { build } = await import("esbuild");
  const { outputFiles, metafile } = await build({
    ...{ absWorkingDir: root, entryPoints: [main], outfile: file, write: false, metafile: true },
    ...{ bundle: true, platform: "node", format: "esm", target: "node20.19" },
    ...{ banner: { js: BANNER }, logLevel: "silent" },
  });
  const inputs = [...Object.keys(metafile.inputs), "bin/synth.mjs"];
  writeWhole(sources, JSON.stringify({ inputs, state: stateOf(inputs) }));
  writeWhole(file, outputFiles[0].contents);
  return file;
}

function stateOf(inputs) {
  const hash = createHash("sha256");
  for (const input of inputs) {
    const found = statSync(join(root, input), { throwIfNoEntry: false });
    hash.update(`${input} ${found?.mtimeMs} ${found?.size}\n`);
  }
  return hash.digest("hex");
}

if (isMain(import.meta.url)) {
  const [main] = process.argv.slice(2);
  try {
    const file = await bundledApp(main === undefined ? undefined : realpathSync(resolve(main)));
    await import(pathToFileURL(file).href);
  } catch (error) {
    if (error?.code === "ERR_MODULE_NOT_FOUND") say("esbuild is not installed here: run `npm ci` first");
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exitCode = 1;
  }
}
