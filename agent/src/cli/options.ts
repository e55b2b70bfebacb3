/** What several commands share: their flags, and how the values reach them. */
import { Command, Option } from "commander";
import { UsageError } from "../base/errors.ts";
import { type Millis, millis, minutes } from "../base/time.ts";
import { commonSettings, DEFAULT_SOCKET, readConfigFile, type ConfigFile } from "../io/config.ts";
import { readSettings, refuse, type Settings, type ValuesOf } from "../io/settings.ts";
import type { CommandContext } from "./context.ts";
import { parseDuration } from "./duration.ts";

export type FlagValues = Readonly<Record<string, unknown>>;

/** A command that fails by exceptions only, and whose action sets the exit code. */
export function newCommand(name: string, summary: string): Command {
  return new Command(name).description(summary).allowExcessArguments(false);
}

export const configOption = (): Option => new Option("--config <file>", "configuration file (JSON)");
export const socketOption = (): Option => new Option("--socket <path>", "Unix socket of the daemon");

/** Reads a role's settings from flags, variables and the file; all mistakes at once. @throws UsageError, OperationError */
export async function settingsOf<S extends Settings>(
  settings: S,
  flags: FlagValues,
  context: CommandContext,
  section: Exclude<keyof ConfigFile, "path">,
): Promise<ValuesOf<S>> {
  const problems: string[] = [];
  const file = await readConfigFile(configPathOf(flags, context), problems);
  const values = readSettings(settings, { flags, env: context.env, file: file[section] }, problems);
  refuse(problems);
  return values;
}

/** Where the daemon listens, for the commands that ask it. @throws UsageError, OperationError */
export async function socketOf(flags: FlagValues, context: CommandContext): Promise<string> {
  const { socket } = await settingsOf({ socket: commonSettings.socket }, flags, context, "daemon");
  return socket ?? DEFAULT_SOCKET;
}

/** A flag that is on or off: --name and --no-name, of which the help shows the one that changes something. */
export function addSwitch(command: Command, name: string, summary: string, byDefault: boolean): Command {
  const on = new Option(`--${name}`, summary).default(byDefault).hideHelp(byDefault);
  const off = new Option(`--no-${name}`, summary).hideHelp(!byDefault);
  return command.addOption(on).addOption(off);
}

/** @param longest a timer of Node's that is longer than 24.8 days fires at once */
export function durationOption(flag: string, summary: string, longest: Millis = DAY): Option {
  return new Option(`${flag} <duration>`, summary).argParser((text: string): Millis => {
    const duration = parseDuration(text);
    const hours = Math.floor(longest / HOUR);
    if (duration !== undefined && duration <= longest) return duration;
    const remedy =
      duration === undefined ? "give a duration such as 5s, 500ms or 1m30s" : `give at most ${hours}h`;
    throw new UsageError("bad-duration", `${flag} is "${text}": ${remedy}`);
  });
}

export const HOUR: Millis = minutes(60);
const DAY: Millis = millis(24 * HOUR);

export function countOption(flags: string, name: string, summary: string): Option {
  return new Option(flags, summary).argParser((text: string): number => {
    if (/^\d{1,9}$/.test(text)) return Number(text);
    throw new UsageError("bad-count", `${name} is "${text}": give a whole number, 0 for without end`);
  });
}

function configPathOf(flags: FlagValues, context: CommandContext): string | undefined {
  const flag = flags["config"];
  if (typeof flag === "string") return flag;
  const variable = context.env["SALLYPORT_CONFIG"];
  return variable === "" ? undefined : variable;
}
