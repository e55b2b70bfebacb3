/**
 * Sallyport's one program: the commands, and the roles that run for long.
 *
 * This is where everything is joined. As a script it runs the command line; imported it offers the roles.
 */
import { realpathSync } from "node:fs";
import { hostname as systemHostname } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { Ip, IpPort } from "./base/address.ts";
import { UsageError } from "./base/errors.ts";
import type { Log } from "./base/log.ts";
import { type Calendar, type Instant, type Millis, seconds, since } from "./base/time.ts";
import type {
  CommandContext,
  ControlSettings,
  Environment,
  Roles,
  RunningRole,
  Stdio,
} from "./cli/context.ts";
import { report, runProgram } from "./cli/program.ts";
import { type JsonObject, parseJson } from "./core/control/json.ts";
import { checkDerpMap } from "./io/control-admin.ts";
import { systemCalendar } from "./io/calendar.ts";
import { now } from "./io/clock.ts";
import { createLogger } from "./io/logger.ts";
import { readStateFile, writeFileAtomic } from "./io/state-store.ts";
import type { ControlRole, ControlRoleOptions } from "./roles/control.ts";
import type { Daemon, DaemonOptions } from "./roles/daemon.ts";
import type { Relay, RelayOptions } from "./roles/relay.ts";
import type { ServerTagsOptions, TaggedServer } from "./roles/server-tags.ts";

/** What a test replaces. */
export interface MainParts {
  readonly roles?: Roles;
  readonly calendar?: Calendar;
  readonly sleep?: CommandContext["sleep"];
}

/** Runs one command. `argv` begins after the script's name. Returns the exit code; never throws. */
export async function main(
  argv: readonly string[],
  env: Environment,
  stdio: Stdio,
  parts: MainParts = {},
): Promise<number> {
  return await runProgram(argv, {
    env,
    stdio,
    roles: parts.roles ?? systemRoles,
    calendar: parts.calendar ?? systemCalendar,
    sleep: parts.sleep ?? sleep,
    exitCode: 0,
  });
}

/** Loads a role only when it is started: `sallyport status` needs none of them. */
const systemRoles: Roles = {
  async daemon({ logLevel, ...settings }) {
    return await startDaemon({ ...settings, log: createLogger({ level: logLevel }) });
  },
  async relay({ logLevel, listen, address, hostname, coordination, healthTags, ...settings }) {
    const log = createLogger({ level: logLevel });
    const tags = { healthTags, stateDir: settings.stateDir, log };
    const options = {
      ...settings,
      listen: { host: listen.host ?? ANY_ADDRESS, port: listen.port },
      hostname: hostname ?? address ?? systemHostname(),
      addresses: address === undefined ? [] : [Ip.parse(address)],
      log,
    };
    if (coordination !== undefined) return await startBoth(options, coordination, tags);
    const relay = await startRelay(options);
    await writeRelayMap(options, relay, log);
    return await withTags(relay, options, tags);
  },
  async control(settings) {
    const log = createLogger({ level: settings.logLevel });
    const control = await startControl({
      ...controlOptions(settings, log),
      derpMap: await readRelayMap(settings.derpMap ?? join(settings.stateDir, RELAY_MAP)),
    });
    const { healthTags, stateDir, hostname = "" } = settings;
    const tagged = await withServerTags(control, {
      ...{ healthTags, stateDir, log, relay: undefined },
      endpoint: endpointOf(Ip.tryParse(hostname), control.port),
    });
    return await withJoinToken(settings, tagged, log);
  },
  async wireguard({ logLevel, ...settings }) {
    const { startPlainTunnel } = await import("./roles/plain-tunnel.ts");
    return await startPlainTunnel({ ...settings, log: createLogger({ level: logLevel }) });
  },
};

type TagSettings = Pick<ServerTagsOptions, "healthTags" | "stateDir" | "log">;

async function startBoth(
  relay: RelayOptions,
  settings: ControlSettings,
  tags: TagSettings,
): Promise<RunningRole> {
  const { log } = tags;
  const { startSharedPort } = await import("./roles/shared-port.ts");
  const both = await startSharedPort({
    relay,
    control: async (ownMap) => ({
      ...controlOptions(settings, log),
      derpMap: settings.derpMap === undefined ? ownMap : await readRelayMap(settings.derpMap),
    }),
  });
  await writeRelayMap(relay, both.relay, log);
  const { certPin } = both.control;
  const server = { certPin, certificateEnds: () => both.relay.certificateEnds(), close: () => both.close() };
  return await withJoinToken(settings, await withTags(server, relay, tags), log);
}

/** A relay's, which may be a coordination server, too. */
async function withTags<Server extends TaggedServer>(
  server: Server,
  { addresses = [], listen, regionCode }: RelayOptions,
  settings: TagSettings,
): Promise<Server> {
  const endpoint = endpointOf(addresses[0], listen.port);
  return await withServerTags(server, { ...settings, endpoint, relay: regionCode });
}

async function withServerTags<Server extends TaggedServer>(
  server: Server,
  options: ServerTagsOptions,
): Promise<Server> {
  return await (await import("./roles/server-tags.ts")).withServerTags(server, options);
}

