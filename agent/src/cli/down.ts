import type { Command } from "commander";
import { LocalApiClient } from "../io/local-api-client.ts";
import type { CommandContext } from "./context.ts";
import { configOption, type FlagValues, newCommand, socketOf, socketOption } from "./options.ts";

export function downCommand(context: CommandContext): Command {
  return newCommand("down", "take the tunnel down; the device stays registered")
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (flags: FlagValues) => {
      await new LocalApiClient(await socketOf(flags, context), context.stdio.interrupt).down();
    });
}
