/**
 * `lab up`: starts a lab that goes on after the command. The lab itself is a process of its own, `lab serve`, which says what it
 * does until it is ready; its record tells the other commands where to find it.
 */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { OperationError, UsageError } from "../../agent/src/base/errors.ts";
import { labArchive } from "../archive.ts";
import { failuresOf } from "../failure.ts";
import { whatIsMissing } from "../lab.ts";
import { openCloud } from "../open-cloud.ts";
import { isAlive, defaultRunFolder, listRecords } from "../record.ts";
import { openScenario, nameOfFile } from "../scenario/run.ts";
import { readScenario } from "../scenario/scenario.ts";
import { Session } from "../session.ts";
import { surroundings } from "../surroundings.ts";
import { readOutput, readStackFile, synthesizeApp } from "../synthesis.ts";
import type { StackSource } from "../documents.ts";
import { writeNodes } from "./nodes.ts";

export interface UpOptions {
  readonly root: string;
  readonly agent: string;
  readonly self: readonly string[];
  /** A file, a folder that `cdktf synth` wrote, or the name of a configured stack. @default all that are configured */
  readonly stack: string | undefined;
  readonly scenario: string | undefined;
  readonly name: string | undefined;
}

const READY = "ready";
/** The exit code of `lab serve` when what it was given can't be used. */
const MISUSED = 2;

/** Starts `lab serve` and returns when it is ready. @throws SallyportError */
export async function up(options: UpOptions, say: (line: string) => void): Promise<number> {
  await checkMachine();
  const { self, stack, scenario, agent } = options;
  const name = options.name ?? freeName(options);
  checkName(name);
  const [command = "", ...args] = self;
  const flags = [
    ...["--name", name, "--agent", agent],
    ...(stack === undefined ? [] : ["--stack", stack]),
    ...(scenario === undefined ? [] : ["--scenario", scenario]),
  ];
  const child = spawn(command, [...args, "serve", ...flags], {
    detached: true,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const stop = (): void => void child.kill("SIGTERM");
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, stop);
  const complaint: string[] = [];
  createInterface({ input: child.stderr }).on("line", (line) => complaint.push(line));
  const ready = await new Promise<boolean>((resolveReady) => {
    createInterface({ input: child.stdout }).on("line", (line) => {
      if (line === READY) resolveReady(true);
      else say(line);
    });
    child.once("close", () => resolveReady(false));
  });
  if (!ready) {
    const said = complaint.map((line) => line.replace(/^lab: /, "")).join("\n");
    if (child.exitCode === MISUSED) throw new UsageError("lab-up", said);
    throw new OperationError("lab-up", said === "" ? "the lab ended before it was ready" : said);
  }
  child.unref();
  child.stdout.destroy();
  child.stderr.destroy();
  return 0;
}

/** The lab's own process, until it is ended. @throws SallyportError */
export async function serve(options: UpOptions, say: (line: string) => void): Promise<Session> {
  // Whoever started it may have gone.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => {});
  await checkMachine();
  const started = performance.now();
  const session = await openSession(options, say);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  writeNodes(session);
  const { notModelled } = session.cloud.read.model;
  if (notModelled.length > 0) say(`not rebuilt: ${notModelled.join(", ")}`);
  say(
    `The lab ${options.name ?? session.lab.id} is up after ${seconds} s: ${session.lab.topology.namespaces.length} namespaces, ` +
      `${counted(session.cloud.instances, "instance")}, ${counted(session.clients, "client")}.`,
  );
  say(READY);
  return session;
}

const counted = ({ length }: { readonly length: number }, what: string): string =>
  `${length} ${what}${length === 1 ? "" : "s"}`;

async function openSession(options: UpOptions, say: (line: string) => void): Promise<Session> {
  const { agent, self, root, name } = options;
  const leftovers = (ids: readonly string[]): void =>
    say(`removed what a lab that was killed had left: ${ids.join(", ")}`);
  const named = name === undefined ? {} : { name };
  if (options.scenario !== undefined) {
    if (options.stack !== undefined) {
      throw new UsageError("lab-command", "the scenario names its stacks: leave out --stack");
    }
    return openScenario(
      readScenario(options.scenario),
      { root, agent, self, say, onChange: writeNodes, ...named },
      leftovers,
    );
  }
  const cloud = openCloud(await stacksOf(options), {
    objectFile: (_bucket, _key, source) => (source === undefined ? "" : resolve(root, source)),
  });
  return Session.open({
    cloud,
    ...surroundings(cloud),
    keepLogsIn: failuresOf(root, name ?? "lab"),
    agent,
    self,
    say,
    onLeftovers: leftovers,
    onChange: writeNodes,
    ...named,
  });
}

async function stacksOf({ stack, root, agent }: UpOptions): Promise<readonly StackSource[]> {
  if (stack !== undefined && existsSync(join(stack, "manifest.json"))) return readOutput(stack);
  if (stack !== undefined && (stack.endsWith(".json") || stack.includes("/"))) {
    return [{ name: nameOfFile(resolve(stack)), json: readStackFile(stack) }];
  }
  const archive = await labArchive(root, agent);
  const all = await synthesizeApp({ root, app: "stacks/main.ts", config: {}, archive });
  const found = all.filter(({ name }) => stack === undefined || name === stack);
  if (found.length > 0) return found;
  throw new UsageError(
    "lab-stack",
    `there is no stack ${stack ?? ""}: give a cdk.tf.json, or one of ${all.map(({ name }) => name).join(", ")}`,
  );
}

async function checkMachine(): Promise<void> {
  const missing = await whatIsMissing();
  if (missing !== undefined) {
    throw new OperationError("lab-unavailable", `no lab can be built here: ${missing}`);
  }
}

function checkName(name: string): void {
  if (!/^[a-z0-9][a-z0-9-]{0,31}$/i.test(name)) {
    throw new UsageError("lab-name", `--name ${name}: give letters, digits and hyphens`);
  }
  const taken = listRecords(defaultRunFolder()).some(
    ({ record }) => record.name === name && isAlive(record.owner),
  );
  if (taken) {
    throw new UsageError(
      "lab-name",
      `a lab called ${name} is up already: take it down, or give another --name`,
    );
  }
}

function freeName({ stack, scenario }: UpOptions): string {
  const base = (scenario ?? stack ?? "lab").split("/").at(-1) ?? "lab";
  const clean = base
    .replace(/(\.lab)?\.(ya?ml|json)$/, "")
    .replaceAll(/[^a-z0-9-]+/gi, "-")
    .replace(/^-+/, "");
  const wanted = (clean === "" ? "lab" : clean).slice(0, 24);
  const taken = new Set(listRecords(defaultRunFolder()).map(({ record }) => record.name));
  return (
    [wanted, ...Array.from({ length: 99 }, (_, i) => `${wanted}-${i + 2}`)].find((one) => !taken.has(one)) ??
    wanted
  );
}
