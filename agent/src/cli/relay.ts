import type { Command } from "commander";
import { acmeOf, addAcmeOptions } from "./acme.ts";
import { DEFAULT_STATE_DIR, relaySettings } from "../io/config.ts";
import type { CommandContext, ControlSettings, RelaySettings } from "./context.ts";
import { readControlSettings } from "./control.ts";
import { configOption, type FlagValues, newCommand, settingsOf } from "./options.ts";
import { runRole } from "./run-role.ts";

export function relayCommand(context: CommandContext): Command {
  return addAcmeOptions(newCommand("relay", "run a relay (DERP over TLS, and STUN) in the foreground"))
    .option("--listen <address>", "TCP address for TLS (default :443)")
    .option("--stun-port <port>", "UDP port for STUN (default 3478)")
    .option("--hostname <name>", "DNS name by which clients reach it")
    .option("--address <ip>", "IP address by which clients reach it")
    .option("--region-id <number>", "number in the relay map (default 900)")
    .option("--region-code <code>", "short name in the relay map (default relay)")
    .option("--region-name <name>", "name for people in the relay map")
    .option(
      "--cert-file <file>",
      "certificate chain (PEM; default a self-signed one, pinned in the relay map)",
    )
    .option("--key-file <file>", "private key of the certificate (PEM)")
    .option(
      "--coordination",
      "be the coordination server on the same port, as the file's control section says",
    )
    .option("--state-dir <directory>", `key and certificate (default ${DEFAULT_STATE_DIR})`)
    .option(
      "--health-tags <mode>",
      "write how it is to this EC2 instance's tags, where no tunnel does: auto, on or off (default off)",
    )
    .option("--log-level <level>", "debug, info, warn or error (default info)")
    .addOption(configOption())
    .action(async (flags: FlagValues) => {
      const options = await readRelaySettings(flags, context);
      context.exitCode = await runRole(context.roles.relay(options), context);
    });
}

/** HTTPS, since it is what firewalls let out. */
const DEFAULT_PORT = 443;
/** RFC 5389. */
const DEFAULT_STUN_PORT = 3478;
/** The first of those kept for relays that are not Tailscale's. */
const DEFAULT_REGION = 900;
const DEFAULT_CODE = "relay";

async function readRelaySettings(flags: FlagValues, context: CommandContext): Promise<RelaySettings> {
  const { coordination, ...values } = await settingsOf(relaySettings, flags, context, "relay");
  return {
    ...values,
    acme: acmeOf(values, { certFile: values.certFile, name: values.hostname ?? values.address }),
    coordination: coordination === true ? await sharedCoordination(flags, values, context) : undefined,
    stateDir: values.stateDir ?? DEFAULT_STATE_DIR,
    logLevel: values.logLevel ?? "info",
    healthTags: values.healthTags ?? "off",
    listen: values.listen ?? { host: undefined, port: DEFAULT_PORT },
    stunPort: values.stunPort ?? DEFAULT_STUN_PORT,
    regionId: values.regionId ?? DEFAULT_REGION,
    regionCode: values.regionCode ?? DEFAULT_CODE,
  };
}

/** Its port and certificate are the relay's; so is what else both know by the same name, where it says nothing of its own. */
async function sharedCoordination(
  flags: FlagValues,
  relay: { readonly stateDir: string | undefined; readonly hostname: string | undefined },
  context: CommandContext,
): Promise<ControlSettings> {
  const { config, stateDir } = flags;
  const own = { config, stateDir: stateDir ?? relay.stateDir };
  const settings = await readControlSettings(own, context);
  return { ...settings, hostname: settings.hostname ?? relay.hostname };
}
