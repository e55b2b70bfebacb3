/**
 * Makes the kernel's state equal to a plan, says when it no longer is, and takes all of it back.
 *
 * What was set is compared as the kernel prints it, right after setting and later. A small file says what there is to take
 * back, so that a run after one that was killed begins clean. It belongs into /run: what it tells of ends with the boot.
 */
import { readFile, rm, writeFile } from "node:fs/promises";
import * as z from "zod";
import { OperationError } from "../../base/errors.ts";
import { defaultNames, type KernelNames } from "../../core/exit/facts.ts";
import { withoutPacketFilter } from "../../core/exit/packet-filter.ts";
import { type ForwardingPlan, type KernelLine, RULE_OFFSETS, type Sysctl } from "../../core/exit/plan.ts";
import type { ExitReason } from "../../core/exit/reasons.ts";
import { readStateFile, writeFileAtomic } from "../state-store.ts";
import { refused, run, runWell } from "./command.ts";

interface Changed {
  readonly was: string;
  readonly is: string;
}

const recordSchema = z.object({
  names: z.object({ nftTable: z.string(), table: z.number(), priority: z.number() }),
  sysctls: z.record(z.string(), z.object({ was: z.string(), is: z.string() })),
});

export class KernelState {
  readonly #recordPath: string;
  readonly #names: KernelNames;
  readonly #changed = new Map<string, Changed>();
  #lines = "";
  #fingerprint: string | undefined;

  constructor(recordPath: string, names: KernelNames = defaultNames) {
    this.#recordPath = recordPath;
    this.#names = names;
  }

