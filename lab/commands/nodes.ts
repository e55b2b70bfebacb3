/** What a running lab tells the other commands: who is in it, and how to get there. */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LabRecord } from "../record.ts";
import type { Session } from "../session.ts";

export interface NodeEntry {
  readonly name: string;
  readonly kind: "instance" | "client" | "host";
  readonly netns: string;
  /** Of a machine: the process whose files it has. */
  readonly pid: number | undefined;
  /** For people: region, addresses, state. */
  readonly about: string;
}

const FILE = "nodes.json";

export function writeNodes({ lab, cloud, machines, clients }: Session): void {
  const instances = cloud.instances
    .filter(({ state }) => state !== "terminated")
    .map(({ namespace, id, region, interfaces, lifecycle, state }): NodeEntry => {
      const addresses = interfaces.map(({ privateIps, publicIp }) =>
        [...privateIps, publicIp ?? ""].join(" ").trim(),
      );
      const pid = machines.pid(namespace);
      return {
        name: namespace,
        kind: "instance",
        netns: lab.namespace(namespace),
        pid,
        about: [id, region, lifecycle?.state ?? state, ...addresses].join(", "),
      };
    });
  const world = clients.map(({ namespace, nat, natIp }): NodeEntry => ({
    name: namespace,
    kind: "client",
    netns: lab.namespace(namespace),
    pid: undefined,
    about: `${nat === "none" ? "public" : `${nat} NAT`}, ${natIp.text}`,
  }));
  const known = new Set([...instances, ...world].map(({ name }) => name));
  const others = lab.topology.namespaces
    .filter(({ name }) => !known.has(name))
    .map(({ name }): NodeEntry => ({
      name,
      kind: "host",
      netns: lab.namespace(name),
      pid: undefined,
      about: "",
    }));
  const file = join(lab.folder, FILE);
  writeFileSync(`${file}.new`, JSON.stringify([...instances, ...world, ...others], undefined, 2));
  renameSync(`${file}.new`, file);
}

/** Empty while the lab is being built. */
export function readNodes({ folder }: LabRecord): readonly NodeEntry[] {
  try {
    return JSON.parse(readFileSync(join(folder, FILE), "utf8")) as readonly NodeEntry[];
  } catch {
    return [];
  }
}
