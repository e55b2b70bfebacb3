/** What is compared with, and what measures: found, built or installed. */
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

export interface Peers {
  readonly wireguard: string;
  /** The folder with tailscaled, tailscale and derper, where they can be had. */
  readonly tailscale: string | undefined;
}

const TAILSCALE = ["tailscaled", "tailscale", "derper"];

/** In `folder` where it is given; else what the interoperability tests have built, or builds it. @throws Error */
export function findPeers(root: string, folder: string | undefined): Peers {
  const cache = join(root, ".cache/peers");
  const built = existsSync(cache)
    ? readdirSync(cache).filter((name) => /^tailscale-[0-9a-f]+$/.test(name))
    : [];
  const own = join(root, ".cache/bench");
  for (const found of [folder, ...built.map((name) => join(cache, name)), own]) {
    if (found === undefined || !existsSync(join(found, "wireguard"))) continue;
    return { wireguard: join(found, "wireguard"), tailscale: completeIn(found) };
  }
  if (folder !== undefined) throw new Error(`there is no wireguard in ${folder}`);
  const module = join(root, "test/interop/peers/tailscale");
  say("building wireguard-go with Go; the first time this takes a minute");
  if (!build(module, own, "golang.zx2c4.com/wireguard"))
    throw new Error("wireguard-go can not be built: install Go 1.26, or give --peers DIR");
  say("building tailscaled with Go; the first time this takes minutes");
  for (const name of TAILSCALE) if (!build(module, own, `tailscale.com/cmd/${name}`)) break;
  const tailscale = completeIn(own);
  if (tailscale === undefined) say("tailscaled can not be built here: the run goes on without it");
  return { wireguard: join(own, "wireguard"), tailscale };
}

function completeIn(folder: string): string | undefined {
  return TAILSCALE.every((name) => existsSync(join(folder, name))) ? folder : undefined;
}

function build(module: string, folder: string, name: string): boolean {
  const args = ["build", "-mod=readonly", "-buildvcs=false", "-o", `${folder}/`, name];
  return spawnSync("go", args, { cwd: module, stdio: ["ignore", 2, 2] }).status === 0;
}

/** Installs what is missing of iperf3 and ethtool. @throws Error */
export function ensureTools(): void {
  for (const [name, argument] of [
    ["iperf3", "-v"],
    ["ethtool", "--version"],
  ] as const) {
    const isThere = (): boolean => spawnSync(name, [argument]).status === 0;
    if (isThere()) continue;
    say(`installing ${name}`);
    spawnSync("apt-get", ["install", "-y", name], { stdio: ["ignore", 2, 2] });
    if (!isThere()) throw new Error(`${name} is missing: install it (apt-get install ${name})`);
  }
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
