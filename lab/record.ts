/**
 * What a lab leaves on disk about itself while it lives, so that somebody else can clear up after it: its watchdog, or the next
 * lab that starts. One file per lab in the run folder.
 */
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

export interface LabRecord {
  readonly id: string;
  /** What people call it. */
  readonly name: string;
  readonly owner: ProcessIdentity;
  /** Names as `ip netns` knows them. */
  readonly namespaces: readonly string[];
  /** Logs, state and sockets of everything that runs in the lab. */
  readonly folder: string;
}

/** A process id alone may have been given to another process meanwhile. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, proc(5) field 22. */
  readonly startTime: string;
}

/** Every process of a lab carries this variable with the lab's id. */
export const LAB_VARIABLE = "SALLYPORT_LAB";

/** What `ip netns` calls all namespaces of a lab by. */
export const namespacePrefix = (id: string): string => `sp-${id}-`;

export function defaultRunFolder(): string {
  return process.getuid?.() === 0
    ? "/run/sallyport-lab"
    : join(tmpdir(), `sallyport-lab-${process.getuid?.() ?? 0}`);
}

export const recordFile = (runFolder: string, id: string): string => join(runFolder, `${id}.json`);

export function writeRecord(file: string, record: LabRecord): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  writeFileSync(`${file}.new`, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Undefined when the file is gone or half-written: then there is nothing that can be trusted. */
export function readRecord(file: string): LabRecord | undefined {
  try {
    const record = JSON.parse(readFileSync(file, "utf8")) as LabRecord;
    return { ...record, name: record.name ?? record.id };
  } catch {
    return undefined;
  }
}

export function listRecords(runFolder: string): { readonly file: string; readonly record: LabRecord }[] {
  let names: string[];
  try {
    names = readdirSync(runFolder).filter((name) => name.endsWith(".json"));
  } catch {
    return [];
  }
  return names.flatMap((name) => {
    const file = join(runFolder, name);
    const record = readRecord(file);
    return record === undefined ? [] : [{ file, record }];
  });
}

export function deleteRecord(file: string): void {
  for (const name of [file, `${file}.new`]) rmSync(name, { force: true });
}

/** Undefined when there is no such process. */
export function identify(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The second field is the command in brackets and may hold anything, spaces too.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const startTime = fields[19];
    return startTime === undefined || fields[0] === "Z" ? undefined : { pid, startTime };
  } catch {
    return undefined;
  }
}

export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTime === identity.startTime;
}
