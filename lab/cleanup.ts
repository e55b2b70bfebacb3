/**
 * Removes everything a lab made: processes, namespaces (with their devices and rules), files. It goes by the lab's record
 * and by what /proc shows, not by what the lab remembers, so it works as well after `kill -9`; doing it twice does no harm.
 */
import { spawn } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync } from "node:fs";
import {
  checkRecord,
  deleteRecord,
  isAlive,
  LAB_VARIABLE,
  listRecords,
  namespacePrefix,
  readRecord,
  type LabRecord,
} from "./record.ts";
import { run, sleep } from "./system.ts";

/**
 * Kills what is left of the lab's processes, then removes its namespaces, folder and record.
 *
 * @throws OperationError when the record is of no lab of ours
 */
export async function removeLab(file: string, record: LabRecord): Promise<void> {
  checkRecord(file, record);
  await killAll(record);
  await removeNamespaces(namespacesOf(record));
  // A process that was being started meanwhile may have slipped through.
  await killAll(record);
  removeNetnsFiles(record);
  rmSync(record.folder, { recursive: true, force: true });
  deleteRecord(file);
}

/** Removes the labs whose owner is gone, and says which they were. */
export async function removeLeftovers(runFolder: string): Promise<readonly string[]> {
  const dead = listRecords(runFolder).filter(({ record }) => !isAlive(record.owner));
  for (const { file, record } of dead) await removeLab(file, record);
  return dead.map(({ record }) => record.id);
}

/**
 * Starts a process that outlives this one and removes the lab as soon as this one is gone, however it ended: it waits for
 * the end of a pipe that only this process holds open.
 */
export function startWatchdog(self: readonly string[], recordFile: string): void {
  const [command = "", ...args] = self;
  const env = { ...process.env };
  delete env[LAB_VARIABLE];
  const child = spawn(command, [...args, "watchdog", recordFile], {
    cwd: "/",
    detached: true,
    env,
    stdio: ["pipe", "ignore", "ignore"],
  });
  child.on("error", () => {});
  child.stdin.on("error", () => {});
  child.unref();
  const pipe: unknown = child.stdin;
  if (typeof pipe === "object" && pipe !== null && "unref" in pipe && typeof pipe.unref === "function")
    pipe.unref();
}

/** The watchdog's own program. */
export async function watch(recordFile: string): Promise<void> {
  await new Promise<void>((resolve) => {
    process.stdin.on("end", resolve).on("close", resolve).on("error", resolve).resume();
  });
  const record = readRecord(recordFile);
  if (record === undefined) deleteRecord(recordFile);
  else await removeLab(recordFile, record);
}

/** Ends everything in one namespace, as pulling the plug does, and removes it. */
export async function removeNamespace(name: string): Promise<void> {
  const [inode] = namespaceInode(name);
  if (inode === undefined) return;
  await killUntilNone(() => allProcesses().filter((pid) => networkNamespace(pid) === inode));
  await removeNamespaces([name]);
}

/** The ids of the processes that belong to the lab: by the variable they carry or the namespace they are in. */
export function processesOf(record: LabRecord): number[] {
  const namespaces = new Set(namespacesOf(record).flatMap(namespaceInode));
  const mark = Buffer.from(`${LAB_VARIABLE}=${record.id}\0`);
  return allProcesses()
    .filter((pid) => pid !== process.pid && pid !== record.owner.pid)
    .filter((pid) => carries(pid, mark) || namespaces.has(networkNamespace(pid)));
}

/** Long enough for a process in a system call to die, short enough for a person to wait. */
const KILL_ROUNDS = 60;
const KILL_PAUSE_MS = 25;

const allProcesses = (): number[] =>
  readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number);

const killAll = (record: LabRecord): Promise<void> => killUntilNone(() => processesOf(record));

async function killUntilNone(list: () => readonly number[]): Promise<void> {
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const pids = list();
    if (pids.length === 0) return;
    for (const pid of pids) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It ended by itself meanwhile.
      }
    }
    await sleep(KILL_PAUSE_MS);
  }
}

function removeNetnsFiles({ id }: LabRecord): void {
  if (!existsSync(NETNS_FILES)) return;
  for (const name of readdirSync(NETNS_FILES)) {
    if (name.startsWith(namespacePrefix(id)))
      rmSync(`${NETNS_FILES}/${name}`, { recursive: true, force: true });
  }
}

/** By its prefix: instances come and go after the record was written. */
function namespacesOf({ id }: LabRecord): readonly string[] {
  try {
    return readdirSync(NETNS_FOLDER).filter((name) => name.startsWith(namespacePrefix(id)));
  } catch {
    return [];
  }
}

async function removeNamespaces(names: readonly string[]): Promise<void> {
  const present = names.filter((name) => existsSync(`${NETNS_FOLDER}/${name}`));
  if (present.length === 0) return;
  const batch = present.map((name) => `netns del ${name}\n`).join("");
  await run("ip", ["-force", "-batch", "-"], { input: batch }).catch(() => "");
}

const NETNS_FOLDER = "/run/netns";
/** What `ip netns exec` shows in the place of /etc: ip-netns(8). */
export const NETNS_FILES = "/etc/netns";

function namespaceInode(name: string): number[] {
  try {
    return [statSync(`${NETNS_FOLDER}/${name}`).ino];
  } catch {
    return [];
  }
}

function carries(pid: number, mark: Buffer): boolean {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`);
    const at = environment.indexOf(mark);
    return at === 0 || (at > 0 && environment[at - 1] === 0);
  } catch {
    return false;
  }
}

function networkNamespace(pid: number): number {
  try {
    return Number(/\[(\d+)\]/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[1] ?? -1);
  } catch {
    return -1;
  }
}
