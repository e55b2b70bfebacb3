/** `lab status`, `lab exec`, `lab down`: what can be done with labs that are up. */
import { spawn } from "node:child_process";
import { UsageError } from "../../agent/src/base/errors.ts";
import { removeLab } from "../cleanup.ts";
import { checkRecord, defaultRunFolder, isAlive, type LabRecord, listRecords } from "../record.ts";
import { sleep } from "../system.ts";
import { readNodes } from "./nodes.ts";

interface Found {
  readonly file: string;
  readonly record: LabRecord;
}

/** The exit code: 0 when there is a lab. */
export function status(say: (line: string) => void): number {
  const labs = listRecords(defaultRunFolder());
  if (labs.length === 0) {
    say("no lab is up");
    return 1;
  }
  for (const { record } of labs) {
    const alive = isAlive(record.owner);
    say(`${record.name}${alive ? "" : "  killed: `sallyport lab down` removes what is left"}`);
    if (!alive) continue;
    say(`  logs and state in ${record.folder}`);
    for (const { name, kind, about } of readNodes(record)) {
      if (kind !== "host") say(`  ${name.padEnd(20)} ${kind.padEnd(9)} ${about}`);
    }
  }
  return 0;
}

/** Runs a command on a node, with this terminal. @throws UsageError */
export async function exec(
  node: string,
  command: readonly string[],
  name: string | undefined,
): Promise<number> {
  const { record } = one(name);
  const nodes = readNodes(record);
  const found = nodes.find((entry) => entry.name === node);
  if (found === undefined) {
    throw new UsageError(
      "lab-node",
      `the lab ${record.name} has no ${node}; there are ${nodes.map((entry) => entry.name).join(", ")}`,
    );
  }
  const enter =
    found.pid === undefined
      ? ["ip", "netns", "exec", found.netns]
      : ["nsenter", `--target=${found.pid}`, "--mount", "--uts", "--net", "--wd=/"];
  const [program = "", ...args] = [...enter, "env", `PATH=${SEARCH}`, ...command];
  const child = spawn(program, args, { stdio: "inherit" });
  return new Promise((resolve) => {
    child.on("error", () => resolve(127));
    child.on("close", (code) => resolve(code ?? 1));
  });
}

const SEARCH = `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:${process.env["PATH"] ?? ""}`;
/** A lab has this long to end in order, before it is removed by its record. */
const GRACE_MS = 20_000;
const POLL_MS = 50;

/** Ends labs and removes what killed ones have left. @throws UsageError where it isn't clear which */
export async function down(
  options: { readonly name: string | undefined; readonly all: boolean },
  say: (line: string) => void,
): Promise<number> {
  const labs = listRecords(defaultRunFolder());
  const chosen = options.all ? labs : chosenBy(options.name, labs);
  for (const lab of chosen) {
    await end(lab);
    say(`${lab.record.name} is down`);
  }
  return 0;
}

/** What killed labs have left, and the one that is up. */
function chosenBy(name: string | undefined, labs: readonly Found[]): readonly Found[] {
  const dead = labs.filter(({ record }) => !isAlive(record.owner));
  if (name !== undefined && dead.some(({ record }) => record.name === name)) return dead;
  if (name === undefined && dead.length > 0 && labs.length !== dead.length + 1) return dead;
  return [...dead, one(name)];
}

async function end({ file, record }: Found): Promise<void> {
  checkRecord(file, record);
  const deadline = performance.now() + GRACE_MS;
  if (isAlive(record.owner)) process.kill(record.owner.pid, "SIGTERM");
  while (isAlive(record.owner) && performance.now() < deadline) await sleep(POLL_MS);
  if (isAlive(record.owner)) process.kill(record.owner.pid, "SIGKILL");
  await removeLab(file, record);
}

/** @throws UsageError */
function one(name: string | undefined): Found {
  const labs = listRecords(defaultRunFolder()).filter(({ record }) => isAlive(record.owner));
  const [first, ...more] = name === undefined ? labs : labs.filter(({ record }) => record.name === name);
  const there = labs.map(({ record }) => record.name).join(", ");
  if (first === undefined) {
    const which = name === undefined ? "no lab is up" : `no lab called ${name} is up`;
    throw new UsageError(
      "lab-name",
      there === "" ? `${which}: start one with \`sallyport lab up\`` : `${which}; there are ${there}`,
    );
  }
  if (more.length > 0) throw new UsageError("lab-name", `several labs are up: give --name, one of ${there}`);
  return first;
}
