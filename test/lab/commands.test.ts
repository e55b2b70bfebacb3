/** `sallyport lab …` as people type it: two labs side by side, from the first command to nothing left. */
import { type SpawnSyncReturns, spawn, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defaultRunFolder, type LabRecord, listRecords } from "../../lab/record.ts";
import { testWithLab } from "./bundle.ts";
import { expectGone, watchdogsOf } from "./leftovers.ts";
import { synthesize } from "./stack.ts";

const root = join(__dirname, "../..");
const PROGRAM = join(root, "bin/sallyport.mjs");
const testWithBuild = testWithLab();
const LIMIT_MS = 300_000;
const [first, second] = [`first-${process.pid}`, `second-${process.pid}`];

function lab(...args: readonly string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [PROGRAM, "lab", ...args], { encoding: "utf8" });
}

function up(name: string): Promise<string> {
  const args = [PROGRAM, "lab", "up", "--stack", "exit-node-stack", "--name", name];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: root });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += String(text)));
    child.on("error", reject);
    child.on("close", () => resolve(said));
  });
}

function recordOf(name: string): LabRecord {
  const found = listRecords(defaultRunFolder()).find(({ record }) => record.name === name);
  if (found === undefined) throw new Error(`there is no lab ${name}`);
  return found.record;
}

afterAll(() => {
  for (const { record } of listRecords(defaultRunFolder())) {
    if ([first, second].includes(record.name)) lab("down", "--name", record.name);
  }
});

testWithBuild(
  "two labs are up side by side, each with its own nodes, and one goes without the other",
  async () => {
    const said = await Promise.all([up(first), up(second)]);
    for (const [i, name] of [first, second].entries()) {
      expect(said[i]).toMatch(
        new RegExp(`The lab ${name} is up after [\\d.]+ s: \\d+ namespaces, 1 instance, 3 clients`),
      );
    }
    const shown = lab("status");
    expect(shown.status).toBe(0);
    for (const name of [first, second]) {
      const own = shown.stdout.split(`${name}\n`)[1]?.split(/\n(?=\S)/)[0];
      expect(own).toMatch(/exit-node +instance +i-0[0-9a-f]{16}, us-east-1, running, \S+, \S+ 198\.18\./);
      expect(own).toMatch(/office +client +hard NAT, 203\.0\.113\./);
    }
    expect(lab("up", "--name", first).stderr).toMatch(/a lab called \S+ is up already/);

    const nodeName = lab("exec", "exit-node", "--name", first, "--", "cat", "/etc/hostname");
    expect([nodeName.status, nodeName.stdout]).toEqual([0, expect.stringMatching(/^ip-10-\d+-\d+-\d+\n$/)]);
    expect(lab("exec", "laptop", "--name", second, "--", "sh", "-c", "exit 7").status).toBe(7);
    const nobody = lab("exec", "printer", "--name", second, "--", "true");
    expect([nobody.status, nobody.stderr]).toEqual([
      2,
      expect.stringMatching(/has no printer; there are exit-node, /),
    ]);

    const [one, other] = [recordOf(first), recordOf(second)];
    expect(lab("down", "--name", first).stdout).toBe(`${first} is down\n`);
    expectGone(one);
    expect(lab("exec", "laptop", "--name", second, "--", "true").status).toBe(0);

    for (const pid of [...watchdogsOf(other), other.owner.pid]) process.kill(pid, "SIGKILL");
    lab("down", "--name", second);
    expectGone(other);
  },
  LIMIT_MS,
);

testWithBuild("without root it is one sentence", () => {
  const args = ["--user", process.execPath, PROGRAM, "lab", "up"];
  const { status, stderr } = spawnSync("unshare", args, { encoding: "utf8" });
  expect(stderr).toBe("lab: no lab can be built here: network namespaces need root\n");
  expect(status).toBe(1);
});

testWithBuild("a stack that is not there is one sentence that names those that are", () => {
  const { status, stderr } = lab("up", "--stack", "moon", "--name", `moon-${process.pid}`);
  expect(stderr).toBe("lab: there is no stack moon: give a cdk.tf.json, or one of exit-node-stack\n");
  expect(status).toBe(2);
});

describe("of a lab that fails while it is built", () => {
  const name = `broken-${process.pid}`;
  const kept = join(root, "dist/lab-failures", name);
  let folder: string;

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "sallyport-broken-"));
    mkdirSync(join(folder, "tmp"));
    writeFileSync(join(folder, "cdk.tf.json"), JSON.stringify(stackWhoseUserDataFails()));
  });
  afterEach(() => {
    for (const left of [folder, kept]) rmSync(left, { recursive: true, force: true });
  });

  /** Its temporary files are where no other lab's are. */
  function labHere(...args: readonly string[]): Promise<Ended> {
    const env = { ...process.env, TMPDIR: join(folder, "tmp") };
    const child = spawn(process.execPath, [PROGRAM, "lab", ...args], { env });
    let [said, record] = ["", undefined as LabRecord | undefined];
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (text) => (said += String(text)));
    const look = (): void => {
      record ??= listRecords(defaultRunFolder()).find((one) => one.record.folder.startsWith(folder))?.record;
    };
    const looking = setInterval(look, 20);
    return new Promise((resolve, reject) => {
      child.on("error", reject);
      child.on("close", (status) => {
        clearInterval(looking);
        resolve({ status, said, record });
      });
    });
  }

  function expectOnlyLogs(record: LabRecord | undefined): void {
    expect(readFileSync(join(kept, "logs/exit-node-boot.log"), "utf8")).toBe("first word\nno luck\n");
    if (record === undefined) throw new Error("there was no lab");
    expectGone(record);
    expect(readdirSync(join(folder, "tmp"))).toEqual([]);
    expect(readFileSync("/proc/mounts", "utf8") + spawnSync("losetup", ["-a"]).stdout).not.toContain(folder);
  }

  testWithBuild("`lab up` keeps the logs and says where; nothing else is left", async () => {
    const { status, said, record } = await labHere(
      ...["up", "--stack", join(folder, "cdk.tf.json"), "--name", name],
    );
    expect(said).toContain(
      `lab: the lab could not be built, and its logs are kept in ${kept}: the user data of exit-node failed (7)`,
    );
    expect(status).toBe(1);
    expectOnlyLogs(record);
  });

  testWithBuild("`lab test` does so, too, and names them in its table", async () => {
    const file = join(folder, `${name}.lab.yaml`);
    writeFileSync(file, SCENARIO);
    const { status, said, record } = await labHere("test", file);
    expect(said).toContain(`its logs are kept in ${kept}: the user data of exit-node failed (7)`);
    expect(said).toMatch(new RegExp(`${name}  FAILED .* kept: ${kept}\n$`));
    expect(status).toBe(1);
    expectOnlyLogs(record);
  });
});

interface Ended {
  readonly status: number | null;
  readonly said: string;
  readonly record: LabRecord | undefined;
}

const SCENARIO = `
about: fails
stacks: { files: [cdk.tf.json] }
hosts: { office: {}, control: { role: control } }
steps: [{ from: office, to: exit-node, expect: direct }]
`;

function stackWhoseUserDataFails(): unknown {
  const stack = synthesize() as { resource: { aws_instance: Record<string, { user_data?: string }> } };
  for (const instance of Object.values(stack.resource.aws_instance)) {
    instance.user_data = "#!/bin/sh\necho first word\necho no luck\nexit 7\n";
  }
  return stack;
}
