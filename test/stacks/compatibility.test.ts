import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { APPS } from "./apps.ts";

/** cdktf's living fork. */
const FORK = "cdktn@0.24.0";

const root = join(__dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "sallyport-fork-"));
afterAll(() => rmSync(folder, { recursive: true }));

const packed = spawnSync("npm", ["pack", FORK, "--silent", "--pack-destination", folder], {
  encoding: "utf8",
});
const withFork = requires(
  "npm-registry",
  packed.status === 0,
  `npm can not fetch ${FORK}: is the registry reachable?`,
);

/** This repository, but with the fork in cdktf's place: for the constructs and for the provider's bindings. */
function repositoryWithFork(): string {
  const repository = join(folder, "repository");
  const modules = join(repository, "node_modules");
  mkdirSync(modules, { recursive: true });
  for (const name of readdirSync(join(root, "node_modules"))) {
    if (name !== "cdktf") symlinkSync(join(root, "node_modules", name), join(modules, name));
  }
  const [archive = ""] = readdirSync(folder).filter((name) => name.endsWith(".tgz"));
  spawnSync("tar", ["-xzf", join(folder, archive), "-C", modules]);
  spawnSync("mv", [join(modules, "package"), join(modules, "cdktf")]);
  for (const name of ["constructs", "stacks", "bin", "dist", "examples", "package.json"]) {
    symlinkSync(join(root, name), join(repository, name));
  }
  return repository;
}

function synthesize(repository: string, main: string, config: object, flags: string): Map<string, unknown> {
  const work = mkdtempSync(join(folder, "work-"));
  const out = join(folder, "out");
  writeFileSync(
    join(work, "sallyport.config.json"),
    JSON.stringify({ agent: { file: __filename }, ...config }),
  );
  symlinkSync(join(repository, "node_modules"), join(work, "node_modules"));
  const { status, stderr } = spawnSync(process.execPath, ["--import", "tsx", join(repository, main)], {
    cwd: work,
    encoding: "utf8",
    env: { PATH: process.env["PATH"] ?? "", NODE_OPTIONS: flags, CDKTF_OUTDIR: out },
  });
  if (status !== 0) throw new Error(stderr);
  const stacks = new Map<string, unknown>();
  for (const id of readdirSync(join(out, "stacks"))) {
    const json = JSON.parse(
      readFileSync(join(out, "stacks", id, "cdk.tf.json"), "utf8")
        .replaceAll(work, "WORK")
        .replaceAll(join(repository, "dist"), "DIST"),
    ) as { "//": { metadata: { version: string } } };
    json["//"].metadata.version = "any";
    stacks.set(id, json);
  }
  rmSync(out, { recursive: true });
  return stacks;
}

withFork(
  "the fork synthesizes the same stacks and examples, but for its own version",
  () => {
    const repository = repositoryWithFork();
    for (const { what, main, config = {} } of APPS) {
      const ours = synthesize(root, main, config, "");
      const theirs = synthesize(repository, main, config, "--preserve-symlinks --preserve-symlinks-main");
      expect({ what, stacks: [...theirs] }).toEqual({ what, stacks: [...ours] });
    }
  },
  300_000,
);
