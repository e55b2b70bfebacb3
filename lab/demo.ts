/** `lab demo`: reads the stack, builds the lab, tells the story, removes everything; the exit code says how it ended. */
import type { RunningCloud } from "./cloud/running.ts";
import { openCloud } from "./open-cloud.ts";
import { Lab, whatIsMissing } from "./lab.ts";
import { describeLoopback } from "./loopback.ts";
import { LoopbackStage } from "./loopback-stage.ts";
import { NamespaceStage } from "./namespace-stage.ts";
import { readNodeSettings, type NodeSettings } from "./node-settings.ts";
import { drawTopology } from "./drawing.ts";
import type { Stage } from "./stage.ts";
import { tellStory } from "./story.ts";
import { readStackFile, STACK, synthesizeStack } from "./synthesis.ts";
import { exitNodeOf, planTopology, type Topology } from "./topology.ts";
import { DEFAULT_WORLD } from "./world.ts";

export interface DemoOptions {
  /** The stack's cdk.tf.json; undefined synthesizes exit-node-stack. */
  readonly stack: string | undefined;
  /** The folder with the agent's bundle. */
  readonly agent: string;
  /** Synthesizes the stack with the tunnel's port closed in its security group. */
  readonly closedPort: boolean;
  /** Plays on loopback sockets even where namespaces can be made. */
  readonly loopback: boolean;
  /** Leaves the lab running until Ctrl-C. */
  readonly keep: boolean;
  /** The package's folder. */
  readonly root: string;
  readonly self: readonly string[];
}

/** The exit code: 0 when every client ended as its network lets it. @throws SallyportError */
export async function demo(options: DemoOptions): Promise<number> {
  const { cloud, topology, node } = await readStack(options);
  say(`The lab builds ${options.stack ?? STACK} and a small internet around it:\n`);
  for (const line of drawTopology(topology, node.port)) say(`  ${line}`);
  const { notModelled } = cloud.read.model;
  if (notModelled.length > 0) say(`\n  not rebuilt: ${notModelled.join(", ")}`);
  say("");
  const reason = options.loopback ? "--loopback was given" : await whatIsMissing();
  return reason === undefined
    ? playInNamespaces(options, topology, node)
    : playOnLoopback(options, topology, node, reason);
}

async function playInNamespaces(
  options: DemoOptions,
  topology: Topology,
  node: NodeSettings,
): Promise<number> {
  const started = performance.now();
  const opening = Lab.open(topology, {
    self: options.self,
    onLeftovers: (ids) => say(`  removed what a lab that was killed had left: ${ids.join(", ")}`),
  });
  closeAtSignals(() => opening.then((lab) => lab.close()));
  const lab = await opening;
  try {
    say(`  ${`${topology.namespaces.length} network namespaces`.padEnd(52)} ${secondsSince(started)} s`);
    const stage = new NamespaceStage({ lab, node, agent: options.agent, self: options.self });
    const code = await play(topology, stage, node, started);
    if (options.keep) await keep(lab);
    return code;
  } finally {
    await lab.close();
  }
}

async function playOnLoopback(
  options: DemoOptions,
  topology: Topology,
  node: NodeSettings,
  reason: string,
): Promise<number> {
  const started = performance.now();
  const stage = new LoopbackStage({ topology, node, agent: options.agent });
  closeAtSignals(() => stage.close());
  say(`${describeLoopback(reason)}\n`);
  try {
    return await play(topology, stage, node, started);
  } finally {
    await stage.close();
  }
}

async function play({ cast }: Topology, stage: Stage, node: NodeSettings, started: number): Promise<number> {
  const outcomes = await tellStory({ cast, stage, node, say });
  const good = outcomes.every(({ asExpected }) => asExpected);
  say(`\n${good ? "As expected" : "Not as expected"}, in ${secondsSince(started)} s.`);
  return good ? 0 : 1;
}

async function readStack({ stack, closedPort, root }: DemoOptions): Promise<Stack> {
  const json =
    stack === undefined
      ? await synthesizeStack(root, closedPort ? { openTunnelPort: false } : {})
      : readStackFile(stack);
  const cloud = openCloud([{ name: STACK, json }]);
  const topology = planTopology(cloud, DEFAULT_WORLD);
  return { cloud, topology, node: readNodeSettings(exitNodeOf(topology.cast)) };
}

interface Stack {
  readonly cloud: RunningCloud;
  readonly topology: Topology;
  readonly node: NodeSettings;
}

/** 128 + the signal's number, as shells have it. */
const ENDINGS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Ctrl-C and its like, and a reader of our story who has gone, end the demo in order; a second signal ends it at once. */
function closeAtSignals(close: () => Promise<void>): void {
  const end = (code: number): void => {
    for (const signal of Object.keys(ENDINGS)) process.on(signal, () => process.exit(code));
    void close()
      .catch(() => {})
      .finally(() => process.exit(code));
  };
  for (const [signal, code] of Object.entries(ENDINGS)) process.once(signal, () => end(code));
  process.stdout.on("error", () => end(1));
}

async function keep(lab: Lab): Promise<void> {
  say(`\nThe lab stays until Ctrl-C; its logs and state are in ${lab.folder}. Enter a namespace with:`);
  for (const { name } of lab.topology.namespaces) say(`  ip netns exec ${lab.namespace(name)} bash`);
  await new Promise(() => setInterval(() => {}, 1 << 30));
}

const secondsSince = (start: number): string => ((performance.now() - start) / 1000).toFixed(1);
const say = (line: string): boolean => process.stdout.write(`${line}\n`);
