/** Scenarios in which the network is what matters: regions far apart, and several hosts behind one address. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { canBuildLabs, LAB_NEEDS } from "./bundle.ts";

const root = join(__dirname, "../..");
const PROGRAM = join(root, "dist/lab/lab.mjs");
const testWithBuild = existsSync(PROGRAM)
  ? requires("root", canBuildLabs, LAB_NEEDS)
  : requires("a build", false, "the lab's program is not there: run `npm run build`");
const LIMIT_MS = 300_000;

/** The steps that came true, those that did not, and the exit code. */
function play(scenario: string): Promise<readonly [true_: string[], not: string[], code: number | null]> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, "test", join(root, scenario)]);
    let said = "";
    child.stdout.on("data", (text) => (said += String(text)));
    child.stderr.on("data", (text) => (said += String(text)));
    child.on("error", reject);
    child.on("close", (code) => {
      const lines = said.split("\n").map((line) => line.trim());
      resolve([
        lines.filter((line) => line.startsWith("✓")),
        lines.filter((line) => line.startsWith("✗")),
        code,
      ]);
    });
  });
}

testWithBuild(
  "exit nodes in three regions join by a public certificate and are reached directly",
  async () => {
    const [direct, not, code] = await play("examples/multi-region/multi-region.lab.yaml");
    expect(not).toEqual([]);
    expect(direct).toEqual(
      ["frankfurt", "virginia", "singapore"].map((place) =>
        expect.stringMatching(`laptop → exit-${place}: direct .* direct 198\\.18\\.\\d+\\.10:41641$`),
      ),
    );
    expect(code).toBe(0);
  },
  LIMIT_MS,
);

testWithBuild(
  "exit nodes behind a load balancer's address, one of them of a group, are direct at it by their ports",
  async () => {
    const [done, not, code] = await play("lab/scenarios/shared-address.lab.yaml");
    expect(not).toEqual([]);
    const direct = done.filter((line) => line.includes(": direct"));
    const ways = direct.map((line) => /direct (198\.18\.\S+):(\d+)$/.exec(line)?.slice(1) ?? []);
    expect(new Set(ways.map(([ip]) => ip)).size).toBe(1);
    expect(ways.map(([, port]) => port)).toEqual(["41641", "41642", "41641", "41642"]);
    expect(code).toBe(0);
  },
  LIMIT_MS,
);

testWithBuild(
  "hosts behind one hard NAT, each with a forwarded port of its own, are all direct",
  async () => {
    const [direct, not, code] = await play("lab/scenarios/one-address-many-hosts.lab.yaml");
    expect([direct.length, not, code]).toEqual([2, [], 0]);
  },
  LIMIT_MS,
);
