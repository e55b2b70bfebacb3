/** `lab demo`: reads the stack, builds the lab, tells the story, removes everything; the exit code says how it ended. */
import { resolve } from "node:path";
import { labArchive } from "./archive.ts";
import { checkBundle } from "./bundle.ts";
import type { RunningCloud } from "./cloud/running.ts";
import { openCloud } from "./open-cloud.ts";
import { type Lab, whatIsMissing } from "./lab.ts";
import { describeLoopback } from "./loopback.ts";
import { LoopbackStage } from "./loopback-stage.ts";
import { failuresOf } from "./failure.ts";
import { readNodeSettings, type NodeSettings } from "./node-settings.ts";
import { drawTopology } from "./drawing.ts";
import { Session, type SessionOptions } from "./session.ts";
import { SessionStage } from "./session-stage.ts";
import type { Stage } from "./stage.ts";
import { tellStory } from "./story.ts";
import { surroundings } from "./surroundings.ts";
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
  const reason = options.loopback ? "--loopback was given" : await whatIsMissing();
  const cloud = await readStack(options);
  const around = reason === undefined ? surroundings(cloud) : { world: DEFAULT_WORLD };
  const topology = planTopology(cloud, around.world);
  const node = readNodeSettings(exitNodeOf(topology.cast));
  const { notModelled, natGateways } = cloud.read.model;
  const [gateway] = reason === undefined ? natGateways : [];
  say(`The lab builds ${options.stack ?? STACK} and a small internet around it:\n`);
  for (const line of drawTopology(topology, node.port, gateway?.publicIp)) say(`  ${line}`);
  if (notModelled.length > 0) say(`\n  not rebuilt: ${notModelled.join(", ")}`);
  say("");
  return reason === undefined
    ? playInNamespaces(options, { cloud, ...around }, node)
    : playOnLoopback(options, topology, node, reason);
}

async function playInNamespaces(
  options: DemoOptions,
  built: Pick<SessionOptions, "cloud" | "world" | "names" | "store">,
  node: NodeSettings,
): Promise<number> {
  const started = performance.now();
  const { agent, self } = options;
  let lab: Lab | undefined;
  // Until the networks are there nothing can be closed in order: then the watchdog removes what is left.
  const ending = closeAtSignals(async () => lab?.close());
  const session = await Session.open({
    ...built,
    ...{ agent, self, keepLogsIn: failuresOf(options.root, "demo") },
    say: (line) => say(`  ${line.trimStart()}`),
    onLab: (opened) => (lab = opened),
    onLeftovers: (ids) => say(`  removed what a lab that was killed had left: ${ids.join(", ")}`),
  }).catch(async (error: unknown) => {
    // What was being started when the signal came fails; it isn't how the demo ends.
    if (ending()) await new Promise(() => {});
    throw error;
  });
  const { topology } = session.lab;
  try {
    const what = `${topology.namespaces.length} network namespaces, every agent in its network`;
    say(`  ${what.padEnd(52)} ${secondsSince(started)} s`);
    const code = await play(topology, new SessionStage(session, self), node, started);
    if (options.keep) await keep(session.lab);
    return code;
  } finally {
    await session.close();
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

async function readStack({ stack, closedPort, root, agent }: DemoOptions): Promise<RunningCloud> {
  const json = stack === undefined ? await synthesized(root, agent, closedPort) : readStackFile(stack);
  return openCloud([{ name: STACK, json }], {
    objectFile: (_bucket, _key, source) => (source === undefined ? "" : resolve(root, source)),
  });
}

async function synthesized(root: string, agent: string, closedPort: boolean): Promise<unknown> {
  checkBundle(agent);
  const config = closedPort ? { openTunnelPort: false } : {};
  return synthesizeStack({ root, config, archive: await labArchive(root, agent) });
}

/** 128 + the signal's number, as shells have it. */
const ENDINGS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/**
 * Ctrl-C and its like, and a reader of our story who has gone, end the demo in order; a second signal ends it at once.
 * What is returned tells whether that has begun.
 */
function closeAtSignals(close: () => Promise<void>): () => boolean {
  let ending = false;
  const end = (code: number): void => {
    ending = true;
    for (const signal of Object.keys(ENDINGS)) process.on(signal, () => process.exit(code));
    void close()
      .catch(() => {})
      .finally(() => process.exit(code));
  };
  for (const [signal, code] of Object.entries(ENDINGS)) process.once(signal, () => end(code));
  process.stdout.on("error", () => end(1));
  return () => ending;
}

async function keep(lab: Lab): Promise<void> {
  say(`\nThe lab stays until Ctrl-C; its logs and state are in ${lab.folder}. Enter a namespace with:`);
  for (const { name } of lab.topology.namespaces) say(`  ip netns exec ${lab.namespace(name)} bash`);
  await new Promise(() => setInterval(() => {}, 1 << 30));
}

const secondsSince = (start: number): string => ((performance.now() - start) / 1000).toFixed(1);
const say = (line: string): boolean => process.stdout.write(`${line}\n`);
