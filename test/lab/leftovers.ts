/** What a lab that has ended must not leave. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { processesOf } from "../../lab/cleanup.ts";
import { defaultRunFolder, isAlive, type LabRecord, namespacePrefix, recordFile } from "../../lab/record.ts";

export function expectGone(record: LabRecord): void {
  expect(processesOf(record)).toEqual([]);
  expect(readdirSync("/run/netns").filter((name) => name.startsWith(namespacePrefix(record.id)))).toEqual([]);
  expect(readdirSync("/run/netns").filter((name) => record.namespaces.includes(name))).toEqual([]);
  expect(existsSync(record.folder)).toBe(false);
  expect(existsSync(recordFile(defaultRunFolder(), record.id))).toBe(false);
  expect(isAlive(record.owner)).toBe(false);
}

/** The host's own rules and devices, which a lab must not touch; a temporary device would show here. */
export function hostState(): string {
  const rules = execFileSync("nft", ["list", "tables"], { encoding: "utf8" });
  const devices = execFileSync("ip", ["-brief", "link"], { encoding: "utf8" });
  return (
    rules +
    devices
      .split("\n")
      .filter((line) => /^sp[0-9a-f]{6}/.test(line))
      .join("\n")
  );
}

export function watchdogsOf(record: LabRecord): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readFileSync(`/proc/${name}/cmdline`, "utf8").includes(
          `watchdog\0${recordFile(defaultRunFolder(), record.id)}`,
        );
      } catch {
        return false;
      }
    })
    .map(Number);
}
