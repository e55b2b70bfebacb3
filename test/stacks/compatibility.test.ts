import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";
import { requires } from "../skip.ts";
import { APPS } from "./apps.ts";

/** cdktf's living fork. */
const FORK = "cdktn@0.24.0";

const root = join(__dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "sallyport-fork-"));
const bundles = join(folder, "bundles");
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const packed = spawnSync("npm", ["pack", FORK, "--silent", "--pack-destination", folder], {
  encoding: "utf8",
});
const withFork = requires(
  "npm-registry",
  packed.status === 0,
  `npm can not fetch ${FORK}: is the registry reachable?`,
);

/** The fork's folder: what npm would put in cdktf's place, for us and for the provider's bindings. */
function unpackFork(): string {
  const [archive = ""] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  spawnSync("tar", ["-xzf", join(folder, archive), "-C", folder]);
  return join(folder, "package");
}

/** The app as one file with everything in it. */
async function bundle(main: string, name: string, alias: Record<string, string>): Promise<string> {
  const outfile = join(bundles, `${name}.mjs`);
  const banner = `import { createRequire as __require_ } from "node:module";
const require = __require_(${JSON.stringify(`${root}/dist/app.mjs`)}), __dirname = ${JSON.stringify(bundles)};`;
  await build({
    ...{ entryPoints: [join(root, main)], outfile, bundle: true, platform: "node", format: "esm", alias },
    ...{ banner: { js: banner }, nodePaths: [join(root, "node_modules")], logLevel: "error" },
    define: { "import.meta.url": JSON.stringify(`file://${root}/dist/app.mjs`) },
  });
  return outfile;
}

function synthesize(app: string, config: object): Map<string, unknown> {
  const work = mkdtempSync(join(folder, "work-"));
  const agent = { file: __filename };
  writeFileSync(join(work, "sallyport.config.json"), JSON.stringify({ agent, ...config }));
  const { status, stderr } = spawnSync(process.execPath, [app], {
    cwd: work,
    encoding: "utf8",
    env: {
      PATH: process.env["PATH"] ?? "",
      CDKTF_OUTDIR: join(work, "out"),
      SALLYPORT_AGENT_BUNDLE: __filename,
    },
  });
  if (status !== 0) throw new Error(stderr);
  const stacks = new Map<string, unknown>();
  for (const id of readdirSync(join(work, "out/stacks"))) {
    const text = readFileSync(join(work, "out/stacks", id, "cdk.tf.json"), "utf8").replaceAll(work, "WORK");
    const json = JSON.parse(text) as { "//": { metadata: { version: string } } };
    json["//"].metadata.version = "any";
    stacks.set(id, json);
  }
  return stacks;
}

withFork(
  "the fork synthesizes the same stacks and examples, but for its own version",
  async () => {
    const fork = unpackFork();
    for (const [i, main] of [...new Set(APPS.map((app) => app.main))].entries()) {
      const ours = await bundle(main, `ours-${i}`, {});
      const theirs = await bundle(main, `theirs-${i}`, { cdktf: fork });
      expect(readFileSync(theirs, "utf8")).toContain("cdktn");
      for (const { what, config = {} } of APPS.filter((app) => app.main === main)) {
        const [expected, stacks] = [synthesize(ours, config), synthesize(theirs, config)];
        expect({ what, stacks: [...stacks] }).toEqual({ what, stacks: [...expected] });
        expect(expected.size).toBeGreaterThan(0);
      }
    }
  },
  300_000,
);
