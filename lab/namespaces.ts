/** Builds a topology from network namespaces: few processes, one `ip -batch` for all wires, one shell per namespace. */
import { OperationError } from "../agent/src/base/errors.ts";
import { formatDelayLine } from "./delay-line.ts";
import type { LabProcess, Processes } from "./processes.ts";
import { LAB_VARIABLE, namespacePrefix } from "./record.ts";
import { run } from "./system.ts";
import type { LinkSpec, NamespaceSpec, Network } from "./network.ts";
import type { NamespaceChange } from "./vpc-plan.ts";

export interface BuildOptions {
  readonly labId: string;
  readonly processes: Processes;
  /** The command that runs this program again, for its delay lines. */
  readonly self: readonly string[];
}

/** The name `ip netns` knows a namespace of this lab by. */
export const namespaceName = (labId: string, name: string): string => `${namespacePrefix(labId)}${name}`;

/** @throws OperationError with what `ip` or `nft` said */
export async function buildNamespaces(topology: Network, options: BuildOptions): Promise<void> {
  const slow = topology.links.filter((link) => link.delayMs > 0);
  const fast = topology.links.filter((link) => link.delayMs === 0);
  const lines = slow.length === 0 ? undefined : startDelayLines(slow, options);
  const name = (local: string): string => namespaceName(options.labId, local);
  await batch(options, [
    ...topology.namespaces.map((one) => `netns add ${name(one.name)}`),
    ...fast.map(({ ends: [a, b] }) =>
      [
        `link add ${a.device} netns ${name(a.namespace)}`,
        `type veth peer name ${b.device} netns ${name(b.namespace)}`,
      ].join(" "),
    ),
  ]);
  await lines?.readyLine(/^ready$/, 10_000);
  await batch(
    options,
    slow.flatMap((link, i) => moveEnds(link, i, options.labId)),
  );
  await Promise.all(topology.namespaces.map((one) => configure(one, options)));
}

function startDelayLines(links: readonly LinkSpec[], options: BuildOptions): LabProcess {
  const specs = links.map((link, i) =>
    formatDelayLine({
      devices: [temporaryDevice(options.labId, i, 0), temporaryDevice(options.labId, i, 1)],
      delayMs: link.delayMs,
    }),
  );
  return options.processes.start({
    name: "delay-line",
    namespace: undefined,
    command: [...options.self, "delay-line", ...specs],
  });
}

/** Where a TUN device is made, before it moves into its namespace and takes its name there. */
const temporaryDevice = (labId: string, link: number, end: 0 | 1): string =>
  `sp${labId}${link}${end === 0 ? "a" : "b"}`;

function moveEnds({ ends }: LinkSpec, link: number, labId: string): string[] {
  return ([0, 1] as const).map((end) => {
    const { namespace, device } = ends[end];
    return `link set ${temporaryDevice(labId, link, end)} netns ${namespaceName(labId, namespace)} name ${device}`;
  });
}

/** Adds to or takes from a namespace that is there. @throws OperationError with what `ip` or `nft` said */
export async function changeNamespace(change: NamespaceChange, options: BuildOptions): Promise<void> {
  const { namespace, ...spec } = change;
  await configure({ name: namespace, forwards: false, ...spec }, options);
}

/** A namespace while the lab runs, with the loopback up. */
export async function addNamespace(name: string, options: BuildOptions): Promise<void> {
  await batch(options, [`netns add ${namespaceName(options.labId, name)}`]);
  await changeNamespace(
    { namespace: name, commands: ["link set lo addrgenmode none up"], commands6: [], rules: "" },
    options,
  );
}

/** A veth pair while the lab runs. Both ends are up. */
export async function addLink({ ends: [a, b] }: LinkSpec, options: BuildOptions): Promise<void> {
  const name = (local: string): string => namespaceName(options.labId, local);
  await batch(options, [
    `link add ${a.device} netns ${name(a.namespace)} type veth peer name ${b.device} netns ${name(b.namespace)}`,
  ]);
  for (const { namespace, device } of [a, b]) {
    const commands = [`link set ${device} addrgenmode none up`];
    await changeNamespace({ namespace, commands, commands6: [], rules: "" }, options);
  }
}

async function configure(spec: NamespaceSpec, options: BuildOptions): Promise<void> {
  const batchOf = (command: string, lines: readonly string[] = []): string =>
    lines.length === 0 ? "" : hereDocument(command, lines.join("\n"));
  const script = [
    spec.forwards ? "echo 1 > /proc/sys/net/ipv4/ip_forward" : "",
    batchOf("ip -batch -", spec.commands),
    batchOf("ip -6 -batch -", spec.commands6),
    spec.rules === "" ? "" : hereDocument("nft -f -", spec.rules),
    ...Object.entries(spec.sysctls ?? {}).map(([name, value]) => `echo ${value} > /proc/sys/${name}`),
  ].filter((part) => part !== "");
  const args = ["netns", "exec", namespaceName(options.labId, spec.name), "sh", "-e", "-s"];
  await run("ip", args, { input: script.join("\n"), env: environment(options) }).catch((cause: unknown) => {
    const said = cause instanceof Error ? cause.message : String(cause);
    throw new OperationError("lab-namespace", `the lab's namespace ${spec.name} can not be set up: ${said}`, {
      cause,
    });
  });
}

const hereDocument = (command: string, text: string): string =>
  `${command} <<'END-OF-INPUT'\n${text}\nEND-OF-INPUT`;

async function batch(options: BuildOptions, lines: readonly string[]): Promise<void> {
  if (lines.length > 0)
    await run("ip", ["-batch", "-"], { input: `${lines.join("\n")}\n`, env: environment(options) });
}

const environment = ({ labId }: BuildOptions): NodeJS.ProcessEnv => ({
  ...process.env,
  [LAB_VARIABLE]: labId,
});
