/** `lab demo`: reads the stack, builds the lab, tells the story, removes everything; the exit code says how it ended. */
import { UsageError } from "../agent/src/base/errors.ts";
import { Agents } from "./agents.ts";
import { readCloud, type CloudModel } from "./cloud-model.ts";
import { Lab } from "./lab.ts";
import { readNodeSettings, type NodeSettings } from "./node-settings.ts";
import { drawTopology } from "./drawing.ts";
import { tellStory } from "./story.ts";
import { readStackFile, STACK, synthesizeStack } from "./synthesis.ts";
import { TerraformDocument } from "./terraform.ts";
import { planTopology, type Topology } from "./topology.ts";

export interface DemoOptions {
  /** The stack's cdk.tf.json; undefined synthesizes exit-node-stack. */
  readonly stack: string | undefined;
  /** The folder with the agent's bundle. */
  readonly agent: string;
  /** Synthesizes the stack with the tunnel's port closed in its security group. */
  readonly closedPort: boolean;
  /** Leaves the lab running until Ctrl-C. */
  readonly keep: boolean;
  /** The package's folder. */
  readonly root: string;
  readonly self: readonly string[];
}

/** The exit code: 0 when every client ended as its network lets it. @throws SallyportError */
export async function demo(options: DemoOptions): Promise<number> {
  const say = (line: string): boolean => process.stdout.write(`${line}\n`);
  const { cloud, node } = await readStack(options);
  const topology = planTopology(cloud, { exitNodeName: node.hostname });
  say(`The lab builds ${options.stack ?? STACK} and a small internet around it:\n`);
  for (const line of drawTopology(topology, node.port)) say(`  ${line}`);
  if (cloud.notModelled.length > 0) say(`\n  not rebuilt: ${cloud.notModelled.join(", ")}`);
  const started = performance.now();
  const lab = await openWithSignals(topology, options, say);
  try {
    say(`\n  ${topology.namespaces.length} namespaces ${secondsSince(started)} s`);
    const outcomes = await tellStory({
      lab,
      agents: new Agents(lab, options.agent),
      node,
      self: options.self,
      say,
    });
    const good = outcomes.every(({ asExpected }) => asExpected);
    say(`\n${good ? "As expected" : "Not as expected"}, in ${secondsSince(started)} s.`);
    if (options.keep) await keep(lab, say);
    return good ? 0 : 1;
  } finally {
    await lab.close();
  }
}

async function readStack({ stack, closedPort, root }: DemoOptions): Promise<Stack> {
  const json =
    stack === undefined
      ? await synthesizeStack(root, closedPort ? { openTunnelPort: false } : {})
      : readStackFile(stack);
  const cloud = readCloud(TerraformDocument.read(json));
  const [instance] = cloud.instances;
  if (instance === undefined) throw new UsageError("lab-stack", "the stack has no instance");
  return { cloud, node: readNodeSettings(instance) };
}

interface Stack {
  readonly cloud: CloudModel;
  readonly node: NodeSettings;
}

/** 128 + the signal's number, as shells have it. */
const ENDINGS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

async function openWithSignals(
  topology: Topology,
  { self }: DemoOptions,
  say: (line: string) => void,
): Promise<Lab> {
  const opening = Lab.open(topology, {
    self,
    onLeftovers: (ids) => say(`  removed what a lab that was killed had left: ${ids.join(", ")}`),
  });
  const end = (code: number): void => {
    // A second signal ends at once; the watchdog then clears up.
    for (const signal of Object.keys(ENDINGS)) process.on(signal, () => process.exit(code));
    void opening.then((lab) => lab.close()).finally(() => process.exit(code));
  };
  for (const [signal, code] of Object.entries(ENDINGS)) process.once(signal, () => end(code));
  // Whoever read our story has gone.
  process.stdout.on("error", () => end(1));
  return opening;
}

async function keep(lab: Lab, say: (line: string) => void): Promise<void> {
  say(`\nThe lab stays until Ctrl-C; its logs and state are in ${lab.folder}. Enter a namespace with:`);
  for (const { name } of lab.topology.namespaces) say(`  ip netns exec ${lab.namespace(name)} bash`);
  await new Promise(() => setInterval(() => {}, 1 << 30));
}

const secondsSince = (start: number): string => ((performance.now() - start) / 1000).toFixed(1);
