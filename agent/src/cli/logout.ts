import type { Command } from "commander";
import { LocalApiClient } from "../io/local-api-client.ts";
import type { CommandContext } from "./context.ts";
import { configOption, type FlagValues, newCommand, socketOf, socketOption } from "./options.ts";

export function logoutCommand(context: CommandContext): Command {
  return newCommand("logout", "take the tunnel down and give up this device's registration")
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (flags: FlagValues) => {
      await new LocalApiClient(await socketOf(flags, context), context.stdio.interrupt).logout();
    });
}
