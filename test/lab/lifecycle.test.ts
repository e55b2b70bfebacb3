import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { processesOf, removeLeftovers } from "../../lab/cleanup.ts";
import { defaultRunFolder, listRecords, recordFile, type LabRecord } from "../../lab/record.ts";
import { sleep } from "../../lab/system.ts";
import { canBuildLabs, LAB_PROGRAM, testWithLab } from "./bundle.ts";
import { expectGone, hostState, watchdogsOf } from "./leftovers.ts";

const testAsRoot = testWithLab();

let hostBefore: string;
beforeAll(() => {
  if (canBuildLabs) hostBefore = hostState();
});

testAsRoot.each([
  ["SIGINT", 130, /has run its user data/],
  ["SIGTERM", 143, /pong from/],
] as const)(
  "%s half-way removes everything",
  async (signal, code, line) => {
    const demo = startDemo();
    const record = await demo.built();
    await demo.prints(line);
    demo.child.kill(signal);
    expect(await demo.exitCode).toBe(code);
    expectNothingLeft(record);
  },
  90_000,
);

testAsRoot(
  "after kill -9 half-way the watchdog removes everything at once",
  async () => {
    const demo = startDemo();
    const record = await demo.built();
    await demo.prints(/pong from/);
    expect(processesOf(record).length).toBeGreaterThan(5);
    demo.child.kill("SIGKILL");
    await until(() => !existsSync(recordFile(defaultRunFolder(), record.id)));
    expectNothingLeft(record);
  },
  90_000,
);

testAsRoot(
  "kill -9 while it is being built leaves nothing either",
  async () => {
    for (const waitMs of [0, 40, 120]) {
      const demo = startDemo();
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
    const demo = startDemo();
    const record = await demo.built();
    await demo.prints(/has run its user data/);
    for (const pid of watchdogsOf(record)) process.kill(pid, "SIGKILL");
    demo.child.kill("SIGKILL");
    await demo.exitCode;
    expect(processesOf(record).length).toBeGreaterThan(1);
    expect(await removeLeftovers(defaultRunFolder())).toContain(record.id);
    expectNothingLeft(record);
  },
  90_000,
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

function startDemo(): Demo {
  const child = spawn(process.execPath, [LAB_PROGRAM, "demo"]);
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
  const deadline = performance.now() + 60_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`not in time: ${describe()}`);
    await sleep(5);
  }
}

function expectNothingLeft(record: LabRecord): void {
  expectGone(record);
  expect(hostState()).toBe(hostBefore);
}
