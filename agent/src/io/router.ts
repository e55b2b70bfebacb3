/**
 * Tells the kernel what belongs to the tunnel: the device's addresses, and which destinations go into it.
 *
 * Routes lie in a table of their own, which a rule consults before the main one; our own sockets carry a
 * mark that passes it by, so a route into the tunnel never catches the tunnel's packets. The numbers are
 * those that Tailscale uses. One call of `ip` per change: what is already set is not set again.
 */
import { existsSync, readFileSync } from "node:fs";
import type { Ip, Prefix } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { type Millis, millis } from "../base/time.ts";
import { runProgram } from "./command.ts";
import {
  blockSettings,
  type ExitNumbers,
  type ExitRouting,
  type ExitSetting,
  exitRuleTexts,
  exitSettings,
  guardName,
  guardRemoval,
  guardText,
} from "./exit-rules.ts";
import type { KernelChange } from "./kernel-watch/change.ts";
import { type KernelWatch, watchKernel } from "./kernel-watch/watch.ts";
import { runNft } from "./nft.ts";
import { heedMarks } from "./source-check.ts";
import type { PacketDevice } from "./tun.ts";

export interface Routing {
  readonly addresses: readonly Ip[];
  /** Destinations that go into the tunnel. */
  readonly routes: readonly Prefix[];
  readonly mtu: number;
  /** All other traffic goes into the tunnel by `routes`, or nowhere. */
  readonly exit?: ExitRouting | undefined;
}

export interface Router {
  /** Makes the kernel's state equal to `routing`. What failed is tried again at the next call. @throws OperationError */
  apply(routing: Routing): Promise<void>;
  /** Takes back all that was set, also by a process that was killed. */
  cleanup(): Promise<void>;
  /** Leaves the kernel as it is; who comes next takes it over. */
  release(): Promise<void>;
}

/** The numbers by which several tunnels on one machine stay apart. */
export interface RouterOptions {
  readonly device: string;
  /** @default 52 */
  readonly table?: number;
  /** Priority of the first rule; the others follow at +20, +40 and +60. @default 5210 */
  readonly rulePriority?: number;
  /** @default OWN_MARK */
  readonly mark?: number;
  /** The program of iproute2. @default "ip" */
  readonly command?: string;
  /** That of nftables. @default "nft" */
  readonly nft?: string;
  /** What others removed was set again. */
  readonly onRestored?: () => void;
  /** It could not be set again. */
  readonly onError?: (error: unknown) => void;
}

/** SO_MARK of the tunnel's own sockets. Only the bits of MARK_MASK are ours. */
export const OWN_MARK = 0x80000;
const MARK_MASK = 0xff0000;

const DEFAULT_TABLE = 52;
const DEFAULT_PRIORITY = 5210;

/** Of the rules' priorities, from the first; those of the exit are exit-rules.ts's. */
const RULES = [0, 20, 40, 50, 55, 60, 62];

/** For devices that the kernel does not know. */
export const noRouter: Router = {
  apply: () => Promise.resolve(),
  cleanup: () => Promise.resolve(),
  release: () => Promise.resolve(),
};

export function routerFor(
  device: Pick<PacketDevice, "kind" | "name">,
  options: Omit<RouterOptions, "device"> = {},
): Router {
  if (device.kind === "memory" || process.platform !== "linux") return noRouter;
  return new LinuxRouter({ ...options, device: device.name });
}

/** One line for `ip -batch`, and the answers that mean that it is already so. */
interface Line {
  readonly text: string;
  readonly alreadySo: RegExp;
}

/** Something set in the kernel, with the way to set it and to take it back. */
interface Setting {
  /** "v6" is for devices that take IPv6 addresses, "kernel-v6" for kernels with IPv6. */
  readonly family: "any" | "v6" | "kernel-v6";
  readonly set: string;
  readonly unset: string | undefined;
}

const EXISTS = /File exists/;
const GONE = /No such process|No such file|Cannot find device|Cannot assign|does not exist/;

