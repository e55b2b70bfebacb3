/**
 * An instance of an autoscaling group is killed: its replacement boots by the same user data, takes the ingress interface and the
 * volume through the API, proves itself to its group, and is the same node to everybody.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { requires } from "../skip.ts";
import { canBuildLabs, LAB_NEEDS } from "./bundle.ts";

const root = join(__dirname, "../..");
const PROGRAM = join(root, "dist/lab/lab.mjs");
const built = existsSync(PROGRAM);
const testWithBuild = built
  ? requires("root", canBuildLabs, LAB_NEEDS)
  : requires("a build", false, "the lab's program is not there: run `npm run build`");
const LIMIT_MS = 300_000;

interface Played {
  readonly code: number | null;
  readonly lines: readonly string[];
}

function play(scenario: string): Promise<Played> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, "test", join(root, "lab/scenarios", scenario)]);
    let said = "";
    child.stdout.on("data", (text) => (said += String(text)));
    child.stderr.on("data", (text) => (said += String(text)));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, lines: said.split("\n") }));
  });
}

testWithBuild(
  "a killed exit node comes back with its key, its tailnet address and both public addresses, and is direct again",
  async () => {
    const { code, lines } = await play("self-healing.lab.yaml");
    const steps = lines.filter((line) => /^ {2}[✓✗]/.test(line));
    expect(steps.filter((line) => line.includes("✗"))).toEqual([]);
    expect(steps.find((line) => line.includes("same node"))).toMatch(
      /same key, 100\.\S+ \S+, ingress 198\.18\./,
    );
    expect(steps.filter((line) => line.includes(": direct")).at(-1)).toMatch(
      /direct 198\.18\.\S+, [\d.]+ s after the failure/,
    );
    expect(steps.filter((line) => line.includes("exit address = nat-gateway"))).toHaveLength(2);
    expect([code, steps.length]).toEqual([0, 6]);
  },
  LIMIT_MS,
);
