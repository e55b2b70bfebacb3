/** The flags by which `up` and `set` change what the daemon keeps. */
import { type Command, Option } from "commander";
import type { PrefsRequest } from "../health/local-backend.ts";
import { daemonSettings } from "../io/config.ts";

export function addPrefsOptions(command: Command): Command {
  return command
    .option("--hostname <name>", "this node's name in the network")
    .option("--exit-node <node>", 'send all traffic out by this peer (name, IP or "auto"); empty for none')
    .option(
      "--exit-node-allow-lan-access",
      "reach the private networks that this machine is part of beside the exit node",
    )
    .addOption(off("exit-node-allow-lan-access"))
    .option(
      "--exit-node-dns <ips>",
      "DNS servers to ask through the exit node, separated by commas; empty for the default",
    )
    .option("--accept-routes", "reach the networks that peers advertise through them")
    .addOption(off("accept-routes"))
    .option(
      "--advertise-routes <networks>",
      "offer to reach these networks, separated by commas; empty for none",
    )
    .option("--advertise-exit-node", "offer to carry the traffic of others")
    .option("--no-advertise-exit-node", "take the offer back")
    .option(
      "--forward-accept <firewalls>",
      "as exit node, have these firewalls of this machine accept what is forwarded (docker-user, firewalld), separated by commas; empty for none",
    );
}

/** What these flags may also be given by: variables and the configuration file. */
export const prefsSettings = {
  hostname: daemonSettings.hostname,
  advertiseExitNode: daemonSettings.advertiseExitNode,
  advertiseRoutes: daemonSettings.advertiseRoutes,
  forwardAccept: daemonSettings.forwardAccept,
  acceptRoutes: daemonSettings.acceptRoutes,
  exitNode: daemonSettings.exitNode,
  exitNodeAllowLanAccess: daemonSettings.exitNodeAllowLanAccess,
  exitNodeDns: daemonSettings.exitNodeDns,
} satisfies Readonly<Record<keyof PrefsRequest, unknown>>;

function off(name: string): Option {
  return new Option(`--no-${name}`).hideHelp();
}
