import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { deserialize, serialize } from "node:v8";
import { casesOf } from "./cases.ts";
import { recorded, vectors } from "./load.ts";
import { unreadCases } from "./unread.ts";

const document = {
  source: "where it comes from",
  shared: "00ff",
  lines: ["a", "b"],
  keys: { alice: { private: "1" }, bob: { private: "2" } },
  replay: { limit: "9", note: "why", sequence: [{ accept: true }, { accept: false }] },
  sets: [{ name: "first", local: ["x"], cases: [{ name: "one", ok: true }], json: { Peers: [{ ID: 1 }] } }],
};
const cases = [
  "shared",
  "lines",
  "keys/alice",
  "keys/bob",
  "replay",
  "replay/sequence/0",
  "replay/sequence/1",
  "sets/0",
  "sets/0/cases/0",
];

let folder: string;
beforeEach(() => (folder = mkdtempSync(join(tmpdir(), "vectors-"))));
afterEach(() => rmSync(folder, { recursive: true }));

test("cases are the objects in lists and what stands at the top level, not labels and inner documents", () => {
  expect(casesOf(document)).toEqual(cases);
});

test("recorded data equals the JSON, is listed like it, and can be sent between processes", () => {
  const copy = recorded(document, () => {});
  expect(copy).toStrictEqual(document);
  expect(document).toEqual(copy);
  expect(JSON.stringify(copy)).toBe(JSON.stringify(document));
  expect(deserialize(serialize(copy))).toEqual(document);
});

test.each([
  { what: "a name", read: (d: typeof document) => d.sets[0]?.name, places: [] },
  { what: "a top-level scalar", read: (d: typeof document) => d.shared, places: ["shared"] },
  { what: "a line", read: (d: typeof document) => d.lines[1], places: ["lines"] },
  { what: "one key", read: (d: typeof document) => d.keys.bob.private, places: ["keys/bob"] },
  {
    what: "a way through",
    read: (d: typeof document) => d.sets.map((s) => s.cases.map((c) => c.name)),
    places: ["sets/0"],
  },
  {
    what: "a nested case",
    read: (d: typeof document) => d.sets[0]?.cases[0]?.ok,
    places: ["sets/0", "sets/0/cases/0"],
  },
  { what: "everything", read: (d: typeof document) => JSON.stringify(d), places: cases },
])("reading $what is recorded", ({ read, places }) => {
  const seen = new Set<string>();
  read(recorded(document, (at) => seen.add(at)) as typeof document);
  expect(cases.filter((at) => seen.has(at))).toEqual(places);
});

test("what no record of a run holds is listed, a file that no test reads in one line", () => {
  const [reads, files] = [mkdtempSync(join(folder, "reads-")), mkdtempSync(join(folder, "files-"))];
  writeFileSync(join(files, "a.json"), JSON.stringify(document));
  writeFileSync(join(files, "b.json"), JSON.stringify([{ x: 1 }, { x: 2 }]));
  writeFileSync(join(reads, "1.json"), JSON.stringify({ "a.json": cases.slice(0, 5) }));
  writeFileSync(join(reads, "2.json"), JSON.stringify({ "a.json": cases.slice(4, 8) }));
  expect(unreadCases(reads, files)).toEqual(["a.json: sets/0/cases/0", "b.json: all 2 cases"]);
});

test("the check fails and lists the cases when nothing was read, and passes when all were", () => {
  const check = join(__dirname, "check.mjs");
  const failed = spawnSync(process.execPath, [check, folder], { encoding: "utf8" });
  expect(failed.status).toBe(1);
  expect(failed.stdout).toContain("keys.json: all");

  const all: Record<string, readonly string[]> = {};
  for (const line of failed.stdout.matchAll(/ {2}(\S+\.json): all/g)) {
    const [, file = ""] = line;
    all[file] = casesOf(JSON.parse(readFileSync(join(__dirname, file), "utf8")));
  }
  writeFileSync(join(folder, "run.json"), JSON.stringify(all));
  expect(execFileSync(process.execPath, [check, folder], { encoding: "utf8" })).toBe("");
});

test("loading a file twice gives equal data", () => {
  expect(vectors("keys.json")).toEqual(vectors("keys.json"));
});
