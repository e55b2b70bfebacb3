import { type Command, Option } from "commander";
import { LocalApiClient } from "../io/local-api-client.ts";
import type { CommandContext } from "./context.ts";
import { printLines } from "./context.ts";
import { exitNodeLines } from "./exit-node-text.ts";
import { configOption, type FlagValues, newCommand, socketOf, socketOption } from "./options.ts";
import { notRunningLines } from "./status-text.ts";

export function exitNodeCommand(context: CommandContext): Command {
  return newCommand("exit-node", "peers that carry the traffic of others").addCommand(listCommand(context));
}

function listCommand(context: CommandContext): Command {
  return newCommand("list", "list them, and which one is used")
    .addOption(new Option("--filter <country>", "only those of a country, and all of them").default(""))
    .addOption(socketOption())
    .addOption(configOption())
    .action(async ({ filter }: { readonly filter: string }, self: Command) => {
      const flags = self.optsWithGlobals<FlagValues>();
      const daemon = new LocalApiClient(await socketOf(flags, context), context.stdio.interrupt);
      const status = await daemon.status();
      const instead = notRunningLines(status.BackendState, status.AuthURL);
      const lines = instead ?? exitNodeLines(status, filter);
      const which = exitNodeLines(status) === undefined ? "" : ` for ${JSON.stringify(filter)}`;
      if (lines === undefined) context.stdio.stderr.write(`no exit nodes found${which}\n`);
      else printLines(context.stdio.stdout, lines);
      context.exitCode = instead === undefined && lines !== undefined ? 0 : 1;
    });
}
