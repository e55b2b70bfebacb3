import type { Command } from "commander";
import { OperationError } from "../base/errors.ts";
import { type DerpMap, parseDerpMap } from "../core/path/derp-map.ts";
import { namedRegions, type NetcheckReply, netcheckReportJson } from "../health/netcheck-json.ts";
import type { StatusJson } from "../health/status-json.ts";
import { commonSettings, DEFAULT_STATE_DIR } from "../io/config.ts";
import { LocalApiClient } from "../io/local-api-client.ts";
import { runNetcheck } from "../io/netcheck-run.ts";
import { keptRelayMapPath, readStateFile } from "../io/state-store.ts";
import { readTuning } from "../io/tuning.ts";
import { type CommandContext, printLines } from "./context.ts";
import { netcheckLines, verboseLines } from "./netcheck-text.ts";
import { addSwitch, configOption, newCommand, settingsOf, socketOf, socketOption } from "./options.ts";

interface NetcheckFlags {
  readonly json: boolean;
  readonly verbose: boolean;
  readonly derpMap?: string;
}

export function netcheckCommand(context: CommandContext): Command {
  const command = newCommand("netcheck", "say what kind of network this is, and how far the relays are")
    .option("--derp-map <file>", "relay map (JSON), where no daemon is running")
    .option("--state-dir <directory>", `where a daemon has kept the last one (default ${DEFAULT_STATE_DIR})`)
    .addOption(socketOption())
    .addOption(configOption())
    .action(async (flags: NetcheckFlags) => {
      const asked = flags.derpMap === undefined ? await askDaemon(flags, context) : undefined;
      const { reply, status } = asked ?? { reply: await measure(flags, context), status: undefined };
      print(reply, status, flags, context);
    });
  addSwitch(command, "json", "print JSON for programs", false);
  return addSwitch(
    command,
    "verbose",
    "say also how packets are moved, and what this machine is set to",
    false,
  );
}

/** `undefined` where no daemon runs, or its tunnel is down. */
async function askDaemon(
  flags: NetcheckFlags,
  context: CommandContext,
): Promise<{ readonly reply: NetcheckReply; readonly status: StatusJson | undefined } | undefined> {
  const daemon = new LocalApiClient(await socketOf({ ...flags }, context), context.stdio.interrupt);
  try {
    const reply = await daemon.netcheck();
    if (reply === null) return undefined;
    return { reply, status: flags.verbose ? await daemon.status() : undefined };
  } catch (error) {
    if (error instanceof OperationError && error.code === "not-running") return undefined;
    throw error;
  }
}

async function measure(flags: NetcheckFlags, context: CommandContext): Promise<NetcheckReply> {
  const { stateDir } = await settingsOf(
    { stateDir: commonSettings.stateDir },
    { ...flags },
    context,
    "daemon",
  );
  const path = flags.derpMap ?? keptRelayMapPath(stateDir ?? DEFAULT_STATE_DIR);
  const map = readRelayMap(await readStateFile(path), path);
  const { report, buffers, hasV6 } = await runNetcheck(map, context.stdio.interrupt);
  const json = netcheckReportJson(report, { at: context.calendar.now(), osHasIpv6: hasV6 });
  return { report: json, regions: namedRegions(map), buffers };
}

/** @throws OperationError */
function readRelayMap(text: string | undefined, path: string): DerpMap {
  if (text === undefined) {
    const remedy = "start `sallyport daemon` and `sallyport up`, or give --derp-map FILE";
    throw new OperationError("no-relay-map", `no daemon is up and no relay map is in ${path}: ${remedy}`);
  }
  const map = parseDerpMap(parsed(text));
  if (map.regions.size > 0) return map;
  throw new OperationError("bad-relay-map", `${path} names no relay: give a relay map with Regions`);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function print(
  { report, regions, buffers }: NetcheckReply,
  status: StatusJson | undefined,
  { json, verbose }: NetcheckFlags,
  { stdio }: CommandContext,
): void {
  const { DataPlane: dataPlane, Forwarding: forwarding } = status ?? {};
  const machine = verbose ? { dataPlane, buffers, tuning: readTuning(), forwarding } : undefined;
  if (json) {
    const extra = machine && {
      DataPlane: machine.dataPlane ?? null,
      SocketBuffers: machine.buffers ?? null,
      Tuning: machine.tuning,
      ...(forwarding && { ForwardingTuning: forwarding.Tuning }),
    };
    stdio.stdout.write(`${JSON.stringify({ ...report, ...extra }, undefined, 2)}\n`);
    return;
  }
  printLines(stdio.stdout, netcheckLines(report, regions, { verbose }));
  if (machine !== undefined) printLines(stdio.stdout, verboseLines(machine));
}