  /** Takes back what a run before has left, whatever it was set to. */
  async begin(): Promise<void> {
    const text = await readStateFile(this.#recordPath);
    if (text === undefined) return;
    const record = parseRecord(text);
    for (const [path, changed] of Object.entries(record?.sysctls ?? {})) this.#changed.set(path, changed);
    await this.#clear(record?.names ?? this.#names);
  }

  /** The packet filter goes first and forwarding last: in between nothing leaves that should not. @throws OperationError */
  async apply(plan: ForwardingPlan): Promise<void> {
    const lines = JSON.stringify([plan.routes, plan.rules]);
    if (this.#lines !== "" && this.#lines !== lines) await flush(this.#names);
    this.#fingerprint = undefined;
    await this.#record(plan.sysctls);
    await runWell("nft", ["-f", "-"], plan.nft);
    for (const address of plan.addresses) await runWell("ip", ["address", "replace", ...address.split(" ")]);
    this.#lines = lines;
    await setLines(plan);
    await this.#setSysctls(plan.sysctls);
    const print = await this.#print();
    if (!print.includes(`table inet ${this.#names.nftTable} {`)) {
      const text = `the table "inet ${this.#names.nftTable}" was gone as soon as it was set: see who else changes nftables`;
      throw new OperationError("forwarding-lost", text);
    }
    this.#fingerprint = print;
  }

  /** Whether the kernel's state is not what was applied: somebody has changed it, or applying it failed half-way. */
  async isChanged(): Promise<boolean> {
    if (this.#fingerprint === undefined) return true;
    const sysctls = await Promise.all(
      [...this.#changed].map(async ([path, { is }]) => (await readSysctl(path)) ?? is),
    );
    const expected = [...this.#changed.values()].map(({ is }) => is);
    if (sysctls.some((value, i) => value !== expected[i])) return true;
    return (await this.#print()) !== this.#fingerprint;
  }

  /** Sets everything anew, whatever is there. @throws OperationError */
  async restore(plan: ForwardingPlan): Promise<void> {
    await flush(this.#names);
    await this.apply(plan);
  }

  /** The reasons of those checks that the kernel answers otherwise. */
  async failed({ checks }: ForwardingPlan): Promise<readonly ExitReason[]> {
    const answers = await Promise.all(
      checks.map(async ({ question, device, reason }) => {
        const { code, stdout } = await run("ip", ["route", "get", ...question.split(" ")]);
        return code === 0 && ` ${stdout} `.includes(` dev ${device} `) ? [] : [reason];
      }),
    );
    const reasons = answers.flat();
    return reasons.filter(({ text }, i) => reasons.findIndex((other) => other.text === text) === i);
  }

  /** Takes everything back. */
  async close(): Promise<void> {
    await this.#clear(this.#names);
  }

  async #clear(names: KernelNames): Promise<void> {
    this.#fingerprint = undefined;
    this.#lines = "";
    for (const [path, { was, is }] of [...this.#changed].toReversed()) {
      if ((await readSysctl(path)) === is) await writeSysctl(path, was).catch(() => {});
    }
    this.#changed.clear();
    const outcomes = await Promise.allSettled([
      flush(names),
      runWell("nft", ["-f", "-"], withoutPacketFilter(names.nftTable)),
    ]);
    await rm(this.#recordPath, { force: true });
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  /** Before anything is changed: after a kill the next run finds it. */
  async #record(wanted: readonly Sysctl[]): Promise<void> {
    for (const { path, value, onlyFrom } of wanted) {
      const was = await readSysctl(path);
      const isOurs = this.#changed.get(path)?.is === value;
      if (was === undefined || isOurs || was === value || (onlyFrom !== undefined && was !== onlyFrom))
        continue;
      this.#changed.set(path, { was: this.#changed.get(path)?.was ?? was, is: value });
    }
    const record = { names: this.#names, sysctls: Object.fromEntries(this.#changed) };
    await writeFileAtomic(this.#recordPath, `${JSON.stringify(record)}\n`);
  }

  async #setSysctls(wanted: readonly Sysctl[]): Promise<void> {
    for (const { path, value } of wanted) if (this.#changed.has(path)) await writeSysctl(path, value);
  }

  async #print(): Promise<string> {
    const { priority, table, nftTable } = this.#names;
    const ours = new Set(RULE_OFFSETS.map((offset) => `${priority + offset}:`));
    const texts = await Promise.all([
      ...["-4", "-6"].map(async (family) => {
        const { stdout } = await run("ip", [family, "rule", "show"]);
        return stdout.split("\n").filter((line) => ours.has(line.split("\t")[0] ?? ""));
      }),
      ...["-4", "-6"].map(
        async (family) => (await run("ip", [family, "route", "show", "table", `${table}`])).stdout,
      ),
      run("nft", ["--stateless", "list", "table", "inet", nftTable]).then(({ stdout }) => stdout),
    ]);
    return JSON.stringify(texts);
  }
}

/** Routes before the rules that lead to them. */
async function setLines({ routes, rules }: ForwardingPlan): Promise<void> {
  for (const isV4 of [true, false]) {
    const mine = (lines: readonly KernelLine[]): readonly string[] =>
      lines.filter((line) => line.isV4 === isV4).map(({ text }) => text);
    const batch = [
      ...mine(routes).map((text) => `route replace ${text}`),
      ...mine(rules).map((text) => `rule add ${text}`),
    ];
    if (batch.length === 0) continue;
    const family = isV4 ? "-4" : "-6";
    const { stderr, code } = await run("ip", [family, "-force", "-batch", "-"], `${batch.join("\n")}\n`);
    const failed = stderr.split("\n").filter((line) => !/File exists|^Command failed|^\s*$/.test(line));
    if (failed.length > 0)
      throw new OperationError("forwarding-ip", refused(`ip ${family} -batch`, failed.join("\n"), code));
  }
}

/** All rules that lead to our table, and the table. Another's rule of the same priority stays. */
async function flush({ priority, table }: KernelNames): Promise<void> {
  for (const family of ["-4", "-6"]) {
    const { stdout } = await run("ip", [family, "rule", "show"]);
    const rules = RULE_OFFSETS.flatMap((offset) => {
      const lookup = offset < 0 ? "main" : `${table}`;
      const ours = stdout.split("\n").filter((line) => line.startsWith(`${priority + offset}:`));
      return ours.filter((line) => new RegExp(`lookup ${lookup}\\s*$`).test(line));
    });
    const batch = rules.map((line) => `rule del pref ${line.replace(":\t", " ").replace("from all ", "")}`);
    await run(
      "ip",
      [family, "-force", "-batch", "-"],
      [...batch, `route flush table ${table}`, ""].join("\n"),
    );
  }
}

async function readSysctl(path: string): Promise<string | undefined> {
  return await readFile(`/proc/sys/${path}`, "latin1").then(
    (text) => text.trim(),
    () => undefined,
  );
}

/** One that is gone belonged to a device that is gone. @throws OperationError */
async function writeSysctl(path: string, value: string): Promise<void> {
  if ((await readSysctl(path)) === undefined) return;
  try {
    await writeFile(`/proc/sys/${path}`, value);
  } catch (cause) {
    const text = `${path.replaceAll("/", ".")} can not be set to ${value}: run as root, or give CAP_NET_ADMIN in the network's namespace`;
    throw new OperationError("forwarding-sysctl", text, { cause });
  }
}

function parseRecord(text: string): z.infer<typeof recordSchema> | undefined {
  try {
    return recordSchema.parse(JSON.parse(text));
  } catch {
    return undefined; // a run that was killed while it wrote: nothing was set before that
  }
}
