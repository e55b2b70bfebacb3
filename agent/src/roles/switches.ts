/**
 * The variables that do without one of the ways in which packets are moved, or choose one. They stand in no file and have
 * no flag, and are read where they are needed; so that a slip of the pen is no silent "as usual", they are looked at here.
 */
import { aeadNames } from "../dataplane/aead-names.ts";
import type { HostOptions } from "../dataplane/host.ts";
import { refuse } from "../io/settings.ts";

const SWITCHES: Readonly<Record<string, readonly string[]>> = {
  SALLYPORT_DATAPLANE: ["on", "off"],
  SALLYPORT_AEAD: aeadNames,
  SALLYPORT_NO_GSO: ["0", "1"],
  SALLYPORT_NO_GRO: ["0", "1"],
  SALLYPORT_NO_TUN_OFFLOAD: ["0", "1"],
  SALLYPORT_NO_FFI: ["0", "1"],
};

/** An empty one counts as absent. @throws UsageError that names all that are wrong, one a line */
export function checkSwitches(env: HostOptions["env"]): void {
  const problems = Object.entries(SWITCHES).flatMap(([name, allowed]) => {
    const value = env[name] ?? "";
    if (value === "" || allowed.includes(value)) return [];
    return [`${name} is ${JSON.stringify(value)}: give ${allowed.join(", ")}, or leave it out`];
  });
  refuse(problems);
}
