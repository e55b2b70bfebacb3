/** All commands as one program, and what is said when it is misused or fails. */
import { type Command, CommanderError } from "commander";
import { InternalError, ParseError, SallyportError, UsageError } from "../base/errors.ts";
import { VERSION } from "../base/version.ts";
import type { CommandContext, Environment, Sink } from "./context.ts";
import { cellCommand } from "./cell.ts";
import { controlCommand } from "./control.ts";
import { daemonCommand } from "./daemon.ts";
import { downCommand } from "./down.ts";
import { exitNodeCommand } from "./exit-node.ts";
import { fleetCommand } from "./fleet.ts";
import { logoutCommand } from "./logout.ts";
import { netcheckCommand } from "./netcheck.ts";
import { newCommand } from "./options.ts";
import { pingCommand } from "./ping.ts";
import { relayCommand } from "./relay.ts";
import { setCommand } from "./set.ts";
import { statusCommand } from "./status.ts";
import { upCommand } from "./up.ts";
import { versionCommand } from "./version.ts";
import { wireguardCommand } from "./wireguard.ts";

/** Runs one command line, without the interpreter and the script. Returns the exit code; never throws. */
export async function runProgram(args: readonly string[], context: CommandContext): Promise<number> {
  const program = newProgram(context);
  try {
    await program.parseAsync(args.map(asFlag), { from: "user" });
    return context.exitCode;
  } catch (error) {
    if (context.stdio.interrupt.aborted) return INTERRUPTED;
    if (!(error instanceof CommanderError)) return report(error, context.env, context.stdio.stderr);
    if (error.exitCode === 0) return 0;
    // Called without a command, commander has printed the help already.
    if (error.code !== "commander.help") {
      context.stdio.stderr.write(`${misuseText(error, program, args)}\n`);
    }
    return MISUSED;
  }
}

/** One line for people, and the code for programs; the stack only where it was asked for. */
export function report(error: unknown, env: Environment, stderr: Sink): number {
  const expected = error instanceof SallyportError && !(error instanceof InternalError);
  if (expected) {
    stderr.write(`${error.message}\n`);
  } else {
    const code = error instanceof SallyportError ? error.code : "unexpected";
    const text = error instanceof Error ? error.message : String(error);
    stderr.write(
      `internal error (${code}): ${text}: please report it with the output of SALLYPORT_DEBUG=1\n`,
    );
  }
  if (env["SALLYPORT_DEBUG"] === "1" && error instanceof Error) stderr.write(`${error.stack}\n`);
  return error instanceof UsageError || error instanceof ParseError ? MISUSED : FAILED;
}

const FAILED = 1;
const MISUSED = 2;
/** 128 + SIGINT, as shells report it. */
const INTERRUPTED = 130;

/** Flags that may be written as in Go: "--until-direct=false" is "--no-until-direct". */
const SWITCHES =
  /^--(until-direct|peers|self|active|header|json|verbose|advertise-exit-node|accept-routes|exit-node-allow-lan-access)=(true|false)$/;

function newProgram(context: CommandContext): Command {
  const program = newCommand("sallyport", "Direct connections to machines in the cloud.")
    .version(VERSION, "--version", "print the version")
    .addCommand(statusCommand(context))
    .addCommand(pingCommand(context))
    .addCommand(netcheckCommand(context))
    .addCommand(upCommand(context))
    .addCommand(setCommand(context))
    .addCommand(downCommand(context))
    .addCommand(exitNodeCommand(context))
    .addCommand(logoutCommand(context))
    .addCommand(fleetCommand(context))
    .addCommand(daemonCommand(context))
    .addCommand(relayCommand(context))
    .addCommand(controlCommand(context))
    .addCommand(cellCommand(context))
    .addCommand(wireguardCommand(context))
    .addCommand(versionCommand(context));
  inherit(program, context);
  return program;
}

/** Output goes where the context says, and nothing ends the process. */
function inherit(command: Command, context: CommandContext): void {
  const { stdout, stderr } = context.stdio;
  command
    .exitOverride()
    .enablePositionalOptions()
    .configureOutput({
      writeOut: (text) => void stdout.write(text),
      writeErr: (text) => void stderr.write(text),
      outputError: () => {},
    });
  for (const child of command.commands) inherit(child, context);
}

function asFlag(arg: string): string {
  const [, name, value] = SWITCHES.exec(arg) ?? [];
  if (name === undefined) return arg;
  return value === "true" ? `--${name}` : `--no-${name}`;
}

/** "unknown option '--prt' (Did you mean --port?)", or with a pointer to the help. Values are cut off: they may be secrets. */
function misuseText(error: CommanderError, program: Command, args: readonly string[]): string {
  const text = error.message
    .replace(/^error: /, "")
    .replace(/'(--?[^'=]+)=[^']*'/, "'$1'")
    .replace(/\.$/, "")
    .replaceAll("\n", " ");
  return text.includes("Did you mean") ? text : `${text}: see \`${pathOf(program, args)} --help\``;
}

/** The command that was meant, such as "sallyport control nodes". */
function pathOf(program: Command, args: readonly string[]): string {
  let command: Command | undefined = program;
  const names = [program.name()];
  for (const arg of args) {
    command = command.commands.find((child) => child.name() === arg);
    if (command === undefined) break;
    names.push(arg);
  }
  return names.join(" ");
}
