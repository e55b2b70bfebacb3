/**
 * What `npm start` tells: each client reaches the exit node by the relay first and, where its network allows, directly. Every
 * line about a connection comes from the agents or from packets; only the comparison at the end is the lab's.
 */
import type { Agents, PeerJson } from "./agents.ts";
import { expectPath, type Expectation } from "./expectation.ts";
import type { Lab } from "./lab.ts";
import type { NodeSettings } from "./node-settings.ts";
import { Printer } from "./printer.ts";
import type { ClientPart } from "./topology.ts";

export interface StoryOptions {
  readonly lab: Lab;
  readonly agents: Agents;
  readonly node: NodeSettings;
  /** The command that runs this program again. */
  readonly self: readonly string[];
  readonly say: (line: string) => void;
}

export interface ClientOutcome {
  readonly client: string;
  /** "direct 198.18.10.10:41641", "relay nyc", or what went wrong. */
  readonly path: string;
  readonly expected: Expectation;
  readonly asExpected: boolean;
}

/** Starts everything and lets every client reach for the exit node. @throws OperationError when something doesn't start */
export async function tellStory(options: StoryOptions): Promise<readonly ClientOutcome[]> {
  await startAll(options);
  const printer = new Printer(options.say);
  const outcomes = await Promise.all(
    options.lab.topology.cast.clients.map(async (client) => {
      const story = printer.open();
      try {
        return await clientStory(options, client, story.say);
      } finally {
        story.end();
      }
    }),
  );
  summarize(outcomes, options);
  return outcomes;
}

const HTTP_PORT = 8080;
const NAT_TEXT = { easy: "an easy NAT", hard: "a hard NAT", "udp-blocked": "a NAT that blocks UDP" } as const;

async function startAll({ lab, agents, node, self, say }: StoryOptions): Promise<void> {
  const { cast } = lab.topology;
  const timed = async <T>(what: string, work: Promise<T>): Promise<T> => {
    const start = performance.now();
    const result = await work;
    say(`  ${what.padEnd(52)} ${((performance.now() - start) / 1000).toFixed(1)} s`);
    return result;
  };
  const derpMap = await timed(`relay ${cast.relay.code} at ${cast.relay.ip.text}`, agents.startRelay());
  await timed(`coordination server at ${cast.control.ip.text}`, agents.startControl(derpMap));
  const exitNode = agents.startDaemon(cast.exitNode.namespace, node.hostname, node.config);
  await timed(
    `${node.hostname}, udp/${node.port}, public ${cast.exitNode.publicIp?.text ?? "address: none"}`,
    exitNode,
  );
  const clients = cast.clients.map(({ namespace, nat }) =>
    timed(`${namespace} behind ${NAT_TEXT[nat]}`, agents.startDaemon(namespace, namespace, {})),
  );
  const web = lab.start(cast.exitNode.namespace, {
    name: "web-server",
    command: [...self, "http-server", String(HTTP_PORT)],
  });
  await Promise.all([...clients, web.readyLine(/^listening/, 10_000)]);
}

async function clientStory(
  { lab, agents, node, self }: StoryOptions,
  client: ClientPart,
  say: (line: string) => void,
): Promise<ClientOutcome> {
  const { namespace } = client;
  const indented = (line: string): void => say(`  ${line}`.trimEnd());
  const { exitNode } = lab.topology.cast;
  say("");
  say(`${namespace}, behind ${NAT_TEXT[client.nat]}`);
  say(`  $ sallyport ping ${node.hostname}`);
  await agents.command(namespace, ["ping", node.hostname], indented);
  const address = tunnelAddress(await peer(agents, namespace, node));
  const inside = async (name: string, args: readonly string[]): Promise<boolean> => {
    say(`  $ ${args.join(" ")}`);
    const options = { name: `${namespace}-${name}`, command: [...self, ...args], onLine: indented };
    return (await lab.run(namespace, options, 15_000)).code === 0;
  };
  const icmp = address !== undefined && (await inside("icmp", ["icmp", address]));
  const http =
    address !== undefined && (await inside("http-get", ["http-get", `http://${address}:${HTTP_PORT}/`]));
  say("  $ sallyport status");
  await agents.command(namespace, ["status"], indented);
  const path = pathOf(await peer(agents, namespace, node));
  const expected = expectPath(exitNode, node.port, client);
  const asExpected = icmp && http && path.startsWith(expected.path);
  return {
    client: namespace,
    path: icmp && http ? path : `${path}, but packets are lost`,
    expected,
    asExpected,
  };
}

async function peer(agents: Agents, namespace: string, node: NodeSettings): Promise<PeerJson | undefined> {
  const status = await agents.status(namespace);
  return Object.values(status.Peer ?? {}).find((one) => one.HostName === node.hostname);
}

const tunnelAddress = (one: PeerJson | undefined): string | undefined =>
  one?.TailscaleIPs?.find((ip) => !ip.includes(":"));

function pathOf(one: PeerJson | undefined): string {
  if (one === undefined) return "unknown to its daemon";
  return one.CurAddr === undefined || one.CurAddr === ""
    ? `relay ${one.Relay ?? ""}`
    : `direct ${one.CurAddr}`;
}

function summarize(outcomes: readonly ClientOutcome[], { say, node }: StoryOptions): void {
  say("");
  say(`How ${node.hostname} is reached`);
  for (const { client, path, expected, asExpected } of outcomes) {
    say(`  ${client.padEnd(8)} ${path.padEnd(30)} ${expected.because}`);
    if (!asExpected) say(`  ${" ".repeat(8)} NOT AS EXPECTED: ${expected.path} was`);
  }
}
