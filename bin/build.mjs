/**
 * Makes dist/: what runs without the sources and without node_modules.
 *
 *   dist/agent/sallyport.mjs   the agent and the commands, one file; the thread that moves packets is a text in it
 *   dist/agent/apart/*.mjs     packages that are big and seldom needed, which it loads when it needs them
 *   dist/agent/koffi.node      the native half of koffi for this machine, which the agent loads from its own folder
 *   dist/agent/SHA256SUMS      for `sha256sum --check`
 *   dist/lab/                  the lab, likewise; it never goes to an instance
 */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { AWS_MAIN_FIELDS, awsTables } from "./aws-tables.mjs";
import { writeWhole } from "./files.mjs";
import { ensureInstalled, isMain, root, say } from "./install.mjs";

const AGENT_PROGRAM = "sallyport.mjs";
const AGENT = { entry: "agent/src/main.ts", outfile: `dist/agent/${AGENT_PROGRAM}` };
/** The thread of the data plane: the agent's bundle holds its program and starts it (agent/src/dataplane/host.ts). */
const DATAPLANE = "agent/src/dataplane/worker.ts";
/** A text in the bundle, too. */
const FLEET_PAGE = "agent/src/io/fleet-page.html";
/** Each file of it becomes a file of its own. */
const APART = "agent/src/io/apart";
const LAB = { entry: "lab/main.ts", outfile: "dist/lab/lab.mjs" };

/** CommonJS packages inside an ES module need a `require` for Node's own modules. */
const BANNER = `import { createRequire as __createRequire } from "node:module";
const require = __createRequire(import.meta.url);`;

/** Builds what has its entry. Returns the files made, as paths from the root; undefined after saying what stopped it. */
export async function tryBuild() {
  try {
    return await build();
  } catch (error) {
    say(`the build failed: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

async function build() {
  const made = [];
  for (const part of [AGENT, LAB].filter(({ entry }) => existsSync(join(root, entry)))) {
    const into = dirname(part.outfile);
    const programs =
      part === AGENT ? await bundleAgent() : { [basename(part.outfile)]: await bundleText(part) };
    for (const [name, text] of Object.entries(programs)) writeWhole(join(root, into, name), text);
    const files = [...Object.keys(programs).map((name) => join(into, name)), copyKoffi(into)].filter(
      (file) => file !== undefined,
    );
    made.push(...files, writeSums(into, files));
  }
  return made;
}

/** The agent's program alone, for any machine: name → content, first the one that is run. */
export async function bundleAgent() {
  const programs = { [AGENT_PROGRAM]: await bundleText(AGENT) };
  for (const name of readdirSync(join(root, APART)).sort()) {
    const entryPoints = [join(APART, name)];
    const content = await compile({
      ...{ entryPoints, format: "esm", banner: { js: BANNER } },
      ...{ mainFields: AWS_MAIN_FIELDS, plugins: [leaveApart, awsTables] },
    });
    programs[`apart/${name.replace(/\.ts$/, ".mjs")}`] = content;
  }
  return programs;
}

async function bundleText({ entry }) {
  const texts = { SALLYPORT_DATAPLANE_PROGRAM: workerProgram, SALLYPORT_FLEET_PAGE: fleetPage };
  const define = {};
  if (entry === AGENT.entry)
    for (const [name, text] of Object.entries(texts)) define[name] = JSON.stringify(await text());
  return await compile({ entryPoints: [entry], format: "esm", banner: { js: BANNER }, define });
}

function fleetPage() {
  return readFileSync(join(root, FLEET_PAGE), "utf8");
}

/** A worker that starts from a text is no module: it is told where the agent's bundle lies, to find koffi beside it. */
async function workerProgram() {
  const define = { "import.meta.url": "__bundleUrl" };
  const banner = { js: 'const __bundleUrl = require("node:worker_threads").workerData.bundleUrl;' };
  const code = await compile({ entryPoints: [DATAPLANE], format: "cjs", banner, define });
  return Buffer.from(code).toString("utf8");
}

async function compile(options) {
  const { build: esbuild } = await import("esbuild");
  const { outputFiles } = await esbuild({
    absWorkingDir: root,
    bundle: true,
    platform: "node",
    target: "node20.19",
    // Names stay, for stack traces. Without comments the file is ASCII, which takes V8 half the memory and less time.
    minifyWhitespace: true,
    minifySyntax: true,
    charset: "ascii",
    legalComments: "eof",
    logLevel: "silent", // the error that is thrown says it all
    write: false,
    outfile: "bundle.js", // never written
    plugins: [leaveApart],
    ...options,
  });
  return outputFiles[0].contents;
}

/** `import("./apart/x.ts")` loads apart/x.mjs from beside the bundle. */
const leaveApart = {
  name: "leave-apart",
  setup(build) {
    build.onResolve({ filter: /\/apart\/[\w-]+\.ts$/ }, ({ path, kind, importer }) => {
      const name = basename(path, ".ts");
      if (kind === "dynamic-import") return { path: `./apart/${name}.mjs`, external: true };
      return kind === "entry-point"
        ? undefined
        : { errors: [{ text: `${importer} imports ${path} at once: load it by import()` }] };
    });
  },
};

/** The koffi package for this platform, C library and processor; undefined where koffi has none: the agent goes without. */
function copyKoffi(into) {
  const platform = `${process.platform}-${process.arch}`;
  const folder = join(root, "node_modules/@koromix", `koffi-${platform}`);
  if (!existsSync(folder)) {
    say(`koffi has no native file for ${platform} here: the agent will run without TUN and the fast path`);
    return undefined;
  }
  const musl =
    process.platform === "linux" && process.report.getReport().header.glibcVersionRuntime === undefined;
  const files = readdirSync(folder, { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith("koffi.node"))
    .sort();
  const fitting = files.find((name) => name.startsWith("musl") === musl);
  if (fitting === undefined)
    throw new Error(`${relative(root, folder)} holds no koffi.node for this C library`);
  const outfile = join(into, "koffi.node");
  writeWhole(join(root, outfile), readFileSync(join(folder, fitting)));
  return outfile;
}

function writeSums(folder, files) {
  const outfile = join(folder, "SHA256SUMS");
  writeWhole(
    join(root, outfile),
    files.map((file) => `${sha256(file)}  ${relative(folder, file)}\n`).join(""),
  );
  return outfile;
}

function sha256(file) {
  return createHash("sha256")
    .update(readFileSync(join(root, file)))
    .digest("hex");
}

if (isMain(import.meta.url)) {
  process.stdout.on("error", () => process.exit()); // `| head` has seen enough
  const made = ensureInstalled() ? await tryBuild() : undefined;
  if (made === undefined) process.exitCode = 1;
  for (const file of made ?? []) {
    const size = (readFileSync(join(root, file)).length / 1024).toFixed(1);
    process.stdout.write(`${size.padStart(9)} KiB  ${sha256(file).slice(0, 16)}…  ${file}\n`);
  }
}
