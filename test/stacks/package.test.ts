import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  lstatSync,
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

const root = join(__dirname, "../..");
const folder = mkdtempSync(join(tmpdir(), "sallyport-package-"));
afterAll(() => rmSync(folder, { recursive: true }));

/** What the package leaves to whoever uses it. */
const PEERS = [
  "cdktf",
  "constructs",
  "@cdktf",
  "tsx",
  "esbuild",
  "@esbuild",
  "get-tsconfig",
  "resolve-pkg-maps",
];

/** As somebody has them who has just cloned: without what was built, and with what npm installed. */
const clone = join(folder, "clone");
const NOT_CLONED = ["node_modules", "dist", ".git", "cdktf.out", "coverage", ".cache"].map((name) =>
  join(root, name),
);
cpSync(root, clone, { recursive: true, filter: (path) => !NOT_CLONED.includes(path) });
symlinkSync(join(root, "node_modules"), join(clone, "node_modules"));

const packed = spawnSync("npm", ["pack", "--silent", "--pack-destination", folder], {
  cwd: clone,
  encoding: "utf8",
});
const archive = readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "";
/** The peers are large and here already; everything else is npm's to bring. */
const FLAGS = [
  "--legacy-peer-deps",
  "--ignore-scripts",
  "--no-audit",
  "--no-fund",
  "--prefer-offline",
  "--silent",
];
writeFileSync(
  join(folder, "package.json"),
  '{"name":"yours","version":"1.0.0","type":"module","private":true}',
);
const installed = spawnSync("npm", ["install", ...FLAGS, join(folder, archive)], {
  cwd: folder,
  encoding: "utf8",
});
const withRegistry = requires(
  "npm-registry",
  installed.status === 0,
  `npm can not install what the package needs: ${installed.stderr}`,
);

test("packed from a clean clone it holds what is built: the agent, which `bundle` needs, and the lab", () => {
  expect({ status: packed.status, stderr: packed.stderr }).toMatchObject({ status: 0 });
  expect(archive).toMatch(/^sallyport-.*\.tgz$/);
  const { stdout } = spawnSync("tar", ["-tzf", join(folder, archive)], { encoding: "utf8" });
  const names = stdout.split("\n");
  for (const name of ["dist/agent/sallyport.mjs", "dist/lab/lab.mjs", "bin/bundle.mjs"]) {
    expect(names).toContain(`package/${name}`);
  }
});

test("a package without the agent says so when its archive is asked for", () => {
  const hollow = join(folder, "hollow");
  for (const name of ["bin", "package.json"])
    cpSync(join(root, name), join(hollow, name), { recursive: true });
  const { status, stderr } = spawnSync(process.execPath, [join(hollow, "bin/bundle.mjs"), "arm64"], {
    encoding: "utf8",
  });
  expect(status).toBe(1);
  expect(stderr).toContain("dist/agent is not in this package: install it anew");
});

withRegistry(
  "installed by `npm install` from its tarball, an example is synthesized from the package by its name",
  () => {
    const modules = join(folder, "node_modules");
    expect(lstatSync(join(modules, "sallyport")).isSymbolicLink()).toBe(false);
    for (const name of PEERS) {
      if (existsSync(join(root, "node_modules", name)) && !existsSync(join(modules, name))) {
        symlinkSync(join(root, "node_modules", name), join(modules, name));
      }
    }
    const example = readFileSync(join(modules, "sallyport/examples/own-relay/main.ts"), "utf8").replaceAll(
      "../../constructs/",
      "sallyport/constructs/",
    );
    writeFileSync(join(folder, "main.ts"), example);
    const { status, stderr } = spawnSync(process.execPath, ["--import", "tsx", "main.ts"], {
      cwd: folder,
      encoding: "utf8",
      env: {
        PATH: process.env["PATH"] ?? "",
        CDKTF_OUTDIR: join(folder, "out"),
        SALLYPORT_AGENT_BUNDLE: __filename,
      },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(readdirSync(join(folder, "out/stacks"))).toEqual(["own-relay"]);
    expect(existsSync(join(modules, "sallyport/test"))).toBe(false);
  },
  240_000,
);
