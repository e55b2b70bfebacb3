import type { Command } from "commander";
import { OperationError } from "../base/errors.ts";
import { commonSettings, daemonSettings } from "../io/config.ts";
import { readStateFile } from "../io/state-store.ts";
import { parseWireGuardFile } from "../io/wireguard-file.ts";
import type { CommandContext } from "./context.ts";
import { configOption, type FlagValues, newCommand, settingsOf } from "./options.ts";
import { runRole } from "./run-role.ts";

const DEFAULT_TUN = "sallyport0";

export function wireguardCommand(context: CommandContext): Command {
  return newCommand("wireguard", "run a tunnel to plain WireGuard peers in the foreground")
    .argument("<file>", "[Interface] and [Peer] sections as wg-quick has them")
    .option("--tun <name>", `TUN device (default ${DEFAULT_TUN})`)
    .option("--log-level <level>", "debug, info, warn or error (default info)")
    .addOption(configOption())
    .action(async (path: string, flags: FlagValues) => {
      const wanted = { tun: daemonSettings.tun, logLevel: commonSettings.logLevel };
      const { tun, logLevel } = await settingsOf(wanted, flags, context, "daemon");
      const text = await readStateFile(path);
      if (text === undefined)
        throw new OperationError(
          "wireguard-file-missing",
          `${path} is not there: give a file as wg-quick has it`,
        );
      const settings = {
        file: parseWireGuardFile(text, path),
        tun: tun ?? DEFAULT_TUN,
        logLevel: logLevel ?? "info",
      };
      context.exitCode = await runRole(context.roles.wireguard(settings), context);
    });
}
