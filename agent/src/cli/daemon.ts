import type { Command } from "commander";
import { daemonSettings, DEFAULT_SOCKET, DEFAULT_STATE_DIR, type Listen } from "../io/config.ts";
import { whyNoTun } from "../io/tun.ts";
import { readJoinKey } from "./auth-key.ts";
import type { CommandContext, DaemonSettings } from "./context.ts";
import { configOption, type FlagValues, newCommand, settingsOf } from "./options.ts";
import { addPrefsOptions } from "./prefs-options.ts";
import { runRole } from "./run-role.ts";

export function daemonCommand(context: CommandContext): Command {
  return addPrefsOptions(newCommand("daemon", "run the tunnel in the foreground"))
    .option("--port <port>", "UDP port of the tunnel (default 41641)")
    .option("--tun <name>", "TUN device, or memory for none (default sallyport0 where there can be one)")
    .option(
      "--mtu <bytes>",
      "packet size in the tunnel; above 1280 where peers and paths carry it (default 1280)",
    )
    .option(
      "--workers <count>",
      "threads that move packets (default by the processors: 1, from three on 2, from five on more)",
    )
    .option("--state-dir <directory>", `keys and state (default ${DEFAULT_STATE_DIR})`)
    .option("--socket <path>", `Unix socket for the commands (default ${DEFAULT_SOCKET})`)
    .option("--login-server <url>", "coordination server; with an auth key the tunnel comes up at once")
    .option("--auth-key <source>", "read the auth key from - (standard input), file:PATH or ssm:NAME")
    .option("--auth-key-wait <seconds>", "how long its file may take to be there (default 0)")
    .option("--cert-pin <pin>", "the server's certificate, as sha256-raw:<hex>")
    .option("--endpoint <address:port...>", "where peers reach it from outside, beside what it finds itself")
    .option("--health-check-port <port>", "TCP port that is open while the node is up, for a load balancer")
    .option(
      "--egress-mode <mode>",
      "auto, direct or split: by which interface exit traffic leaves (default auto)",
    )
    .option(
      "--egress-addresses <list>",
      "what the internet may see exit traffic come from; else none is carried",
    )
    .option("--ipv6-exit <how>", "block, or snat to the ingress interface's address (default block)")
    .option("--ingress-interface <which>", "where the tunnel comes in: a name, MAC address or eni-…")
    .option("--egress-interface <which>", "where exit traffic leaves: a name, MAC address or eni-…")
    .option("--control-by-ingress", "the daemon's own connections leave by the ingress interface, too")
    .option("--nft-table <name>", "name of the table of nftables (default sallyport)")
    .option(
      "--health-tags <mode>",
      "write how it is to this EC2 instance's tags: auto, on or off (default auto)",
    )
    .option("--metrics <address:port>", "where Prometheus finds /metrics, or off (default 127.0.0.1:9641)")
    .option("--embedded-metrics <where>", "metrics for CloudWatch: udp:25888, stdout or off (default off)")
    .option("--log-level <level>", "debug, info, warn or error (default info)")
    .addOption(configOption())
    .action(async (flags: FlagValues) => {
      const options = await readDaemonSettings(flags, context);
      context.exitCode = await runRole(context.roles.daemon(options), context);
    });
}

/** Stock tailscaled's packages use it too, so firewalls are often open for it. */
const DEFAULT_PORT = 41_641;
const DEFAULT_METRICS: Listen = { host: "127.0.0.1", port: 9_641 };
const DEFAULT_TUN = "sallyport0";

async function readDaemonSettings(flags: FlagValues, context: CommandContext): Promise<DaemonSettings> {
  const all = { ...flags, endpoints: flags["endpoint"] };
  const { authKey, authKeyWait, ...values } = await settingsOf(daemonSettings, all, context, "daemon");
  const key = await readJoinKey(authKey, context, authKeyWait);
  return {
    ...values,
    stateDir: values.stateDir ?? DEFAULT_STATE_DIR,
    socket: values.socket ?? DEFAULT_SOCKET,
    logLevel: values.logLevel ?? "info",
    port: values.port ?? DEFAULT_PORT,
    tun: values.tun ?? defaultTun(values),
    healthTags: values.healthTags ?? "auto",
    metrics: values.metrics ?? DEFAULT_METRICS,
    embeddedMetrics: values.embeddedMetrics ?? "off",
    authKey: key.authKey,
    certPin: values.certPin ?? key.certPin,
  };
}

/** Without C functions a node is reached all the same; who is to carry or send others' traffic is not. */
function defaultTun({
  advertiseExitNode = false,
  advertiseRoutes = [],
  exitNode,
}: Partial<Pick<DaemonSettings, "advertiseExitNode" | "advertiseRoutes" | "exitNode">>): string {
  const needsKernel = advertiseExitNode || advertiseRoutes.length > 0 || exitNode !== undefined;
  return needsKernel || whyNoTun() === undefined ? DEFAULT_TUN : "memory";
}