/** Who removes one rule often removes the others, too. */
const SETTLE: Millis = millis(100);

const EMPTY: Routing = { addresses: [], routes: [], mtu: 0 };

export class LinuxRouter implements Router {
  readonly #options: RouterOptions;
  readonly #device: string;
  readonly #command: string;
  readonly #numbers: ExitNumbers;
  readonly #rules: readonly Setting[];
  /** What is set, in the order in which it was; by its text. */
  readonly #set = new Map<string, Setting>();
  #guard: string | undefined;
  #forgetMarks: (() => void) | undefined;
  #last: Promise<void> = Promise.resolve();
  #routing = EMPTY;
  #watch: KernelWatch | undefined;
  #settling: NodeJS.Timeout | undefined;
  /** What a killed process left was taken back. */
  #isClean = false;

  constructor(options: RouterOptions) {
    const { table = DEFAULT_TABLE, rulePriority: priority = DEFAULT_PRIORITY, mark = OWN_MARK } = options;
    this.#options = options;
    this.#device = options.device;
    this.#command = options.command ?? "ip";
    this.#numbers = { device: options.device, table, priority, mark, markMask: MARK_MASK };
    this.#rules = rules(table, priority, mark);
  }

  apply(routing: Routing): Promise<void> {
    return this.#inTurn(async () => {
      this.#routing = routing;
      await this.#change(this.#wanted(routing), routing);
      this.#watch ??= this.#watchKernel();
    });
  }

  cleanup(): Promise<void> {
    return this.#inTurn(async () => {
      this.#unwatch();
      this.#routing = EMPTY;
      await this.#change([], EMPTY);
    });
  }

  release(): Promise<void> {
    return this.#inTurn(() => {
      this.#unwatch();
      return Promise.resolve();
    });
  }

  /** Two changes at once would work on the same difference. */
  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(change);
    this.#last = turn.catch(() => {});
    return turn;
  }

  #wanted({ addresses, routes, mtu, exit }: Routing): readonly Setting[] {
    const device = this.#device;
    const settings: Setting[] = [
      { family: "any", set: `link set dev ${device} mtu ${mtu} up`, unset: undefined },
    ];
    if (exit !== undefined) settings.push(...blockSettings(this.#numbers).map(settingOf));
    for (const ip of addresses) {
      const address = ip.isV4 ? `${ip.text}/32 dev ${device}` : `${ip.text}/128 dev ${device}`;
      const set = ip.isV4 ? `address replace ${address}` : `address replace ${address} nodad`;
      settings.push({ family: ip.isV4 ? "any" : "v6", set, unset: `address del ${address}` });
    }
    for (const { ip, text } of routes) {
      const route = `${text} dev ${device} table ${this.#numbers.table}`;
      settings.push(routeSetting(ip.isV4 ? "any" : "v6", route));
    }
    if (exit !== undefined) settings.push(...exitSettings(this.#numbers, exit).map(settingOf));
    settings.push(...this.#rules);
    const has = { any: true, v6: hasIpv6(device), "kernel-v6": kernelHasIpv6() };
    return settings.filter(({ family }) => has[family]);
  }

  /** The guard stands before anything leads into the tunnel, and until nothing does. */
  async #change(wanted: readonly Setting[], { exit, routes }: Routing): Promise<void> {
    const guard = exit === undefined ? undefined : guardText(this.#numbers, exit, routes);
    const failed = guard === undefined ? undefined : await this.#setGuard(guard);
    const keep = new Set(wanted.map(({ set }) => set));
    const removed = [...this.#set.values()].filter(({ set }) => !keep.has(set)).toReversed();
    const added = wanted.filter(({ set }) => !this.#set.has(set));
    await runBatch(this.#command, this.#leftovers(exit !== undefined));
    const failures = await runBatch(this.#command, [
      ...removed.flatMap(({ unset }) => (unset === undefined ? [] : [{ text: unset, alreadySo: GONE }])),
      ...added.map(({ set }) => ({ text: set, alreadySo: EXISTS })),
    ]);
    for (const { set } of removed) this.#set.delete(set);
    for (const setting of added) if (!failures.has(setting.set)) this.#set.set(setting.set, setting);
    if (guard === undefined) await this.#removeGuard();
    this.#isClean = true;
    if (failed !== undefined) throw failed;
    throwFirst(failures);
  }

  /** What is in our tables while nobody else may use them. */
  #leftovers(withExit: boolean): readonly Line[] {
    if (this.#isClean) return [];
    const { table } = this.#numbers;
    const lines = ["", "-6 "].flatMap((family) => {
      const flushed = [table, table + 1].map((each) => `${family}route flush table ${each}`);
      const ruleTexts = withExit ? [] : exitRuleTexts(this.#numbers, family === "" ? "v4" : "v6");
      return [...flushed, ...ruleTexts.map((text) => `${family}rule del ${text}`)];
    });
    return lines.map((text) => ({ text, alreadySo: /./ }));
  }

  async #setGuard(text: string): Promise<unknown> {
    if (this.#guard === text) return undefined;
    try {
      await runNft(text, this.#options.nft);
      this.#guard = text;
      this.#forgetMarks ??= heedMarks();
      return undefined;
    } catch (error) {
      return error;
    }
  }

  /** A machine without nftables has none. */
  async #removeGuard(): Promise<void> {
    if (this.#isClean && this.#guard === undefined) return;
    this.#guard = undefined;
    this.#forgetMarks?.();
    this.#forgetMarks = undefined;
    await runNft(guardRemoval(this.#device), this.#options.nft).catch(() => {});
  }

  /** Setting it anew would be heard as its removal. */
  async #hasGuard(): Promise<boolean> {
    if (this.#guard === undefined) return false;
    const name = guardName(this.#device);
    return await runNft(`list table inet ${name}`, this.#options.nft).then(
      () => true,
      () => false,
    );
  }

  #watchKernel(): KernelWatch {
    const heard = (change: KernelChange): void => {
      if (this.#watch !== undefined && this.#settling === undefined && this.#wasOurs(change)) {
        this.#settling = setTimeout(() => this.#restore(), SETTLE).unref();
      }
    };
    return watchKernel(heard, { ip: this.#command, nft: this.#options.nft ?? "nft" });
  }

  #unwatch(): void {
    this.#watch?.close();
    this.#watch = undefined;
    clearTimeout(this.#settling);
    this.#settling = undefined;
  }

  /** Whether something must be set right. What is set again takes nothing away, so it is not heard as a removal. */
  #wasOurs(change: KernelChange): boolean {
    const { table, priority } = this.#numbers;
    switch (change.kind) {
      case "rule-gone":
        return RULES.some((offset) => change.priority === priority + offset);
      case "route-gone":
        return change.table === table || change.table === table + 1;
      case "address-gone":
        return this.#routing.addresses.some(({ text }) => text === change.ip.text);
      case "device-down":
        return change.device === this.#device;
      case "table-gone":
        return this.#guard !== undefined && change.name === guardName(this.#device);
      case "lost":
        return true;
      case "other":
        return false;
    }
  }

  /** Sets everything again; what is still there stays as it is. */
  #restore(): void {
    this.#settling = undefined;
    const done = this.#inTurn(async () => {
      if (this.#watch === undefined) return;
      this.#set.clear();
      if (!(await this.#hasGuard())) this.#guard = undefined;
      await this.#change(this.#wanted(this.#routing), this.#routing);
      this.#options.onRestored?.();
    });
    done.catch((error: unknown) => this.#options.onError?.(error));
  }
}

function throwFirst(failures: ReadonlyMap<string, string>): void {
  const [first] = failures;
  if (first === undefined) return;
  const [line, reason] = first;
  const others = failures.size > 1 ? ` (and ${failures.size - 1} more)` : "";
  throw new OperationError("router", `"ip ${line}" failed${others}: ${reason}. ${remedyFor(reason)}`);
}

function routeSetting(family: Setting["family"], route: string): Setting {
  return { family, set: `route replace ${route}`, unset: `route del ${route}` };
}

function settingOf({ family, onDevice, kind, text }: ExitSetting): Setting {
  const of = family === "v4" ? "any" : onDevice ? "v6" : "kernel-v6";
  if (kind === "route") return routeSetting(of, text);
  const prefix = family === "v4" ? "" : V6_RULE;
  return { family: of, set: `${prefix}rule add ${text}`, unset: `${prefix}rule del ${text}` };
}

function rules(table: number, priority: number, mark: number): readonly Setting[] {
  const marked = `fwmark 0x${mark.toString(16)}/0x${MARK_MASK.toString(16)}`;
  const texts = [
    `pref ${priority} ${marked} lookup main`,
    `pref ${priority + 20} ${marked} lookup default`,
    `pref ${priority + 40} ${marked} unreachable`,
    `pref ${priority + 60} lookup ${table}`,
  ];
  return texts.flatMap((text): Setting[] => [
    { family: "any", set: `rule add ${text}`, unset: `rule del ${text}` },
    { family: "kernel-v6", set: `${V6_RULE}rule add ${text}`, unset: `${V6_RULE}rule del ${text}` },
  ]);
}

/** A rule without an address does not show its family: these lines go to an `ip -6`. */
const V6_RULE = "-6 ";

function kernelHasIpv6(): boolean {
  return existsSync("/proc/sys/net/ipv6");
}

/** Whether the kernel has IPv6 and the device takes such addresses. */
function hasIpv6(device: string): boolean {
  try {
    return readFileSync(`/proc/sys/net/ipv6/conf/${device}/disable_ipv6`, "latin1").trim() === "0";
  } catch {
    return false;
  }
}

/** Runs the lines, those for `ip -6` beside the others. Returns each line that failed with its reason. */
async function runBatch(command: string, lines: readonly Line[]): Promise<ReadonlyMap<string, string>> {
  const isV6Rule = (line: Line): boolean => line.text.startsWith(V6_RULE);
  const [main, v6Rules] = await Promise.all([
    runIp(
      command,
      [],
      lines.filter((line) => !isV6Rule(line)),
      (line) => line.text,
    ),
    runIp(command, ["-6"], lines.filter(isV6Rule), (line) => line.text.slice(V6_RULE.length)),
  ]);
  return new Map([...main, ...v6Rules]);
}

async function runIp(
  command: string,
  options: readonly string[],
  lines: readonly Line[],
  textOf: (line: Line) => string,
): Promise<readonly (readonly [string, string])[]> {
  if (lines.length === 0) return [];
  const said = await sayingOfIp(command, [...options, "-force", "-batch", "-"], lines.map(textOf));
  const failures: (readonly [string, string])[] = [];
  let reason = "";
  for (const text of said.split("\n")) {
    const [, number] = /^Command failed -:(\d+)$/.exec(text) ?? [];
    const line = number === undefined ? undefined : lines[Number(number) - 1];
    if (line === undefined) {
      if (text !== "") reason = text.replace(/^(RTNETLINK answers|Error): /, "");
    } else if (!line.alreadySo.test(reason)) {
      failures.push([line.text, reason]);
    }
  }
  return failures;
}

const NO_IP = { code: "router-no-ip", remedy: "install iproute2, or use --tun memory" };

/** Standard error of `ip`, which with -force goes on after a line that fails and names its number. */
async function sayingOfIp(
  command: string,
  args: readonly string[],
  lines: readonly string[],
): Promise<string> {
  const stdin = lines.map((line) => `${line}\n`).join("");
  const { code, stderr } = await runProgram(command, args, { stdin, absent: NO_IP });
  if (code === 0 || stderr.includes("Command failed")) return stderr;
  throw new OperationError("router", `"ip ${args.join(" ")}" failed: ${stderr.trim() || `code ${code}`}`);
}

function remedyFor(reason: string): string {
  return /not permitted|Permission denied/.test(reason)
    ? "Run as root, give CAP_NET_ADMIN, or use --tun memory"
    : "Another program may have changed the device or its routes; restart the daemon";
}
