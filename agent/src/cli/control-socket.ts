import { Option } from "commander";
import { ControlAdminClient } from "../io/control-admin-client.ts";
import { controlSettings, DEFAULT_CONTROL_SOCKET } from "../io/config.ts";
import type { CommandContext } from "./context.ts";
import { type FlagValues, settingsOf } from "./options.ts";

export const controlSocketOption = (): Option =>
  new Option("--socket <path>", "Unix socket of the coordination server");

/** The coordination server on this machine. @throws UsageError, OperationError */
export async function controlServer(flags: FlagValues, context: CommandContext): Promise<ControlAdminClient> {
  const { socket } = await settingsOf({ socket: controlSettings.socket }, flags, context, "control");
  return new ControlAdminClient(socket ?? DEFAULT_CONTROL_SOCKET);
}
