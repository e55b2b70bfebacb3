import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OperationError } from "../../../agent/src/base/errors.ts";
import { formatPrivateKey, MachinePrivate, NodePrivate } from "../../../agent/src/base/keys.ts";
import {
  daemonStatePath,
  type DaemonState,
  defaultPrefs,
  loadDaemonState,
  readStateFile,
  saveDaemonState,
  writeFileAtomic,
} from "../../../agent/src/io/state-store.ts";

const root = mkdtempSync(join(tmpdir(), "sallyport-state-"));
afterAll(() => rmSync(root, { recursive: true }));

let folders = 0;
const newFolder = (): string => join(root, String(folders++));

const SECRET = "5a".repeat(32);
const state: DaemonState = {
  machineKey: new MachinePrivate(new Uint8Array(32).fill(0x5a)),
  nodeKey: new NodePrivate(new Uint8Array(32).fill(0x42)),
  loginServer: "https://control.example",
  prefs: { ...defaultPrefs, wantRunning: true, hostname: "exit1", advertiseExitNode: true },
};

test("a state is read back as it was saved", async () => {
  const folder = newFolder();
  await saveDaemonState(folder, state);
  const loaded = await loadDaemonState(folder);
  expect(loaded && { ...loaded, machineKey: 0, nodeKey: 0 }).toEqual({ ...state, machineKey: 0, nodeKey: 0 });
  expect(loaded && formatPrivateKey(loaded.machineKey)).toBe(formatPrivateKey(state.machineKey));
  expect(loaded && formatPrivateKey(loaded.nodeKey)).toBe(formatPrivateKey(state.nodeKey));
});

test("only the owner may read a state, and its folder", async () => {
  const folder = newFolder();
  await saveDaemonState(folder, state);
  expect(statSync(daemonStatePath(folder)).mode & 0o777).toBe(0o600);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
});

test("a device without a state has none", async () => {
  expect(await loadDaemonState(newFolder())).toBeUndefined();
});

const whole = async (): Promise<string> => {
  const folder = newFolder();
  await saveDaemonState(folder, state);
  return readFileSync(daemonStatePath(folder), "utf8");
};

test.each([
  ["empty", () => ""],
  ["cut off in a key", (text: string) => text.slice(0, text.indexOf(SECRET) + 20)],
  ["of another version", (text: string) => text.replace('"version": 1', '"version": 2')],
  ["with a key that is none", (text: string) => text.replace(SECRET, `${SECRET.slice(2)}zz`)],
  ["with a short key", (text: string) => text.replace(SECRET, SECRET.slice(2))],
  ["with a key too many", (text: string) => text.replace("{", '{"extra": 1,')],
  ["of zeroes, as after a power cut", (text: string) => "\0".repeat(text.length)],
])("a state that is %s is refused, kept, and its key not repeated", async (_, damage) => {
  const folder = newFolder();
  const damaged = damage(await whole());
  await writeFileAtomic(daemonStatePath(folder), damaged);
  const error = await loadDaemonState(folder).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(OperationError);
  const text = `${String(error)} ${JSON.stringify(error)}`;
  expect(text).toContain(daemonStatePath(folder));
  expect(text).toContain("was left as it is");
  expect(text).toContain("move it away to start anew");
  expect(text).not.toContain(SECRET.slice(0, 16));
  expect(readFileSync(daemonStatePath(folder), "utf8")).toBe(damaged);
});

test("a file is replaced, and nothing is left beside it", async () => {
  const folder = newFolder();
  const path = join(folder, "deep", "file");
  await writeFileAtomic(path, "first");
  await writeFileAtomic(path, Uint8Array.of(0x32));
  expect(readFileSync(path, "utf8")).toBe("2");
  expect(readdirSync(join(folder, "deep"))).toEqual(["file"]);
});

test("many writers at once leave one whole file", async () => {
  const path = join(newFolder(), "file");
  const texts = Array.from({ length: 20 }, (_, i) => String(i).repeat(10_000));
  await Promise.all(texts.map((text) => writeFileAtomic(path, text)));
  expect(texts).toContain(readFileSync(path, "utf8"));
  expect(readdirSync(join(path, ".."))).toEqual(["file"]);
});

test("what can not be written names the file and leaves nothing behind", async () => {
  const folder = newFolder();
  mkdirSync(join(folder, "file", "taken"), { recursive: true });
  await expect(writeFileAtomic(join(folder, "file"), "x")).rejects.toThrow(
    `can not write ${join(folder, "file")} (EISDIR): give a directory`,
  );
  expect(readdirSync(folder)).toEqual(["file"]);
  const inFile = join(newFolder(), "file");
  await writeFileAtomic(inFile, "x");
  await expect(writeFileAtomic(join(inFile, "y"), "x")).rejects.toThrow(
    /can not write .* \((ENOTDIR|EEXIST)\)/,
  );
});

test("what can not be read names the file and the remedy", async () => {
  const folder = newFolder();
  mkdirSync(folder);
  await expect(readStateFile(folder)).rejects.toThrow(
    `can not read ${folder} (EISDIR): run as the user who owns it`,
  );
});

test("a temporary file that a crash left does not disturb", async () => {
  const folder = newFolder();
  await saveDaemonState(folder, state);
  writeFileSync(`${daemonStatePath(folder)}.123456.tmp`, "{");
  expect(await loadDaemonState(folder)).toBeDefined();
});
