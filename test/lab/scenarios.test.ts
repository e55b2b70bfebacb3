/**
 * Scenarios as `sallyport lab test` plays them, with the built program. That of the tags waits for minutes most of the time (no
 * node writes them twice in one), so it is played beside the others.
 */
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { canBuildLabs, LAB_PROGRAM, testWithLab } from "./bundle.ts";
import { ours, play, type Played } from "./play.ts";

const root = join(__dirname, "../..");
const testWithBuild = testWithLab();
const LIMIT_MS = 600_000;
/** From a change to its tag, as promised. */
const PROMISED_S = 90;

let tags: Promise<Played> | undefined;

beforeAll(() => {
  if (canBuildLabs && existsSync(LAB_PROGRAM)) tags = play(ours("health-tags"));
});

testWithBuild(
  "an exit node that is renewed, and one that is killed, comes back with its key and all its addresses, and is direct again",
  async () => {
    const played = await play(ours("self-healing"));
    expect(played.failed).toEqual([]);
    const { code, steps } = played;
    const same = steps.filter((line) => line.includes("same node"));
    expect(same).toHaveLength(2);
    for (const line of same) expect(line).toMatch(/same key, 100\.\S+ \S+, ingress 198\.18\./);
    for (const line of steps.filter((one) => one.includes(": direct")).slice(1)) {
      expect(line).toMatch(/direct 198\.18\.\S+, [\d.]+ s after the failure/);
    }
    expect(steps.filter((line) => line.includes("exit address = nat-gateway"))).toHaveLength(2);
    expect([code, steps.length]).toEqual([0, 9]);
  },
  LIMIT_MS,
);

testWithBuild(
  "without the sport rule, its iif lo or masquerade what they are for fails, and works again with them",
  async () => {
    const played = await play(ours("broken-on-purpose"));
    expect(played.failed).toEqual([]);
    const must = played.steps.filter((line) => line.includes("as it must not"));
    expect(must).toEqual([
      expect.stringMatching(/not exit address = nat-gateway \(UDP port 41641\) .*the internet sees nobody/),
      expect.stringMatching(/not exit address = nat-gateway .*the internet sees nobody/),
      expect.stringMatching(/not direct .*relay us-east-1/),
    ]);
    expect([played.code, played.steps.length]).toEqual([0, 15]);
  },
  LIMIT_MS,
);

testWithBuild(
  "exit traffic goes nowhere while the exit node is cut off",
  async () => {
    const played = await play(ours("no-leak"));
    expect(played.failed).toEqual([]);
    expect([played.code, played.steps.length]).toEqual([0, 5]);
  },
  LIMIT_MS,
);

testWithBuild(
  "a scenario that does not come true fails: with the port closed nothing is direct, and logs and packets are kept",
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "sallyport-test-scenario-"));
    const file = join(folder, "port-closed-and-yet-direct.lab.yaml");
    const app = join(root, "stacks/main.ts");
    writeFileSync(
      file,
      `about: this is not so
stacks: { app: ${app}, config: { openTunnelPort: false } }
hosts: { laptop: { nat: easy } }
steps:
  - { from: laptop, to: exit-node, expect: direct, within: 5s }
  - { from: laptop, to: exit-node, expect: reachable }
`,
    );
    const kept = join(root, "dist/lab-failures/port-closed-and-yet-direct");
    try {
      const { code, lines, steps } = await play(file);
      expect(steps).toEqual([expect.stringMatching(/✗ laptop → exit-node: direct .*relay us-east-1/)]);
      expect(lines.join("\n")).toMatch(
        /port-closed-and-yet-direct +FAILED .*kept: .*port-closed-and-yet-direct/,
      );
      expect(code).toBe(1);
      expect(readdirSync(join(kept, "captures"))).toContain("exit-node.pcap");
      expect(readdirSync(join(kept, "logs"))).toContain("exit-node-sallyport-agent.log");
    } finally {
      rmSync(folder, { recursive: true, force: true });
      rmSync(kept, { recursive: true, force: true });
    }
  },
  LIMIT_MS,
);

testWithBuild(
  "an instance's tag follows when UDP is cut, and when it is restored, within 90 seconds",
  async () => {
    if (tags === undefined) throw new Error("it was not begun");
    const played = await tags;
    expect(played.failed).toEqual([]);
    const [, cut, restored] = played.steps.filter((line) => line.includes("tag sallyport:path"));
    process.stdout.write(`${cut ?? ""}\n${restored ?? ""}\n`);
    expect(cut).toMatch(/relay:us-east-1, [\d.]+ s after “cut laptop”/);
    expect(restored).toMatch(/direct, [\d.]+ s after “mend laptop”/);
    for (const line of [cut, restored]) {
      expect(Number(/([\d.]+) s after/.exec(line ?? "")?.[1])).toBeLessThan(PROMISED_S);
    }
    expect(played.code).toBe(0);
  },
  LIMIT_MS,
);
