import type { Command } from "commander";
import { acmeOf, addAcmeOptions } from "./acme.ts";
import { controlSettings, DEFAULT_CONTROL_SOCKET, DEFAULT_STATE_DIR } from "../io/config.ts";
import type { CommandContext, ControlSettings } from "./context.ts";
import { authKeyCommand } from "./control-auth-key.ts";
import { controlNodesCommand } from "./control-nodes.ts";
import { controlRoutesCommand } from "./control-routes.ts";
import { configOption, type FlagValues, newCommand, settingsOf } from "./options.ts";
import { runRole } from "./run-role.ts";

export function controlCommand(context: CommandContext): Command {
  return addAcmeOptions(newCommand("control", "run a coordination server in the foreground"))
    .option("--listen <address>", "TCP address for TLS (default :443)")
    .option("--hostname <name>", "DNS name by which nodes reach it")
    .option("--domain <suffix>", "what the nodes' names end with")
    .option(
      "--derp-map <file>",
      `relay map (default ${DEFAULT_STATE_DIR}/derp-map.json, which a relay writes)`,
    )
    .option("--cert-file <file>", "certificate chain (PEM; default a self-signed one)")
    .option("--key-file <file>", "private key of the certificate (PEM)")
    .option("--auth-key-file <file>", "write a first auth key here, once")
    .option("--join-token-file <file>", "write an auth key and the certificate's pin here, to join with")
    .option("--join-token <ssm:NAME>", "write them to a parameter of AWS Systems Manager, too")
    .option(
      "--auto-approve-routes <networks>",
      "routes in these networks count at once, separated by commas; NETWORK=tag:NAME for nodes with that tag only",
    )
    .option("--state-dir <directory>", `the network's state (default ${DEFAULT_STATE_DIR})`)
    .option("--socket <path>", `Unix socket for the commands (default ${DEFAULT_CONTROL_SOCKET})`)
    .option(
      "--health-tags <mode>",
      "write how it is to this EC2 instance's tags, where no tunnel does: auto, on or off (default off)",
    )
    .option("--log-level <level>", "debug, info, warn or error (default info)")
    .addOption(configOption())
    .addCommand(authKeyCommand(context))
    .addCommand(controlNodesCommand(context))
    .addCommand(controlRoutesCommand(context))
    .action(async (flags: FlagValues) => {
      const options = await readControlSettings(flags, context);
      context.exitCode = await runRole(context.roles.control(options), context);
    });
}

const DEFAULT_PORT = 443;

export async function readControlSettings(
  flags: FlagValues,
  context: CommandContext,
): Promise<ControlSettings> {
  const values = await settingsOf(controlSettings, flags, context, "control");
  return {
    ...values,
    acme: acmeOf(values, { certFile: values.certFile, name: values.hostname }),
    stateDir: values.stateDir ?? DEFAULT_STATE_DIR,
    socket: values.socket ?? DEFAULT_CONTROL_SOCKET,
    logLevel: values.logLevel ?? "info",
    healthTags: values.healthTags ?? "off",
    listen: values.listen ?? { host: undefined, port: DEFAULT_PORT },
  };
}
