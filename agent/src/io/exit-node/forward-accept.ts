/**
 * Tells the firewalls of others to accept what is forwarded: only those that the operator names, and only for as long as this
 * forwards. Docker's chain DOCKER-USER is there for rules of others; firewalld has the zone "trusted".
 *
 * iptables keeps its rules in tables that it alone may write (nftables' own form of a rule makes it refuse the table), so it is
 * asked to. Ours bear a comment, by which they are found again, also after a run that was killed.
 */
import { rm } from "node:fs/promises";
import type { Log } from "../../base/log.ts";
import {
  type AcceptingFirewall,
  acceptingFirewalls,
  acceptingMatches,
} from "../../core/exit/foreign-firewalls.ts";
import { readStateFile, writeFileAtomic } from "../state-store.ts";
import { run } from "./command.ts";

export interface ForwardAcceptOptions {
  readonly firewalls: readonly AcceptingFirewall[];
  /** Says in rules whose they are. */
  readonly name: string;
  readonly tunnel: string;
  /** Where it is noted what there is to take back, below /run. */
  readonly recordPath: string;
  readonly log: Log;
}

const CHAIN = "DOCKER-USER";
/** Docker changes its rules, too: seconds to wait for each other. */
const LOCKED = ["-w", "5"];

export class ForwardAccept {
  readonly #options: ForwardAcceptOptions;
  #refused = "";

  constructor(options: ForwardAcceptOptions) {
    this.#options = options;
  }

  /** Takes back what a run before has left. */
  async begin(): Promise<void> {
    const text = await readStateFile(this.#options.recordPath).catch(() => undefined);
    const [tunnel = "", ...left] = text?.trim().split(" ") ?? [];
    if (text !== undefined) await this.#takeBack(tunnel, left);
  }

  /** @param devices by which it goes on. Never throws: what is refused is logged, and traffic stays `forward-blocked`. */
  async apply(devices: readonly string[]): Promise<void> {
    const { firewalls, tunnel, recordPath } = this.#options;
    if (firewalls.length === 0) return;
    await writeFileAtomic(recordPath, `${[tunnel, ...firewalls].join(" ")}\n`);
    for (const firewall of firewalls) {
      const failure = firewall === "firewalld" ? await this.#trust() : await this.#insert(devices);
      this.#note(firewall, failure);
    }
  }

  async close(): Promise<void> {
    const { firewalls, tunnel } = this.#options;
    if (firewalls.length > 0) await this.#takeBack(tunnel, firewalls);
  }

  async #takeBack(tunnel: string, firewalls: readonly string[]): Promise<void> {
    for (const firewall of acceptingFirewalls) {
      if (!firewalls.includes(firewall)) continue;
      if (firewall === "docker-user") await this.#deleteOurs();
      else await tried("firewall-cmd", ["--zone=trusted", `--remove-interface=${tunnel}`]);
    }
    await rm(this.#options.recordPath, { force: true });
  }

  async #trust(): Promise<string | undefined> {
    const { tunnel } = this.#options;
    const asked = await tried("firewall-cmd", ["--zone=trusted", `--query-interface=${tunnel}`]);
    if (asked === undefined) return undefined;
    return await tried("firewall-cmd", ["--zone=trusted", `--change-interface=${tunnel}`]);
  }

  async #insert(devices: readonly string[]): Promise<string | undefined> {
    const { tunnel } = this.#options;
    const matches = devices.flatMap((egress) => acceptingMatches({ tunnel, egress }));
    const wanted = matches.map((match) => this.#rule(match));
    const { lines, failure } = await listed();
    if (failure !== undefined) return failure;
    const ours = lines.filter((line) => this.#isOurs(line));
    if (ours.length === wanted.length && wanted.every((rule) => ours.includes(rule))) return undefined;
    await this.#deleteOurs();
    for (const rule of wanted) {
      const refused = await tried("iptables", [...LOCKED, ...rule.replace("-A ", "-I ").split(" ")]);
      if (refused !== undefined) return refused;
    }
    return undefined;
  }

  async #deleteOurs(): Promise<void> {
    const { lines } = await listed();
    for (const line of lines.filter((one) => this.#isOurs(one)))
      await tried("iptables", [...LOCKED, ...line.replace("-A ", "-D ").split(" ")]);
  }

  /** As `iptables -S` prints it. */
  #rule(match: string): string {
    return `-A ${CHAIN} ${match} -m comment --comment ${this.#options.name} -j ACCEPT`;
  }

  #isOurs(line: string): boolean {
    return line.includes(` --comment ${this.#options.name} `);
  }

  #note(firewall: AcceptingFirewall, failure: string | undefined): void {
    const text = failure === undefined ? "" : `${firewall}: ${failure}`;
    if (text !== "" && text !== this.#refused)
      this.#options.log.warn("forward-accept", { firewall, message: failure });
    this.#refused = text;
  }
}

async function listed(): Promise<{
  readonly lines: readonly string[];
  readonly failure: string | undefined;
}> {
  const { code, stdout, stderr } = await run("iptables", [...LOCKED, "-S", CHAIN]).catch(notStarted);
  const lines = stdout.split("\n").map((line) => line.trim());
  return { lines, failure: code === 0 ? undefined : firstLine(stderr, code) };
}

/** What went wrong. */
async function tried(command: string, args: readonly string[]): Promise<string | undefined> {
  const { code, stdout, stderr } = await run(command, args).catch(notStarted);
  return code === 0 ? undefined : firstLine(`${stderr}\n${stdout}`, code);
}

function notStarted(error: unknown) {
  return { code: -1, stdout: "", stderr: error instanceof Error ? error.message : String(error) };
}

function firstLine(text: string, code: number): string {
  const lines = text.split("\n").map((line) => line.trim());
  return lines.find((line) => line !== "" && !line.startsWith("#")) ?? `code ${code}`;
}
