import { once } from "node:events";
import { type Command, Option } from "commander";
import { UsageError } from "../base/errors.ts";
import { type Millis, seconds } from "../base/time.ts";
import { type Condition, CONDITIONS, conditionsOf, type Fleet, fleetOf } from "../health/fleet.ts";
import { FleetReader } from "../io/aws/fleet.ts";
import { type Listen, parseListen } from "../io/config.ts";
import { startFleetWeb } from "../io/fleet-web.ts";
import { type CommandContext, type Environment, printLines } from "./context.ts";
import { failureLines, fleetLines } from "./fleet-text.ts";
import { addSwitch, durationOption, newCommand } from "./options.ts";

interface FleetFlags {
  readonly region?: readonly string[];
  readonly allRegions?: true;
  readonly watch?: true;
  readonly interval?: Millis;
  readonly json: boolean;
  readonly failOn?: readonly Condition[];
  readonly web?: true;
  readonly listen?: Listen;
}

/** A condition of --fail-on holds: told apart from 1, which is that not all could be read. */
const ALERT = 3;
const FAILED = 1;
const INTERVAL = seconds(30);
const SHORTEST_INTERVAL = seconds(5);
const LOOPBACK: Listen = { host: "127.0.0.1", port: 8_767 };
/** Both families. */
const ANYWHERE = "::";

export function fleetCommand(context: CommandContext): Command {
  const command = newCommand(
    "fleet",
    "show from the tags of EC2 which nodes are direct, relayed or in trouble",
  )
    .addOption(regionOption())
    .option("--all-regions", "all regions that the account has enabled")
    .option("--watch", "again and again, until interrupted")
    .addOption(durationOption("--interval", "between two looks of --watch and --web (default 30s)"))
    .addOption(failOnOption())
    .option("--web", "serve a page that shows it, until interrupted")
    .addOption(listenOption())
    .addHelpText("after", HELP)
    .action(async (flags: FleetFlags) => {
      const reader = new FleetReader({ regions: regionsOf(flags), calendar: context.calendar });
      try {
        if (flags.web === true) await serveFleet(reader, flags, context);
        else await runFleet(reader, flags, context);
      } finally {
        reader.close();
      }
    });
  return addSwitch(command, "json", "print JSON for programs; with --watch one line each time", false);
}

const HELP = `
Exit code: 0 all could be read; 3 a condition of --fail-on holds of some node; 1 not all could be read; 2 misused.
It needs ec2:DescribeInstances, and with --all-regions ec2:DescribeRegions.`;

async function runFleet(reader: FleetReader, flags: FleetFlags, context: CommandContext): Promise<void> {
  const { interrupt } = context.stdio;
  const interval = intervalOf(flags);
  for (;;) {
    const fleet = fleetOf(await reader.read());
    print(fleet, flags, context);
    context.exitCode = exitCodeOf(fleet, flags.failOn ?? []);
    if (flags.watch !== true) return;
    await context.sleep(interval, interrupt);
    if (interrupt.aborted) return;
  }
}

/** Who looks from another machine needs the token, which is in the address that is printed. */
async function serveFleet(reader: FleetReader, flags: FleetFlags, context: CommandContext): Promise<void> {
  const { interrupt, stdout } = context.stdio;
  const { host = ANYWHERE, port } = flags.listen ?? LOOPBACK;
  const page = await startFleetWeb({
    ...{ host, port, interval: intervalOf(flags), token: tokenOf(context.env) },
    read: async () => fleetOf(await reader.read()),
  });
  try {
    printLines(stdout, page.urls);
    if (!interrupt.aborted) await once(interrupt, "abort");
  } finally {
    await page.close();
  }
}

/** @throws UsageError */
function tokenOf(env: Environment): string | undefined {
  const token = env["SALLYPORT_FLEET_TOKEN"] ?? "";
  if (token === "" || /^[\w-]{20,128}$/.test(token)) return token === "" ? undefined : token;
  const remedy = "give 20 to 128 letters, digits, - and _, or leave it out for a random one";
  throw new UsageError("bad-fleet-token", `SALLYPORT_FLEET_TOKEN is no token: ${remedy}`);
}

function print(fleet: Fleet, { json, watch }: FleetFlags, { stdio, env }: CommandContext): void {
  const { stdout, stderr } = stdio;
  if (json) {
    stdout.write(`${JSON.stringify(fleet, undefined, watch === true ? undefined : 2)}\n`);
    return;
  }
  const isTerminal = stdout.isTTY === true;
  // Home, and clear to the end: the table is drawn over the last one.
  if (watch === true && isTerminal) stdout.write("\u001b[H\u001b[2J");
  printLines(stdout, fleetLines(fleet, isTerminal && (env["NO_COLOR"] ?? "") === ""));
  printLines(stderr, failureLines(fleet));
}

function exitCodeOf(fleet: Fleet, failOn: readonly Condition[]): number {
  const holding = conditionsOf(fleet);
  const isAlert = failOn.some((condition) => holding.has(condition));
  const nothingRead = fleet.failures.length === fleet.regions.length && fleet.regions.length > 0;
  if (isAlert && !nothingRead) return ALERT;
  return fleet.failures.length > 0 ? FAILED : 0;
}

/** @throws UsageError */
function regionsOf({ region, allRegions }: FleetFlags): readonly string[] | "all" | undefined {
  if (region !== undefined && allRegions === true) {
    throw new UsageError("fleet-regions", "give --region or --all-regions, not both");
  }
  return allRegions === true ? "all" : region;
}

/** @throws UsageError */
function intervalOf({ interval = INTERVAL }: FleetFlags): Millis {
  if (interval >= SHORTEST_INTERVAL) return interval;
  throw new UsageError(
    "fleet-interval",
    "--interval is too short: give 5s or more, since the account's calls are limited",
  );
}

function regionOption(): Option {
  return new Option(
    "--region <region>",
    "an AWS region; may be given again (default: AWS_REGION, or the profile's)",
  ).argParser((text: string, former?: readonly string[]): readonly string[] => {
    if (/^[a-z]{2}(-[a-z]+){1,3}-\d{1,2}$/.test(text)) return [...(former ?? []), text];
    throw new UsageError("bad-region", "--region is no AWS region: give a name such as eu-central-1");
  });
}

function listenOption(): Option {
  const summary =
    "where --web listens (default 127.0.0.1:8767); any but a loopback address needs the token that is printed";
  return new Option("--listen <address:port>", summary).argParser((text: string): Listen => {
    const listen = parseListen(text);
    if (listen !== undefined) return listen;
    throw new UsageError("bad-listen", "--listen takes ADDRESS:PORT or :PORT, with a port from 1 to 65535");
  });
}

function failOnOption(): Option {
  return new Option(
    "--fail-on <condition>",
    `exit with 3 where a node is ${CONDITIONS.join(", ")}; may be given again`,
  ).argParser((text: string, former?: readonly Condition[]): readonly Condition[] => {
    const found = text.split(",").map((word) => CONDITIONS.find((condition) => condition === word));
    const known = found.filter((condition) => condition !== undefined);
    if (known.length === found.length) return [...(former ?? []), ...known];
    throw new UsageError("bad-fail-on", `--fail-on takes ${CONDITIONS.join(", ")}`);
  });
}
