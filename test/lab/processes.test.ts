import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Processes } from "../../lab/processes.ts";
import { identify, isAlive } from "../../lab/record.ts";
import { run } from "../../lab/system.ts";

let folder: string;
let processes: Processes;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-test-processes-"));
  processes = new Processes("test", folder);
});
afterEach(async () => {
  await processes.stopAll();
  rmSync(folder, { recursive: true, force: true });
});

const shell = (script: string): { name: string; namespace: undefined; command: string[] } => ({
  name: "script",
  namespace: undefined,
  command: ["sh", "-c", script],
});

test("a program's lines are told, kept and logged", async () => {
  const told: string[] = [];
  const result = await processes.run(
    { ...shell("echo one; echo two >&2; exit 3"), onLine: (line) => told.push(line) },
    5_000,
  );
  expect(result).toMatchObject({ code: 3, signal: undefined });
  expect([...result.lines].toSorted()).toEqual(["one", "two"]);
  expect(told).toEqual(result.lines);
  expect(readFileSync(join(folder, "script.log"), "utf8").trim().split("\n").toSorted()).toEqual([
    "one",
    "two",
  ]);
});

test("it carries the lab's mark, and none of the user's own settings", async () => {
  process.env["SALLYPORT_PORT"] = "7";
  try {
    const { lines } = await processes.run(shell("env | grep ^SALLYPORT_"), 5_000);
    expect(lines).toEqual(["SALLYPORT_LAB=test"]);
  } finally {
    delete process.env["SALLYPORT_PORT"];
  }
});

test("waiting for a program that ends too soon fails with its last words", async () => {
  const started = processes.start(shell("echo something is wrong; exit 1"));
  await expect(started.readyLine(/ready/, 5_000)).rejects.toThrow(
    /script ended \(1\) before[^]*something is wrong/,
  );
});

test("a program that takes too long is stopped", async () => {
  await expect(processes.run(shell("exec sleep 60"), 50)).rejects.toThrow(/script did not end within 0.05 s/);
});

test("a program that is not there ends with code 127", async () => {
  const { code } = await processes.run({ ...shell(""), command: ["/nonexistent/program"] }, 5_000);
  expect(code).toBe(127);
});

test("stopping ends every program", async () => {
  const started = processes.start(shell("exec sleep 60"));
  const identity = identify(started.pid ?? 0);
  await processes.stopAll();
  expect(identity !== undefined && isAlive(identity)).toBe(false);
});

test("a system program that fails is quoted", async () => {
  await expect(run("sh", ["-c", "echo broken >&2; exit 4"])).rejects.toThrow(/failed \(4\): broken/);
  await expect(run("/nonexistent/program", [])).rejects.toThrow(/is not installed/);
});
