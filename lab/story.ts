/**
 * What `npm start` tells: each client reaches the exit node by the relay first and, where its network allows, directly. Every
 * line about a connection comes from the agents or from packets; only the comparison at the end is the lab's.
 */
import { expectPath, type Expectation } from "./expectation.ts";
import { NAT_TEXT } from "./firewall.ts";
import type { NodeSettings } from "./node-settings.ts";
import { Printer } from "./printer.ts";
import { type PeerJson, readStatus, type Stage } from "./stage.ts";
import { type Cast, type ClientPart, exitNodeOf } from "./topology.ts";

export interface StoryOptions {
  readonly cast: Cast;
  readonly stage: Stage;
  readonly node: NodeSettings;
  readonly say: (line: string) => void;
}

export interface ClientOutcome {
  readonly client: string;
  /** "direct 198.18.10.10:41641", "relay nyc", or what went wrong. */
  readonly path: string;
  readonly expected: Expectation;
  /** The address that the internet saw; undefined where nobody asked or nothing came through. */
  readonly exitIp: string | undefined;
  readonly asExpected: boolean;
}

/** Starts everything and lets every client reach for the exit node. @throws OperationError when something doesn't start */
export async function tellStory(options: StoryOptions): Promise<readonly ClientOutcome[]> {
  await options.stage.start(options.say);
  const printer = new Printer(options.say);
  const outcomes = await Promise.all(
    options.cast.clients.map(async (client) => {
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

async function clientStory(
  { cast, stage, node }: StoryOptions,
  client: ClientPart,
  say: (line: string) => void,
): Promise<ClientOutcome> {
  const host = client.namespace;
  const indented = (line: string): void => say(`  ${line}`.trimEnd());
  say("");
  say(client.nat === "none" ? `${host}, with a public address` : `${host}, behind ${NAT_TEXT[client.nat]}`);
  say(`  $ sallyport ping ${node.hostname}`);
  await stage.command(host, ["ping", node.hostname], indented);
  const address = tunnelAddress(await peer(stage, host, node));
  const arrived = address !== undefined && ((await stage.probe?.(host, address, indented)) ?? true);
  const exitIp = await stage.exit?.ask(host, node.hostname, indented);
  say("  $ sallyport status");
  await stage.command(host, ["status"], indented);
  const path = pathOf(await peer(stage, host, node));
  const expected = expectPath(exitNodeOf(cast), node.port, client);
  const asExpected = arrived && path.startsWith(expected.path) && exitIp === stage.exit?.ip;
  return {
    client: host,
    path: arrived ? path : `${path}, but packets are lost`,
    expected,
    exitIp,
    asExpected,
  };
}

async function peer(stage: Stage, host: string, node: NodeSettings): Promise<PeerJson | undefined> {
  const status = await readStatus(stage, host);
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

function summarize(outcomes: readonly ClientOutcome[], { say, node, stage }: StoryOptions): void {
  say("");
  say(`How ${node.hostname} is reached`);
  for (const { client, path, expected } of outcomes) {
    say(`  ${client.padEnd(8)} ${path.padEnd(30)} ${expected.because}`);
    if (!path.startsWith(expected.path)) say(`  ${" ".repeat(8)} NOT AS EXPECTED: ${expected.path} was`);
  }
  if (stage.exit === undefined) return;
  const { ip, whose } = stage.exit;
  say("");
  say("What the internet sees of their exit traffic");
  for (const { client, exitIp } of outcomes) {
    const seen =
      exitIp === ip ? `${ip.padEnd(30)} ${whose}` : `${exitIp ?? "nothing"}: NOT AS EXPECTED: ${ip} was`;
    say(`  ${client.padEnd(8)} ${seen}`);
  }
}
