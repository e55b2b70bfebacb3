import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { removeLab } from "../../lab/cleanup.ts";
import {
  identify,
  isAlive,
  type LabRecord,
  listRecords,
  readRecord,
  recordFile,
  writeRecord,
} from "../../lab/record.ts";
import { requires } from "../skip.ts";
import { bundleLab, canBuildLabs, LAB_NEEDS } from "./bundle.ts";

const NOBODY = 65_534;
const testAsRoot = requires("root", canBuildLabs, LAB_NEEDS);

let folder: string;
let record: LabRecord;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "sallyport-test-record-"));
  const owner = identify(process.pid) ?? { pid: 0, startTime: "" };
  record = { id: "0a1b2c", name: "one", owner, namespaces: [], folder: join(folder, "sallyport-lab-0a1b2c") };
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test("records are read back; a damaged one is ignored", () => {
  writeRecord(recordFile(folder, "0a1b2c"), record);
  writeRecord(recordFile(folder, "other"), { ...record, id: "other" });
  writeRecord(recordFile(folder, "damaged"), {} as LabRecord);
  expect(readRecord(recordFile(folder, "0a1b2c"))).toEqual(record);
  expect(
    listRecords(folder)
      .map((one) => one.record.id)
      .toSorted(),
  ).toEqual(["0a1b2c", "other"]);
  expect(listRecords(join(folder, "missing"))).toEqual([]);
  expect(isAlive(record.owner)).toBe(true);
  expect(isAlive({ ...record.owner, startTime: "1" })).toBe(false);
});

test("a folder of records that others may read or write is refused", () => {
  const file = recordFile(folder, record.id);
  for (const mode of [0o755, 0o770, 0o707]) {
    chmodSync(folder, mode);
    expect(() => listRecords(folder)).toThrow(`its mode is ${mode.toString(8)}`);
    expect(() => writeRecord(file, record)).toThrow(/remove it, or/);
  }
});

test("neither a link nor a file is a folder of records", () => {
  symlinkSync(folder, join(folder, "link"));
  expect(() => listRecords(join(folder, "link"))).toThrow(/link is no folder/);
});

testAsRoot("the records of somebody else are refused", () => {
  writeRecord(recordFile(folder, record.id), record);
  chownSync(folder, NOBODY, NOBODY);
  expect(() => listRecords(folder)).toThrow(/belongs to the user 65534/);
});

testAsRoot("`lab down` removes nothing that a stranger's record names", () => {
  const bundle = bundleLab();
  try {
    for (const each of [folder, bundle.folder]) chmodSync(each, 0o755);
    const docs = join(folder, "docs");
    mkdirSync(docs);
    chownSync(docs, NOBODY, NOBODY);
    chmodSync(folder, 0o777);
    const stranger = join(folder, `sallyport-lab-${NOBODY}`);
    writeRecord(recordFile(stranger, record.id), {
      ...record,
      owner: { pid: 1, startTime: "" },
      folder: docs,
    });
    for (const path of [stranger, recordFile(stranger, record.id)]) chmodSync(path, 0o755);

    const [command = "", ...self] = bundle.self;
    const { status, stderr } = spawnSync(command, [...self, "down"], {
      ...{ uid: NOBODY, gid: NOBODY, cwd: "/", encoding: "utf8" },
      env: { ...process.env, TMPDIR: folder },
    });
    expect(existsSync(docs)).toBe(true);
    expect(stderr).toMatch(/^lab: \S+ belongs to the user 0, .*: remove it, or .*\n$/);
    expect(status).toBe(1);
  } finally {
    bundle.remove();
  }
});

test.each<[string, (record: LabRecord) => LabRecord]>([
  ["another folder", (one) => ({ ...one, folder: join(folder, "docs") })],
  ["a folder above", (one) => ({ ...one, folder: join(one.folder, "..") })],
  [
    "a link that is called as a lab's folder is",
    (one) => ({ ...one, folder: join(folder, `sallyport-lab-111111`), id: "111111" }),
  ],
  ["all namespaces", (one) => ({ ...one, id: "", folder: join(folder, "sallyport-lab-") })],
])("a record that names %s removes nothing, and says which file it is", async (_, change) => {
  const docs = join(folder, "docs");
  for (const path of [docs, record.folder, join(folder, "sallyport-lab-")]) mkdirSync(path);
  symlinkSync(docs, join(folder, "sallyport-lab-111111"));
  const changed = change(record);
  const file = recordFile(folder, changed.id);
  writeRecord(file, changed);
  await expect(removeLab(file, changed)).rejects.toThrow(`${file} does not describe a lab of yours`);
  for (const path of [docs, record.folder, file, changed.folder]) expect(existsSync(path)).toBe(true);
});

test("a lab's own folder goes, and its record", async () => {
  mkdirSync(join(record.folder, "logs"), { recursive: true });
  const file = recordFile(folder, record.id);
  writeRecord(file, record);
  await removeLab(file, record);
  expect([existsSync(record.folder), existsSync(file)]).toEqual([false, false]);
});
