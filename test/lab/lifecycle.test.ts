import { type ChildProcess, spawn } from "node:child_process";
import { copyFileSync, existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { processesOf, removeLeftovers } from "../../lab/cleanup.ts";
import { defaultRunFolder, listRecords, recordFile, type LabRecord } from "../../lab/record.ts";
import { sleep } from "../../lab/system.ts";
import { requires } from "../skip.ts";
import { bundleLab, canBuildLabs, LAB_NEEDS, type LabBundle } from "./bundle.ts";
import { expectGone, hostState, watchdogsOf } from "./leftovers.ts";
import { synthesize } from "./stack.ts";

const testAsRoot = requires("root", canBuildLabs, LAB_NEEDS);

let bundle: LabBundle;
let hostBefore: string;

beforeAll(() => {
  if (!canBuildLabs) return;
  bundle = bundleLab();
  writeFileSync(join(bundle.folder, "stack.json"), JSON.stringify(synthesize()));
  hostBefore = hostState();
});

afterAll(() => bundle?.remove());

testAsRoot(
  "the story notices packets that don't arrive: exit code 1, and nothing is left",
  async () => {
    const demo = startDemo("none");
    const record = await demo.built();
    expect(await demo.exitCode).toBe(1);
    expect(demo.output()).toContain("pong from exit-node (127.0.0.1) via DERP(nyc) in 41ms");
    expect(demo.output()).toContain("but packets are lost");
    expectNothingLeft(record);
  },
  30_000,
);

testAsRoot.each(["relay", "control", "daemon"])(
  "a %s that fails at its start ends the lab with its words",
  async (role) => {
    const demo = startDemo(role);
    const record = await demo.built();
    expect(await demo.exitCode).toBe(1);
    expect(demo.output()).toContain(`the ${role} fails, as it should in this test`);
    expectNothingLeft(record);
  },
  30_000,
);

testAsRoot.each([
  ["SIGINT", 130, /coordination server at/],
  ["SIGTERM", 143, /pong from/],
] as const)(
  "%s half-way removes everything",
  async (signal, code, line) => {
    const demo = startDemo("never");
    const record = await demo.built();
    await demo.prints(line);
    demo.child.kill(signal);
    expect(await demo.exitCode).toBe(code);
    expectNothingLeft(record);
  },
  30_000,
);

testAsRoot(
  "after kill -9 half-way the watchdog removes everything at once",
  async () => {
    const demo = startDemo("never");
    const record = await demo.built();
    await demo.prints(/pong from/);
    expect(processesOf(record).length).toBeGreaterThan(5);
    demo.child.kill("SIGKILL");
    await until(() => !existsSync(recordFile(defaultRunFolder(), record.id)));
    expectNothingLeft(record);
  },
  30_000,
);

testAsRoot(
  "kill -9 while it is being built leaves nothing either",
  async () => {
    for (const waitMs of [0, 40, 120]) {
      const demo = startDemo("never");
      const record = await demo.built();
      await sleep(waitMs);
      demo.child.kill("SIGKILL");
      await until(() => !existsSync(recordFile(defaultRunFolder(), record.id)));
      expectNothingLeft(record);
    }
  },
  40_000,
);

testAsRoot(
  "without its watchdog, a killed lab is removed when the next one starts",
  async () => {
    const demo = startDemo("never");
    const record = await demo.built();
    await demo.prints(/coordination server at/);
    for (const pid of watchdogsOf(record)) process.kill(pid, "SIGKILL");
    demo.child.kill("SIGKILL");
    await demo.exitCode;
    expect(processesOf(record).length).toBeGreaterThan(1);
    expect(await removeLeftovers(defaultRunFolder())).toContain(record.id);
    expectNothingLeft(record);
  },
  30_000,
);

interface Demo {
  readonly child: ChildProcess;
  /** Null when a signal ended it. */
  readonly exitCode: Promise<number | null>;
  readonly output: () => string;
  /** The lab's record, once it is written: before the first namespace is made. */
  readonly built: () => Promise<LabRecord>;
  readonly prints: (pattern: RegExp) => Promise<void>;
}

function startDemo(failing: string): Demo {
  const agent = join(bundle.folder, `agent-${failing}`);
  mkdirSync(agent, { recursive: true });
  copyFileSync(join(__dirname, "fake-agent.mjs"), join(agent, "sallyport.mjs"));
  writeFileSync(join(agent, "failing"), failing);
  const [command = "", ...args] = bundle.self;
  const stack = join(bundle.folder, "stack.json");
  const child = spawn(command, [...args, "demo", "--stack", stack, "--agent", agent]);
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (output += String(text)));
  const mine = (): LabRecord | undefined =>
    listRecords(defaultRunFolder()).find(({ record }) => record.owner.pid === child.pid)?.record;
  return {
    child,
    exitCode: new Promise((resolve) => child.on("close", resolve)),
    output: () => output,
    built: async () => {
      await until(() => mine() !== undefined);
      const record = mine();
      if (record === undefined) throw new Error(`the lab ended too soon: ${output}`);
      return record;
    },
    prints: (pattern) =>
      until(
        () => pattern.test(output),
        () => output,
      ),
  };
}

async function until(condition: () => boolean, describe: () => string = () => ""): Promise<void> {
  const deadline = performance.now() + 15_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${describe()}`);
    await sleep(5);
  }
}

function expectNothingLeft(record: LabRecord): void {
  expectGone(record);
  expect(hostState()).toBe(hostBefore);
}
