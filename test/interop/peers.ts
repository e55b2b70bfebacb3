/**
 * The programs that Sallyport is held against, unmodified: built from the Go module proxy, once.
 *
 * What is built is pinned by three Go modules in peers/ (their requirements differ). The programs are kept in
 * `.cache/peers`, or $SALLYPORT_PEERS_CACHE, under the hash of their module, and built anew only when it changes.
 */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { setPriority } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { identify, isAlive, type ProcessIdentity } from "../../lab/record.ts";
import { sleep } from "../../lab/system.ts";
import { canBuildLabs, LAB_NEEDS } from "../lab/bundle.ts";
import { requires } from "../skip.ts";

/** Where each program is. */
export interface Peers {
  readonly tailscaled: string;
  readonly tailscale: string;
  readonly derper: string;
  readonly wireguard: string;
  readonly headscale: string;
}

/** A first build of both takes about five minutes on two idle cores. Go keeps what it has compiled before. */
const BUILD_TIMEOUT_MS = 30 * 60_000;
/** For `beforeAll`: another test run may build meanwhile. */
export const PEERS_TIMEOUT_MS = 4 * BUILD_TIMEOUT_MS;

const GO_NEEDED = "the peers are built with Go 1.26 or later: install it (https://go.dev/dl)";

/** `test`, where there are root, namespaces and Go; elsewhere `test.skip`. */
export const testWithPeers = canBuildLabs
  ? requires("go", hasGo(), GO_NEEDED)
  : requires("root", canBuildLabs, LAB_NEEDS);

/** Builds what is not there yet, saying so. @throws Error with what Go said */
export async function buildPeers(): Promise<Peers> {
  const [tailscale, headscale] = [await buildModule("tailscale"), await buildModule("headscale")];
  return {
    tailscaled: join(tailscale, "tailscaled"),
    tailscale: join(tailscale, "tailscale"),
    derper: join(tailscale, "derper"),
    wireguard: join(tailscale, "wireguard"),
    headscale: join(headscale, "headscale"),
  };
}

/** The certificate authority for tests of ACME; it needs no root. @throws Error with what Go said */
export async function buildPebble(): Promise<string> {
  return join(await buildModule("pebble"), "pebble");
}

export const testWithGo = requires("go", hasGo(), GO_NEEDED);

const MODULES = join(__dirname, "peers");

function hasGo(): boolean {
  return spawnSync("go", ["version"]).status === 0;
}

/** The folder with the module's programs. */
async function buildModule(name: string): Promise<string> {
  const cache = process.env["SALLYPORT_PEERS_CACHE"] ?? join(__dirname, "../../.cache/peers");
  const folder = join(cache, `${name}-${hashOf(name)}`);
  if (existsSync(folder)) return folder;
  mkdirSync(cache, { recursive: true });
  const unlock = await lock(join(cache, `${name}.lock`));
  try {
    if (!existsSync(folder)) await build(name, folder);
  } finally {
    unlock();
  }
  return folder;
}

function hashOf(name: string): string {
  const hash = createHash("sha256").update(`${process.platform} ${process.arch}\n`);
  for (const file of ["go.mod", "go.sum"]) hash.update(readFileSync(join(MODULES, name, file)));
  return hash.digest("hex").slice(0, 16);
}

async function build(name: string, folder: string): Promise<void> {
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true }); // of a run that was killed
  mkdirSync(unfinished);
  say(`building ${name} and what it needs with Go into ${folder}; the first time this takes minutes`);
  try {
    await goBuild(join(MODULES, name), unfinished, (packages, seconds) =>
      say(`building ${name}: ${packages} packages compiled after ${seconds} s`),
    );
    renameSync(unfinished, folder);
  } catch (error) {
    rmSync(unfinished, { recursive: true, force: true });
    throw error;
  }
}

const PROGRESS_EVERY_MS = 15_000;

function goBuild(
  module: string,
  into: string,
  onProgress: (packages: number, seconds: number) => void,
): Promise<void> {
  // "tool": every program that the module's tool lines name.
  const child = spawn("go", ["build", "-v", "-mod=readonly", "-buildvcs=false", "-o", `${into}/`, "tool"], {
    cwd: module,
    stdio: ["ignore", "ignore", "pipe"],
    timeout: BUILD_TIMEOUT_MS,
    killSignal: "SIGINT", // which go hands on to its compilers
  });
  if (child.pid !== undefined) setPriority(child.pid, BELOW_OTHERS);
  const start = performance.now();
  const lines: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => lines.push(line));
  const progress = setInterval(
    () => onProgress(lines.length, Math.round((performance.now() - start) / 1000)),
    PROGRESS_EVERY_MS,
  );
  const kill = (): void => void child.kill("SIGINT");
  process.once("exit", kill);
  return new Promise<void>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => {
      if (code === 0) resolve();
      else reject(new Error(`go build ended with ${signal ?? code}:\n${lines.slice(-20).join("\n")}`));
    });
  }).finally(() => {
    clearInterval(progress);
    process.off("exit", kill);
  });
}

const BELOW_OTHERS = 10;

/** Waits while another test run builds. A lock whose owner is gone counts for nothing. */
async function lock(file: string): Promise<() => void> {
  for (let waited = false; ; waited = true) {
    try {
      writeFileSync(file, JSON.stringify(identify(process.pid)), { flag: "wx" });
      return () => rmSync(file, { force: true });
    } catch {
      const owner = ownerOf(file);
      if (owner !== undefined && !isAlive(owner)) rmSync(file, { force: true });
      else if (!waited) say(`waiting for another build, by process ${owner?.pid ?? "?"} (${file})`);
    }
    await sleep(LOCK_POLL_MS);
  }
}

const LOCK_POLL_MS = 500;

function ownerOf(file: string): ProcessIdentity | undefined {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as ProcessIdentity;
  } catch {
    // Gone meanwhile, or about to be written.
    return undefined;
  }
}

/** Past jest, which keeps what tests print until they end. */
export function say(text: string): void {
  process.stderr.write(`test/interop: ${text}\n`);
}
