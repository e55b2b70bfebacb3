/**
 * `npm run bundle`: makes dist/bundle/sallyport-agent-linux-{arm64,x86_64}.tar, what instances run: the agent, koffi's native
 * file and a Node.js, so that an instance installs nothing.
 *
 * The same sources give the same bytes on every machine. Node.js and koffi come from npm by its own client (so its registry,
 * mirror and cache are used), pinned by version and SHA-256 in node-runtime.json; Node's package goes in as it came,
 * compressed already.
 */
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { spawnSync } from "node:child_process";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { bundleAgent } from "./build.mjs";
import { writeWhole } from "./files.mjs";
import { ensureInstalled, isMain, root, say } from "./install.mjs";
import { packTar, readTar } from "./tar.mjs";

const PINNED = JSON.parse(readFileSync(join(root, "bin/node-runtime.json"), "utf8"));
/** EC2's name for a processor → npm's. */
const ARCHITECTURES = { arm64: "arm64", x86_64: "x64" };
const DOWNLOADS = "dist/downloads";

/** Returns the archives' paths from the root. @throws Error that says what could not be had */
export async function makeBundles(architectures = Object.keys(ARCHITECTURES)) {
  const agent = existsSync(join(root, "agent/src/main.ts")) ? await bundleAgent() : shippedAgent();
  return architectures.map((architecture) => {
    const npmName = ARCHITECTURES[architecture];
    if (npmName === undefined) throw new Error(`${architecture} is neither arm64 nor x86_64`);
    const koffi = gunzipSync(download(`@koromix/koffi-linux-${npmName}`, PINNED.koffi));
    const archive = packTar({
      ...Object.fromEntries(
        Object.entries(agent).map(([name, content]) => [
          name,
          { content: Buffer.from(content), mode: 0o644 },
        ]),
      ),
      "koffi.node": { content: readTar(koffi, `package/linux_${npmName}/koffi.node`), mode: 0o755 },
      "node.tgz": { content: download(`node-linux-${npmName}`, PINNED.node), mode: 0o644 },
    });
    const file = `dist/bundle/sallyport-agent-linux-${architecture}.tar`;
    writeWhole(join(root, file), archive);
    return file;
  });
}

/** Installed as a package, there are no sources: it was made when the package was. */
function shippedAgent() {
  const folder = join(root, "dist/agent");
  if (!existsSync(folder)) throw new Error("dist/agent is not in this package: install it anew");
  const names = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) =>
    name.endsWith(".mjs"),
  );
  return Object.fromEntries(names.sort().map((name) => [name, readFileSync(join(folder, name))]));
}

/** The package as npm has it, if it is the one that is pinned. */
function download(name, version) {
  const file = join(root, DOWNLOADS, `${name.replaceAll(/[@/]+/g, "-").replace(/^-/, "")}-${version}.tgz`);
  if (!existsSync(file)) fetchPackage(name, version, file);
  const content = readFileSync(file);
  const sha256 = createHash("sha256").update(content).digest("hex");
  if (sha256 === PINNED.sha256[name]) return content;
  rmSync(file);
  throw new Error(
    `${name}@${version} is not the package that bin/node-runtime.json pins: its SHA-256 is ${sha256}`,
  );
}

function fetchPackage(name, version, file) {
  say(`fetching ${name}@${version}`);
  const folder = mkdtempSync(join(tmpdir(), "sallyport-npm-"));
  try {
    const args = ["pack", `${name}@${version}`, "--pack-destination", folder, "--silent"];
    const { status } = spawnSync("npm", args, { cwd: folder, stdio: ["ignore", "ignore", 2] });
    const [made] = readdirSync(folder);
    if (status !== 0 || made === undefined) {
      throw new Error(`npm can not fetch ${name}@${version}: is the registry reachable?`);
    }
    writeWhole(file, readFileSync(join(folder, made)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (isMain(import.meta.url)) {
  try {
    if (!ensureInstalled()) throw new Error("the npm packages are not installed");
    const architectures = process.argv.slice(2);
    const made = await makeBundles(architectures.length === 0 ? undefined : architectures);
    for (const file of made) {
      const content = readFileSync(join(root, file));
      const sha256 = createHash("sha256").update(content).digest("hex");
      process.stdout.write(
        `${(content.length / 1048576).toFixed(1).padStart(7)} MiB  ${sha256.slice(0, 16)}…  ${file}\n`,
      );
    }
  } catch (error) {
    say(`the bundle could not be made: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
