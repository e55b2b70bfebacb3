import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FORWARDING_TOOLS } from "../../constructs/forwarding-tools.ts";

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-tools-"));
  mkdirSync(join(folder, "bin"));
});
afterEach(() => rmSync(folder, { recursive: true }));

const REAL = ["bash", "seq", "sed", "rm", "touch", "cat", "chmod"];
const [NANO, SMALL] = [430_000, 1_900_000];

/** Runs the lines between two of the script's own, with a machine's memory and programs that only note what they were asked. */
function run(memoryKb: number, install: string, others: Readonly<Record<string, string>> = {}) {
  const bin = join(folder, "bin");
  for (const name of REAL) {
    const where = spawnSync("bash", ["-c", `command -v ${name}`], { encoding: "utf8" }).stdout.trim();
    symlinkSync(where, join(bin, name));
  }
  const programs = {
    ...{ dd: 'for one; do case "$one" in of=*) echo "$*" > "$(echo "$one" | sed s/^of=//)";; esac; done' },
    ...{ mkswap: "", swapon: `touch ${folder}/swap-is-on`, swapoff: `rm ${folder}/swap-is-on` },
    ...{ sleep: "", ...(others["apt-get"] === undefined ? { dnf: install } : {}), ...others },
  };
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(join(bin, name), `#!${join(bin, "bash")}\necho "${name} $*" >> ${folder}/asked\n${text}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  writeFileSync(join(folder, "meminfo"), `MemTotal:         ${memoryKb} kB\nMemFree:           90000 kB\n`);
  const lines = ["set -euo pipefail", "trap 'echo the end' EXIT", ...FORWARDING_TOOLS, "echo goes on"];
  const script = lines
    .join("\n")
    .replaceAll("/proc/meminfo", join(folder, "meminfo"))
    .replaceAll("/var/tmp", folder);
  const { stdout, stderr } = spawnSync(join(bin, "bash"), ["-c", script], {
    encoding: "utf8",
    env: { PATH: bin },
  });
  const asked = existsSync(join(folder, "asked")) ? readFileSync(join(folder, "asked"), "utf8") : "";
  const count = (program: string) =>
    asked.split("\n").filter((line) => line.startsWith(`${program} `)).length;
  const left = ["swap-is-on", "sallyport-swap"].filter((name) => existsSync(join(folder, name)));
  return { stdout, stderr, asked, count, left, hasNft: existsSync(join(bin, "nft")) };
}

const installed = () => `touch ${folder}/bin/nft; chmod 755 ${folder}/bin/nft`;
const WENT_ON = "goes on\nthe end\n";

test("on the smallest instance, where dnf is killed without swap, it is installed, and the swap file is gone afterwards", () => {
  const { hasNft, left, stdout, asked } = run(
    NANO,
    `[ -e ${folder}/swap-is-on ] || kill -KILL $$; ${installed()}`,
  );
  expect([hasNft, left, stdout]).toEqual([true, [], WENT_ON]);
  expect(asked).toMatch(/^dd if=\/dev\/zero of=\S+\/sallyport-swap bs=1M count=512 /);
});

test("where it can never be installed the boot goes on after a few tries, says so, and leaves no swap file", () => {
  const { left, stdout, stderr, count } = run(NANO, "exit 1");
  expect([left, stdout, count("dnf")]).toEqual([[], WENT_ON, 5]);
  expect(stderr).toContain("nftables is not installed (try 5)");
  expect(stderr).toContain("the node carries nothing until nftables is installed");
});

test("a swap file that can not be used is removed, and the installation is tried without it", () => {
  const { hasNft, left, stdout } = run(NANO, installed(), { swapon: "exit 1", swapoff: "exit 1" });
  expect([hasNft, left, stdout]).toEqual([true, [], WENT_ON]);
});

test("a mirror that fails twice is asked a third time", () => {
  const twice = `echo x >> ${folder}/tries; [ "$(cat ${folder}/tries)" = "$(printf 'x\\nx\\nx')" ] || exit 1`;
  const { hasNft, count } = run(SMALL, `${twice}; ${installed()}`);
  expect([hasNft, count("dnf")]).toEqual([true, 3]);
});

test("with memory enough there is no swap file", () => {
  const { hasNft, asked } = run(SMALL, installed());
  expect([hasNft, asked]).toEqual([true, "dnf -q -y install nftables\n"]);
});

test("where it is there already nothing is done", () => {
  expect(run(NANO, installed(), { nft: "" })).toMatchObject({ asked: "", stdout: WENT_ON });
});

test("where there is no dnf, apt-get installs it", () => {
  const { hasNft, count } = run(SMALL, "", { "apt-get": installed() });
  expect([hasNft, count("apt-get")]).toEqual([true, 2]);
});
