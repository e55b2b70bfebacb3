import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { casesOf } from "./cases.ts";

/**
 * The cases of all vector files in `vectorsFolder` that no test read in the run which left its records in
 * `readsFolder` (SALLYPORT_VECTOR_READS), as "stun.json: cases/3". Meaningful after a run of all tests only.
 */
export function unreadCases(readsFolder: string, vectorsFolder: string): readonly string[] {
  const read = new Set(jsonFiles(readsFolder).flatMap((file) => recordedReads(join(readsFolder, file))));
  return jsonFiles(vectorsFolder).flatMap((file) => {
    const cases = casesOf(readJson(join(vectorsFolder, file)));
    const unread = cases.map((at) => `${file}: ${at}`).filter((name) => !read.has(name));
    return unread.length > 0 && unread.length === cases.length
      ? [`${file}: all ${cases.length} cases`]
      : unread;
  });
}

function recordedReads(file: string): readonly string[] {
  const reads = readJson(file) as Readonly<Record<string, readonly string[]>>;
  return Object.entries(reads).flatMap(([name, places]) => places.map((at) => `${name}: ${at}`));
}

function jsonFiles(folder: string): readonly string[] {
  return readdirSync(folder)
    .filter((name) => name.endsWith(".json"))
    .toSorted();
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, "utf8"));
}
