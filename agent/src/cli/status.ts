import type { Command } from "commander";
import { LocalApiClient } from "../io/local-api-client.ts";
import type { StatusJson } from "../health/status-json.ts";
import type { CommandContext } from "./context.ts";
import { printLines } from "./context.ts";
import { addSwitch, configOption, newCommand, socketOf, socketOption } from "./options.ts";
import { notRunningLines, statusLines, type StatusView } from "./status-text.ts";

interface StatusFlags extends StatusView {
  readonly json: boolean;
}

export function statusCommand(context: CommandContext): Command {
  const command = newCommand("status", "show this node and its peers, and which connections are direct")
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (flags: StatusFlags) => {
      const daemon = new LocalApiClient(await socketOf({ ...flags }, context), context.stdio.interrupt);
      context.exitCode = printStatus(await daemon.status(), flags, context);
    });
  addSwitch(command, "json", "print JSON for programs", false);
  addSwitch(command, "peers", "leave out the peers", true);
  addSwitch(command, "self", "leave out this node", true);
  addSwitch(command, "active", "only peers with traffic in the last 45 seconds", false);
  return addSwitch(command, "header", "print a header line", false);
}

function printStatus(status: StatusJson, flags: StatusFlags, { stdio, calendar }: CommandContext): number {
  if (flags.json) {
    stdio.stdout.write(`${JSON.stringify(status, undefined, 2)}\n`);
    return 0;
  }
  const instead = notRunningLines(status.BackendState, status.AuthURL);
  printLines(stdio.stdout, instead ?? statusLines(status, flags, calendar.now()));
  return instead === undefined ? 0 : 1;
}
