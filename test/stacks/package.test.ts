import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
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

test("packed and unpacked elsewhere, an example is synthesized from the package by its name", () => {
  const packed = spawnSync("npm", ["pack", "--silent", "--ignore-scripts", "--pack-destination", folder], {
    cwd: root,
    encoding: "utf8",
  });
  expect(packed.status).toBe(0);
  const [archive = ""] = readdirSync(folder);
  const modules = join(folder, "node_modules");
  mkdirSync(modules);
  spawnSync("tar", ["-xzf", join(folder, archive), "-C", modules]);
  cpSync(join(modules, "package"), join(modules, "sallyport"), { recursive: true });
  for (const name of PEERS) {
    if (existsSync(join(root, "node_modules", name))) {
      symlinkSync(join(root, "node_modules", name), join(modules, name));
    }
  }
  const example = readFileSync(join(modules, "sallyport/examples/own-relay/main.ts"), "utf8")
    .replaceAll("../../constructs/", "sallyport/constructs/")
    .replace(
      'new AgentBundle(stack, "agent")',
      `new AgentBundle(stack, "agent", { file: ${JSON.stringify(__filename)} })`,
    );
  writeFileSync(join(folder, "main.ts"), example);
  writeFileSync(join(folder, "package.json"), '{"type":"module"}');
  const { status, stderr } = spawnSync(process.execPath, ["--import", "tsx", "main.ts"], {
    cwd: folder,
    encoding: "utf8",
    env: { PATH: process.env["PATH"] ?? "", CDKTF_OUTDIR: join(folder, "out") },
  });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  expect(readdirSync(join(folder, "out/stacks"))).toEqual(["own-relay"]);
  expect(existsSync(join(modules, "sallyport/test"))).toBe(false);
}, 120_000);
