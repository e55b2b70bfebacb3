/**
 * What a lab leaves on disk about itself while it lives, so that somebody else can clear up after it: its watchdog, or the next
 * lab that starts. One file per lab in the run folder. Whatever a record names is killed and removed, so only one of our own,
 * which names what a lab is called by, is believed.
 */
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, isAbsolute, join } from "node:path";
import * as z from "zod";
import { OperationError } from "../agent/src/base/errors.ts";

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

/** Where a lab keeps its files: not in the run folder, which is a small one in memory. */
export const labFolder = (id: string): string => join(tmpdir(), folderName(id));

export const recordFile = (runFolder: string, id: string): string => join(runFolder, `${id}.json`);

/** @throws OperationError when the folder is not ours alone */
export function writeRecord(file: string, record: LabRecord): void {
  mkdirSync(dirname(file), { recursive: true, mode: OURS_ALONE });
  checkRunFolder(dirname(file));
  writeFileSync(`${file}.new`, `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Undefined when the file is gone or half-written: then there is nothing that can be trusted. */
export function readRecord(file: string): LabRecord | undefined {
  try {
    return recordShape.parse(JSON.parse(readFileSync(file, "utf8")));
  } catch {
    return undefined;
  }
}

/** @throws OperationError when the folder is not ours alone */
export function listRecords(runFolder: string): { readonly file: string; readonly record: LabRecord }[] {
  if (!checkRunFolder(runFolder)) return [];
  const names = readdirSync(runFolder).filter((name) => name.endsWith(".json"));
  return names.flatMap((name) => {
    const file = join(runFolder, name);
    const record = readRecord(file);
    return record === undefined ? [] : [{ file, record }];
  });
}

/** Before anything is removed by a record. @throws OperationError when it names what no lab of ours has */
export function checkRecord(file: string, { id, folder }: LabRecord): void {
  const found = lookAt(folder);
  const isOurs = found === undefined || (found.isDirectory() && found.uid === process.getuid?.());
  if (/^[0-9a-f]{6}$/.test(id) && isAbsolute(folder) && basename(folder) === folderName(id) && isOurs) return;
  throw new OperationError(
    "lab-record",
    `${file} does not describe a lab of yours (its folder would be ${folder}): nothing is removed; delete that file`,
  );
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

const OURS_ALONE = 0o700;

const folderName = (id: string): string => `sallyport-lab-${id}`;

const recordShape = z.object({
  id: z.string(),
  name: z.string(),
  owner: z.object({ pid: z.int().positive(), startTime: z.string() }),
  namespaces: z.array(z.string()),
  folder: z.string(),
});

/** Whether it is there. @throws OperationError when others could have put something into it */
function checkRunFolder(folder: string): boolean {
  const found = lookAt(folder);
  if (found === undefined) return false;
  const wrong = whatIsWrong(found);
  if (wrong === undefined) return true;
  throw new OperationError(
    "lab-run-folder",
    `${folder} ${wrong}, and what it says about labs can not be trusted: remove it, or set TMPDIR to a folder of your own`,
  );
}

function whatIsWrong(found: Stats): string | undefined {
  const mode = found.mode & 0o777;
  if (!found.isDirectory()) return "is no folder";
  if (found.uid !== process.getuid?.()) return `belongs to the user ${found.uid}`;
  return mode === OURS_ALONE ? undefined : `is open to others (its mode is ${mode.toString(8)}, not 700)`;
}

/** Undefined when nothing is there. A link is not followed. */
function lookAt(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}
