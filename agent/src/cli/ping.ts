import type { Command } from "commander";
import type { PingReply, PingRequest } from "../health/local-backend.ts";
import { type Millis, seconds } from "../base/time.ts";
import { formatRfc3339 } from "../base/rfc3339.ts";
import { LocalApiClient } from "../io/local-api-client.ts";
import { LONGEST_TIMEOUT } from "../io/local-api-server.ts";
import type { CommandContext } from "./context.ts";
import {
  addSwitch,
  configOption,
  countOption,
  durationOption,
  newCommand,
  socketOf,
  socketOption,
} from "./options.ts";
import { replyLine } from "./ping-text.ts";

export interface PingFlags {
  readonly c: number;
  readonly untilDirect: boolean;
  readonly timeout: Millis;
  readonly json: boolean;
  readonly verbose: boolean;
}

/** The daemon, or what stands in for it. */
export interface Pinger {
  ping(request: PingRequest, signal?: AbortSignal): Promise<PingReply>;
}

export function pingCommand(context: CommandContext): Command {
  const command = newCommand("ping", "ask a peer for a sign of life, by the path in use")
    .argument("<host>", "a peer's name or address")
    .addOption(countOption("-c <count>", "-c", "how often to ask, 0 for without end").default(DEFAULT_COUNT))
    .addOption(
      durationOption("--timeout", "how long to wait for each answer", LONGEST_TIMEOUT).default(
        seconds(5),
        "5s",
      ),
    )
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (host: string, flags: PingFlags) => {
      const daemon = new LocalApiClient(await socketOf({ ...flags }, context), context.stdio.interrupt);
      context.exitCode = await ping(daemon, host, flags, context);
    });
  addSwitch(command, "until-direct", "go on when a direct connection answers", true);
  addSwitch(command, "json", "print JSON for programs, one object a line", false);
  return addSwitch(command, "verbose", "say which address the name stands for", false);
}

/** Asks until it is answered directly, `flags.c` times, or Ctrl-C. Returns the exit code. */
async function ping(
  daemon: Pinger,
  host: string,
  flags: PingFlags,
  context: CommandContext,
): Promise<number> {
  const { stdio } = context;
  let pongs = 0;
  for (let asked = 1; ; asked++) {
    const reply = await unlessInterrupted(
      daemon.ping({ target: host, timeoutMs: flags.timeout }, stdio.interrupt),
      stdio.interrupt,
    );
    if (reply === "interrupted") return interrupted(asked - 1, pongs, context);
    print(reply, host, flags, asked, context);
    if (reply.kind === "local") return 0;
    if (reply.kind === "not-running") return 1;
    if (reply.kind === "no-match") return fail("no matching peer", context);
    if (reply.kind === "pong") pongs++;
    if (isDirect(reply) && flags.untilDirect) return 0;
    if (asked === flags.c) return conclude(pongs, flags, context);
    if (reply.kind === "pong") await context.sleep(PAUSE, stdio.interrupt);
    if (stdio.interrupt.aborted) return interrupted(asked, pongs, context);
  }
}

/** Tailscale's. */
const DEFAULT_COUNT = 10;
/** Between a pong and the next question. After a timeout enough time has passed. */
const PAUSE: Millis = seconds(1);
/** 128 + SIGINT, as shells report it. */
const INTERRUPTED = 130;

function print(
  reply: PingReply,
  host: string,
  flags: PingFlags,
  asked: number,
  { stdio, calendar }: CommandContext,
): void {
  if (flags.verbose && asked === 1 && "ip" in reply && reply.ip !== host) {
    const at = formatRfc3339(calendar.now()).slice(0, 19).replaceAll("-", "/").replace("T", " ");
    stdio.stderr.write(`${at} lookup ${JSON.stringify(host)} => ${JSON.stringify(reply.ip)}\n`);
  }
  const line = flags.json ? JSON.stringify(reply) : replyLine(reply);
  if (line !== undefined) stdio.stdout.write(`${line}\n`);
}

/** A relay of another peer is no direct connection either. */
function isDirect(reply: PingReply): boolean {
  return reply.kind === "pong" && reply.via.kind === "direct";
}

function conclude(pongs: number, flags: PingFlags, context: CommandContext): number {
  if (pongs === 0) return fail("no reply", context);
  return flags.untilDirect ? fail("direct connection not established", context) : 0;
}

function fail(text: string, { stdio }: CommandContext): number {
  stdio.stderr.write(`${text}\n`);
  return 1;
}

function interrupted(asked: number, pongs: number, { stdio }: CommandContext): number {
  stdio.stderr.write(`interrupted: ${pongs} of ${asked} pings answered\n`);
  return INTERRUPTED;
}

async function unlessInterrupted<T>(work: Promise<T>, interrupt: AbortSignal): Promise<T | "interrupted"> {
  let stop = (): void => {};
  const stopped = new Promise<"interrupted">((resolve) => {
    stop = () => resolve("interrupted");
    if (interrupt.aborted) stop();
    interrupt.addEventListener("abort", stop, { once: true });
  });
  try {
    return await Promise.race([work, stopped]);
  } catch (error) {
    if (interrupt.aborted) return "interrupted";
    throw error;
  } finally {
    interrupt.removeEventListener("abort", stop);
    work.catch(() => {});
  }
}
