/**
 * Brings a bare clone to where everything runs: the npm packages of the lockfile and, for the lab on Linux as root, the
 * system's nftables and iproute2. Says what it installs; where it may not, says what to install. Plain Node, since at
 * this point nothing else is there.
 */
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));

/** Which command needs which package. iproute2 is called iproute where dnf is. */
const SYSTEM_TOOLS = [
  { command: "nft", apt: "nftables", dnf: "nftables" },
  { command: "ip", apt: "iproute2", dnf: "iproute" },
];

/** Returns false, after saying why, where the npm packages could not be had. Without the system's tools much still works. */
export function ensureInstalled() {
  if (!ensurePackages()) return false;
  if (process.platform === "linux") ensureSystemTools();
  return true;
}

/** `npm ci` where what is installed is not what the lockfile says. */
function ensurePackages() {
  const reason = whyNotInstalled();
  if (reason === undefined) return true;
  say(`${reason}: running npm ci`);
  // A shell on Windows, where npm is a script.
  const options = { cwd: root, stdio: ["ignore", 2, 2], shell: process.platform === "win32" };
  const { status } = spawnSync("npm", ["ci", "--no-audit", "--no-fund"], options);
  if (status !== 0) say("npm ci failed; what it printed above says why. Is the npm registry reachable?");
  return status === 0;
}

function whyNotInstalled() {
  const wanted = readPackages("package-lock.json");
  if (wanted === undefined) return undefined; // installed as a package: npm has seen to it
  const installed = readPackages("node_modules/.package-lock.json");
  if (installed === undefined) return "the npm packages are not installed";
  for (const [path, { version, optional, devOptional }] of Object.entries(wanted)) {
    const present = installed[path];
    const mayBeAbsent = optional || devOptional; // those of other platforms
    if (path === "" || (present === undefined && mayBeAbsent)) continue;
    if (present?.version !== version) return "the npm packages are not those of the lockfile";
  }
  return undefined;
}

function readPackages(file) {
  const path = join(root, file);
  return existsSync(path) ? JSON.parse(readFileSync(path, "utf8")).packages : undefined;
}

function ensureSystemTools() {
  const missing = SYSTEM_TOOLS.filter(({ command }) => !onPath(command));
  if (missing.length === 0) return;
  const commands = missing.map(({ command }) => command).join(" and ");
  const install = systemInstall(missing);
  if (install === undefined) {
    say(`${commands} missing: install nftables and iproute2 to run the lab with namespaces`);
  } else if (process.getuid?.() !== 0) {
    say(`${commands} missing; as root: ${install.join(" ")}. The lab's namespaces need root, too`);
  } else {
    say(`${commands} missing: running ${install.join(" ")}`);
    if (!run(install) && !(install[0] === "apt-get" && run(["apt-get", "update"]) && run(install))) {
      say(`that failed; go on without. By hand: ${install.join(" ")}`);
    }
  }
}

function systemInstall(missing) {
  if (onPath("apt-get")) {
    return ["apt-get", "install", "--yes", "--no-install-recommends", ...missing.map(({ apt }) => apt)];
  }
  if (onPath("dnf")) return ["dnf", "install", "--assumeyes", ...missing.map(({ dnf }) => dnf)];
  return undefined;
}

function onPath(command) {
  const folders = [...(process.env.PATH ?? "").split(delimiter), "/usr/sbin", "/sbin"];
  return folders.some((folder) => folder !== "" && existsSync(join(folder, command)));
}

function run([command, ...args]) {
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  return spawnSync(command, args, { stdio: ["ignore", 2, 2], env }).status === 0;
}

/** To stderr, so that a command's own output stays clean. */
export function say(text) {
  process.stderr.write(`sallyport: ${text}\n`);
}

/** Whether the file that calls this is the one that Node was started with. */
export function isMain(moduleUrl) {
  return process.argv[1] !== undefined && moduleUrl === pathToFileURL(process.argv[1]).href;
}

if (isMain(import.meta.url) && !ensureInstalled()) process.exitCode = 1;
