/**
 * systemd's unit files, as far as the lab does what they say: it starts the command as the user and with the capabilities that
 * they name, and starts it again when it ends. What else they say protects a machine that the lab doesn't have.
 * https://www.freedesktop.org/software/systemd/man/systemd.exec.html
 */
import { ParseError } from "../../agent/src/base/errors.ts";

export interface Unit {
  readonly command: readonly string[];
  readonly user: string;
  readonly group: string;
  /** Such as "CAP_NET_ADMIN". */
  readonly capabilities: readonly string[];
  readonly stateDirectory: string | undefined;
  readonly runtimeDirectory: string | undefined;
  readonly environmentFile: string | undefined;
  readonly openFiles: number | undefined;
  /** Undefined where it is not started again. */
  readonly restartAfterMs: number | undefined;
}

/** @param name for errors. @throws ParseError */
export function parseUnit(name: string, text: string): Unit {
  const service = settingsOf(text).get("Service") ?? new Map<string, string>();
  const command = service.get("ExecStart")?.split(/\s+/) ?? [];
  if (command.length === 0 || command[0] === "") throw new ParseError("unit", `${name} has no ExecStart`);
  const capabilities = words(service.get("AmbientCapabilities"));
  const bounding = words(service.get("CapabilityBoundingSet"));
  const stray = capabilities.find((one) => !bounding.includes(one));
  if (stray !== undefined)
    throw new ParseError("unit", `${name} gives ${stray} and its bounding set lacks it`);
  const user = service.get("User") ?? "root";
  return {
    ...{ command, user, capabilities },
    group: service.get("Group") ?? user,
    stateDirectory: service.get("StateDirectory"),
    runtimeDirectory: service.get("RuntimeDirectory"),
    environmentFile: service.get("EnvironmentFile")?.replace(/^-/, ""),
    openFiles: mapped(service.get("LimitNOFILE"), Number),
    restartAfterMs:
      service.get("Restart") === "always" ? 1000 * Number(service.get("RestartSec") ?? "0.1") : undefined,
  };
}

/** The command line that becomes the unit's program, for `sh -c`. */
export function unitScript(unit: Unit): string {
  const { user, group, capabilities, stateDirectory, runtimeDirectory, environmentFile, openFiles } = unit;
  const folder = (path: string): string => `install -d -m 0700 -o ${user} -g ${group} ${path}`;
  const names = capabilities.map((name) => `+${name.replace(/^CAP_/, "").toLowerCase()}`);
  const set = ["-all", ...names].join(",");
  return [
    "set -e",
    "umask 0077",
    ...(stateDirectory === undefined ? [] : [folder(`/var/lib/${stateDirectory}`)]),
    ...(runtimeDirectory === undefined ? [] : [folder(`/run/${runtimeDirectory}`)]),
    ...(openFiles === undefined
      ? []
      : [`ulimit -n ${openFiles} 2> /dev/null || ulimit -n "$(ulimit -H -n)"`]),
    ...(environmentFile === undefined
      ? []
      : [`if [ -f ${environmentFile} ]; then set -a; . ${environmentFile}; set +a; fi`]),
    `exec setpriv --reuid=${user} --regid=${group} --init-groups --no-new-privs ` +
      `--bounding-set=${set} --inh-caps=${set} --ambient-caps=${set} -- ${unit.command.join(" ")}`,
  ].join("\n");
}

function settingsOf(text: string): Map<string, Map<string, string>> {
  const sections = new Map<string, Map<string, string>>();
  let section = new Map<string, string>();
  for (const line of text.split("\n")) {
    const [, name] = /^\[(.+)\]$/.exec(line.trim()) ?? [];
    const [, key, value] = /^([A-Za-z]+)=(.*)$/.exec(line.trim()) ?? [];
    if (name !== undefined) {
      section = new Map();
      sections.set(name, section);
    } else if (key !== undefined && value !== undefined) {
      section.set(key, value);
    }
  }
  return sections;
}

function words(text: string | undefined): readonly string[] {
  return (text ?? "").split(/\s+/).filter((word) => word !== "");
}

function mapped<T, U>(value: T | undefined, map: (value: T) => U): U | undefined {
  return value === undefined ? undefined : map(value);
}
