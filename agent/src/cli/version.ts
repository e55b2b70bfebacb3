import type { Command } from "commander";
import { VERSION } from "../base/version.ts";
import type { CommandContext } from "./context.ts";
import { newCommand } from "./options.ts";

export function versionCommand(context: CommandContext): Command {
  return newCommand("version", "print the version").action(() => {
    context.stdio.stdout.write(`${VERSION}\n`);
  });
}
