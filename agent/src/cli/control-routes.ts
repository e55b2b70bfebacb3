import type { Command } from "commander";
import { OperationError } from "../base/errors.ts";
import type { NodeSummary } from "../engine/coordination.ts";
import { controlServer, controlSocketOption } from "./control-socket.ts";
import { type CommandContext, inColumns, printLines } from "./context.ts";
import { addSwitch, configOption, type FlagValues, newCommand } from "./options.ts";

export function controlRoutesCommand(context: CommandContext): Command {
  return newCommand("routes", "networks and exits that nodes offer, and which of them count")
    .addCommand(listCommand(context))
    .addCommand(
      changeCommand("approve", "let others use these routes of a node; without any, all it offers", context),
    )
    .addCommand(changeCommand("revoke", "take approval back; without any route, all", context));
}

function listCommand(context: CommandContext): Command {
  const command = newCommand("list", "list them")
    .addOption(controlSocketOption())
    .addOption(configOption())
    .action(async (_flags: FlagValues, self: Command) => {
      const flags = self.optsWithGlobals<FlagValues & { readonly json: boolean }>();
      const nodes = await (await controlServer(flags, context)).nodes();
      const offering = nodes.filter(({ offeredRoutes }) => offeredRoutes.length > 0);
      const json = offering.map(({ id, name, offeredRoutes, routes }) => ({
        id,
        name,
        offeredRoutes,
        routes,
      }));
      printLines(
        context.stdio.stdout,
        flags.json ? [JSON.stringify(json, undefined, 2)] : inColumns(offering.flatMap(routeRows)),
      );
    });
  return addSwitch(command, "json", "print JSON for programs", false);
}

function changeCommand(verb: "approve" | "revoke", summary: string, context: CommandContext): Command {
  return newCommand(verb, summary)
    .argument("<node>", "its id or name")
    .argument("[routes...]", "such as 10.1.0.0/16")
    .addOption(controlSocketOption())
    .addOption(configOption())
    .action(async (name: string, routes: readonly string[], _flags: FlagValues, self: Command) => {
      const server = await controlServer(self.optsWithGlobals<FlagValues>(), context);
      const node = find(await server.nodes(), name);
      const strange = routes.find((route) => !node.offeredRoutes.includes(route));
      if (strange !== undefined && verb === "approve") {
        throw new OperationError(
          "route-not-offered",
          `${node.name} does not offer ${strange}: it offers ${offer(node)}`,
        );
      }
      const named = routes.length > 0 ? routes : node.offeredRoutes;
      const kept =
        verb === "approve"
          ? new Set([...node.approvedRoutes, ...named])
          : new Set(node.approvedRoutes.filter((route) => !named.includes(route)));
      await server.approveRoutes(node.id, [...kept]);
    });
}

function find(nodes: readonly NodeSummary[], text: string): NodeSummary {
  const found = nodes.find(
    ({ id, name }) => String(id) === text || name === text || name.split(".")[0] === text,
  );
  if (found !== undefined) return found;
  throw new OperationError("not-found", `no node is called ${text}: \`sallyport control nodes\` lists them`);
}

function offer({ offeredRoutes }: NodeSummary): string {
  return offeredRoutes.length > 0 ? offeredRoutes.join(", ") : "none";
}

function routeRows({ id, name, offeredRoutes, routes }: NodeSummary): readonly (readonly string[])[] {
  return offeredRoutes.map((route) => {
    const state = routes.includes(route) ? "approved" : "waits for approval";
    return [String(id), name, route, state];
  });
}
