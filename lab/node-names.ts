/** What the machines of a lab are called: their namespaces, and how people name them in scenarios. */
import type { CloudModel, Template } from "./model/model.ts";

/** Ids of instances and groups → names, each once. */
export function nodeNames(model: CloudModel): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const taken = new Set<string>(RESERVED);
  for (const { id, template } of [...model.instances, ...model.groups]) {
    const name = nameOf(template);
    const { region } = template.subnet.vpc;
    const free = [name, `${name}-${region}`, ...COUNTED.map((n) => `${name}-${n}`)].find(
      (one) => !taken.has(one.toLowerCase()),
    );
    taken.add((free ?? id).toLowerCase());
    names.set(id, free ?? id);
  }
  return names;
}

const COUNTED = Array.from({ length: 98 }, (_, i) => i + 2);

/** The lab's own namespaces. */
const RESERVED = ["internet", "igw", "aws", "web"];

/** The hostname of the agent's configuration, or the Name tag's last part; EC2 itself names a host after its address. */
function nameOf({ userData, tags }: Template): string {
  const configured = /\n {2}"hostname": "([a-z0-9-]{1,63})"/i.exec(userData)?.[1];
  if (configured !== undefined) return configured;
  const last = tags["Name"]?.split("/").at(-1) ?? "";
  return /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/i.test(last) ? last : "node";
}
