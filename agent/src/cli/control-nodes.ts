import type { Command } from "commander";
import type { NodeSummary } from "../engine/coordination.ts";
import { controlServer, controlSocketOption } from "./control-socket.ts";
import { type CommandContext, inColumns, printLines } from "./context.ts";
import { addSwitch, configOption, newCommand } from "./options.ts";

interface NodesFlags {
  readonly json: boolean;
}

export function controlNodesCommand(context: CommandContext): Command {
  const command = newCommand("nodes", "list the nodes of the network")
    .addOption(controlSocketOption())
    .addOption(configOption())
    .action(async (_flags: NodesFlags, self: Command) => {
      const flags = self.optsWithGlobals<NodesFlags>();
      const nodes = await (await controlServer({ ...flags }, context)).nodes();
      const lines = flags.json ? [JSON.stringify(nodes, undefined, 2)] : nodeLines(nodes);
      printLines(context.stdio.stdout, lines);
    });
  return addSwitch(command, "json", "print JSON for programs", false);
}

function nodeLines(nodes: readonly NodeSummary[]): readonly string[] {
  const rows = nodes.map((node) => [
    String(node.id),
    node.name,
    node.addresses[0] ?? "",
    node.tags.length > 0 ? node.tags.join(",") : node.user,
    node.online ? "online" : `offline, last seen ${node.lastSeen}`,
  ]);
  return inColumns(rows);
}
