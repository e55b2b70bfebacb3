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
  /** Undefined where nothing is taken away. */
  readonly boundingSet: readonly string[] | undefined;
  readonly noNewPrivileges: boolean;
  readonly stateDirectory: string | undefined;
  readonly runtimeDirectory: string | undefined;
  readonly environmentFile: string | undefined;
  readonly openFiles: number | undefined;
  /** It is started when its command has ended. */
  readonly isOneShot: boolean;
  readonly restart: "always" | "on-failure" | "no";
  readonly restartAfterMs: number;
}

/** Commands that would be passed over: a lab that does half of a unit proves nothing. */
const NOT_DONE = ["ExecStartPre", "ExecStartPost", "ExecStop", "ExecStopPost", "ExecReload", "ExecCondition"];
const RESTART_MS = 100;

/** @param name for errors. @throws ParseError */
export function parseUnit(name: string, text: string): Unit {
  const service = settingsOf(text).get("Service") ?? new Map<string, string>();
  const command = words(service.get("ExecStart"));
  if (command.length === 0) throw new ParseError("unit", `${name} has no ExecStart`);
  const passedOver = NOT_DONE.find((key) => service.has(key));
  if (passedOver !== undefined) throw new ParseError("unit", `${name}: the lab does not do ${passedOver}`);
  const capabilities = words(service.get("AmbientCapabilities"));
  const boundingSet = mapped(service.get("CapabilityBoundingSet"), words);
  const stray = capabilities.find((one) => boundingSet?.includes(one) === false);
  if (stray !== undefined)
    throw new ParseError("unit", `${name} gives ${stray} and its bounding set lacks it`);
  const restart = service.get("Restart") ?? "no";
  if (restart !== "always" && restart !== "on-failure" && restart !== "no") {
    throw new ParseError("unit", `${name}: the lab does not do Restart=${restart}`);
  }
  const user = service.get("User") ?? "root";
  return {
    ...{ command, user, capabilities, boundingSet, restart },
    group: service.get("Group") ?? user,
    noNewPrivileges: service.get("NoNewPrivileges") === "yes",
    stateDirectory: service.get("StateDirectory"),
    runtimeDirectory: service.get("RuntimeDirectory"),
    environmentFile: service.get("EnvironmentFile")?.replace(/^-/, ""),
    openFiles: mapped(service.get("LimitNOFILE"), Number),
    isOneShot: service.get("Type") === "oneshot",
    restartAfterMs: mapped(service.get("RestartSec"), (text) => 1000 * Number(text)) ?? RESTART_MS,
  };
}

/** The command line that becomes the unit's program, for `sh -c`. */
export function unitScript(unit: Unit): string {
  const { user, group, stateDirectory, runtimeDirectory, environmentFile, openFiles, command } = unit;
  const folder = (path: string): string => `install -d -m 0700 -o ${user} -g ${group} ${path}`;
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
    ["exec setpriv", ...privileges(unit), "--", ...command].join(" "),
  ].join("\n");
}

function privileges({ user, group, capabilities, boundingSet, noNewPrivileges }: Unit): readonly string[] {
  const set = (names: readonly string[]): string =>
    ["-all", ...names.map((name) => `+${name.replace(/^CAP_/, "").toLowerCase()}`)].join(",");
  return [
    ...(user === "root" ? [] : [`--reuid=${user}`, `--regid=${group}`, "--init-groups"]),
    ...(noNewPrivileges ? ["--no-new-privs"] : []),
    ...(boundingSet === undefined ? [] : [`--bounding-set=${set(boundingSet)}`]),
    ...(user === "root" ? [] : [`--inh-caps=${set(capabilities)}`, `--ambient-caps=${set(capabilities)}`]),
  ];
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
