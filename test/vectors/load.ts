import { randomUUID } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { casesOf, isLabel, place } from "./cases.ts";

/** The folder for the places read, one file for each test file; `unread.ts` compares them with the vectors. */
const READS_FOLDER = process.env["SALLYPORT_VECTOR_READS"];

const readsOfFile = new Map<string, { readonly cases: readonly string[]; readonly read: Set<string> }>();

/**
 * Reads a file of published test vectors. `T` is the shape that the caller relies on.
 * The data equals the JSON; which of its cases are read is recorded.
 */
export function vectors<T>(file: string): T {
  const document: unknown = JSON.parse(readFileSync(join(__dirname, file), "utf8"));
  const reads = readsOfFile.get(file) ?? { cases: casesOf(document), read: new Set<string>() };
  readsOfFile.set(file, reads);
  return recorded(document, (at) => reads.read.add(at)) as T;
}

export const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));

/**
 * A copy of `document` that tells `onRead` the place of each object and list of scalars when anything but a
 * label is read from it, and of each top-level scalar. Getters, not a Proxy: jest can send them between processes.
 */
export function recorded(document: unknown, onRead: (at: string) => void, at = ""): unknown {
  if (typeof document !== "object" || document === null) return document;
  const copy = Array.isArray(document) ? [] : {};
  for (const [key, value] of Object.entries(document)) {
    const member = recorded(value, onRead, place(at, key));
    const isScalar = typeof value !== "object" || value === null;
    Object.defineProperty(copy, key, {
      enumerable: true,
      configurable: true,
      get() {
        if (isLabel(key)) return member;
        if (!Array.isArray(document) || isScalar) onRead(at);
        if (at === "" && isScalar) onRead(key);
        return member;
      },
    });
  }
  return copy;
}

function writeReads(folder: string): void {
  mkdirSync(folder, { recursive: true });
  const reads = Object.fromEntries(
    [...readsOfFile].map(([file, { cases, read }]) => [file, cases.filter((at) => read.has(at))]),
  );
  writeFileSync(join(folder, `${randomUUID()}.json`), JSON.stringify(reads));
}

if (READS_FOLDER !== undefined && typeof afterAll === "function") afterAll(() => writeReads(READS_FOLDER));