function endpointOf(ip: Ip | undefined, port: number): IpPort | undefined {
  return ip === undefined ? undefined : new IpPort(ip, port);
}

function controlOptions(settings: ControlSettings, log: Log): Omit<ControlRoleOptions, "derpMap"> {
  const { stateDir, socket, hostname, domain, listen, certFile, keyFile, acme } = settings;
  return {
    ...{ stateDir, socket, hostname, domain, acme, log },
    listen: { host: listen.host ?? ANY_ADDRESS, port: listen.port },
    certificate: certificateOf(certFile, keyFile),
    authKeyFile: authKeyFileOf(settings),
    autoApproveRoutes: settings.autoApproveRoutes,
  };
}

/** A join token holds an auth key, so there must be one. */
function authKeyFileOf({
  authKeyFile,
  joinTokenFile,
  joinToken,
  stateDir,
}: ControlSettings): string | undefined {
  const needed = joinTokenFile !== undefined || joinToken !== undefined;
  return authKeyFile ?? (needed ? join(stateDir, "auth-key") : undefined);
}

async function withJoinToken(
  settings: ControlSettings,
  running: RunningRole & { readonly certPin: string | undefined },
  log: Log,
): Promise<RunningRole> {
  const { joinTokenFile, joinToken } = settings;
  const authKeyFile = authKeyFileOf(settings);
  if (authKeyFile === undefined || (joinTokenFile === undefined && joinToken === undefined)) return running;
  const { publishJoinToken } = await import("./roles/join-token.ts");
  const token = await publishJoinToken({
    ...{ authKeyFile, certPin: running.certPin, log },
    ...{ file: joinTokenFile, parameter: joinToken?.parameter },
  });
  return {
    async close() {
      token.close();
      await running.close();
    },
  };
}

async function writeRelayMap(options: RelayOptions, relay: Relay, log: Log): Promise<void> {
  const path = join(options.stateDir, RELAY_MAP);
  const map = { Regions: { [options.regionId]: relay.derpMapRegion } };
  await writeFileAtomic(path, `${JSON.stringify(map, undefined, 2)}\n`);
  log.info("relay-map-written", { path });
}

/** Written by the relay, read by the coordination server of the same machine. */
const RELAY_MAP = "derp-map.json";

async function readRelayMap(path: string): Promise<JsonObject> {
  const text = await readStateFile(path);
  if (text === undefined) {
    throw new UsageError(
      "no-derp-map",
      `${path} is not there: give --derp-map FILE, or start \`sallyport relay\` first`,
    );
  }
  return checkDerpMap(parseJson(text), path);
}

function certificateOf(
  certFile: string | undefined,
  keyFile: string | undefined,
): ControlRoleOptions["certificate"] {
  if (certFile !== undefined && keyFile !== undefined) return { certFile, keyFile };
  if (certFile === keyFile) return undefined;
  throw new UsageError("control-certificate", "give --cert-file and --key-file together, or neither of them");
}

/** Both families. */
const ANY_ADDRESS = "::";

export async function startDaemon(options: DaemonOptions): Promise<Daemon> {
  return (await import("./roles/daemon.ts")).startDaemon(options);
}

export async function startRelay(options: RelayOptions): Promise<Relay> {
  return (await import("./roles/relay.ts")).startRelay(options);
}

export async function startControl(options: ControlRoleOptions): Promise<ControlRole> {
  return (await import("./roles/control.ts")).startControl(options);
}

async function sleep(ms: number, interrupt: AbortSignal): Promise<void> {
  await wait(ms, undefined, { signal: interrupt }).catch(() => {});
}

/** Ctrl-C and SIGTERM ask for an orderly end; who repeats it after a while does not want to wait for that. */
function interruptOf(emitter: NodeJS.Process): AbortSignal {
  const controller = new AbortController();
  let firstAt: Instant | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    firstAt ??= now();
    if (since(firstAt, now()) > ORDERLY_END) emitter.exit(INTERRUPTED);
    controller.abort(signal);
  };
  emitter.on("SIGINT", onSignal);
  emitter.on("SIGTERM", onSignal);
  return controller.signal;
}

/** Shells and supervisors often signal twice at once. */
const ORDERLY_END: Millis = seconds(1);
/** 128 + SIGINT, as shells report it. */
const INTERRUPTED = 130;

function isScript(): boolean {
  const script = process.argv[1];
  if (script === undefined) return false;
  try {
    return realpathSync(script) === realpathSync(fileURLToPath(import.meta.url));
  } catch {
    return false;
  }
}

async function runScript(): Promise<void> {
  const { env, stdin, stdout, stderr } = process;
  const fail = (error: unknown): void => process.exit(report(error, env, stderr));
  process.on("uncaughtException", fail);
  process.on("unhandledRejection", fail);
  // The reader may have gone, as in `sallyport status | head -1`.
  stdout.on("error", () => process.exit(0));
  const interrupt = interruptOf(process);
  const code = await main(process.argv.slice(2), env, { stdin, stdout, stderr, interrupt });
  stdout.write("", () => process.exit(code));
}

if (isScript()) void runScript();
