import type { Command } from "commander";
import { createLogger } from "../io/logger.ts";
import { Imds } from "../io/aws/imds.ts";
import { ownRegion } from "../io/aws/clients.ts";
import { CellCloud } from "../io/cell/cell-cloud.ts";
import { type Cell, DEFAULT_CELL_PATH, readCell } from "../io/cell/cell-file.ts";
import { claim } from "../io/cell/claim.ts";
import { keep } from "../io/cell/keep.ts";
import { letGo } from "../io/cell/let-go.ts";
import { DEFAULT_STATE_DIR } from "../io/config.ts";
import { LocalApiClient } from "../io/local-api-client.ts";
import type { CommandContext } from "./context.ts";
import { configOption, type FlagValues, newCommand, socketOf, socketOption } from "./options.ts";

export function cellCommand(context: CommandContext): Command {
  return newCommand("cell", "what a self-healing node does at its beginning and its end")
    .addCommand(
      withFile(newCommand("claim", "take the ingress interface and the identity's volume over")).action(
        async (flags: FlagValues) => await runClaim(flags, context),
      ),
    )
    .addCommand(
      withFile(newCommand("keep", "prove the node to its group, and end in order when it is replaced"))
        .addOption(socketOption())
        .addOption(configOption())
        .action(async (flags: FlagValues) => await runKeep(flags, context)),
    );
}

function withFile(command: Command): Command {
  return command.option("--cell <file>", `what the node takes over (default ${DEFAULT_CELL_PATH})`);
}

async function runClaim(flags: FlagValues, context: CommandContext): Promise<void> {
  const { cell, cloud, log } = await openCell(flags, context);
  try {
    await claim({ cell, cloud, log });
  } catch (error) {
    log.error("cell-abandoned", { why: error instanceof Error ? error.message : String(error) });
    await cloud.complete("launchHook", "ABANDON").catch(() => {});
    throw error;
  }
}

async function runKeep(flags: FlagValues, context: CommandContext): Promise<void> {
  const { cell, cloud, log, imds: metadata } = await openCell(flags, context);
  const signal = context.stdio.interrupt;
  const daemon = new LocalApiClient(await socketOf(flags, context), signal);
  await keep({
    ...{ cell, cloud, metadata, log, signal },
    status: () => daemon.status(),
    logout: () => daemon.logout(),
    letGo: () => letGo(cell.identityVolumeId === undefined ? undefined : DEFAULT_STATE_DIR),
  });
}

async function openCell(flags: FlagValues, { env }: CommandContext) {
  const path = flags["cell"];
  const cell: Cell = await readCell(typeof path === "string" ? path : DEFAULT_CELL_PATH);
  const imds = new Imds({ env });
  const [instanceId, region] = await Promise.all([imds.instanceId(), ownRegion(imds, env)]);
  const log = createLogger({ level: "info" });
  return { cell, imds, log, cloud: new CellCloud({ cell, instanceId, region }) };
}
