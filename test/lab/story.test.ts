import { readNodeSettings } from "../../lab/node-settings.ts";
import type { CommandResult, Stage } from "../../lab/stage.ts";
import { type ClientOutcome, tellStory } from "../../lab/story.ts";
import { exitNodeOf } from "../../lab/topology.ts";
import { exitNodeTopology } from "./stack.ts";

const { cast } = exitNodeTopology({ hostname: "exit-node" });
const node = readNodeSettings(exitNodeOf(cast));
const GATEWAY = "198.18.10.12";

/** A stage on which every client says the same of its path; hotel's network lets no UDP through. */
function stage(overrides: Partial<Stage> = {}): Stage {
  const peer = (host: string) => ({
    HostName: "exit-node",
    TailscaleIPs: ["100.64.0.1"],
    ...(host === "hotel" ? { Relay: "nyc" } : { CurAddr: "198.18.10.10:41641" }),
  });
  return {
    start: () => Promise.resolve(),
    command: (host): Promise<CommandResult> =>
      Promise.resolve({ code: 0, lines: [JSON.stringify({ Peer: { "nodekey:1": peer(host) } })] }),
    probe: () => Promise.resolve(true),
    exit: { ip: GATEWAY, whose: "the NAT gateway's address", ask: () => Promise.resolve(GATEWAY) },
    ...overrides,
  };
}

async function told(
  overrides: Partial<Stage> = {},
): Promise<{ outcomes: readonly ClientOutcome[]; text: string }> {
  const lines: string[] = [];
  const say = (line: string): number => lines.push(line);
  const outcomes = await tellStory({ cast, node, stage: stage(overrides), say });
  return { outcomes, text: lines.join("\n") };
}

test("where paths, packets and exit traffic are as the networks let them be, all is as expected", async () => {
  const { outcomes, text } = await told();
  expect(outcomes.map(({ asExpected }) => asExpected)).toEqual([true, true, true]);
  expect(text).not.toContain("NOT AS EXPECTED");
});

test("packets that don't arrive are noticed", async () => {
  const { outcomes } = await told({ probe: () => Promise.resolve(false) });
  for (const { asExpected, path } of outcomes) {
    expect(asExpected).toBe(false);
    expect(path).toContain("but packets are lost");
  }
});

test.each(["198.18.10.10", undefined])(
  "exit traffic that the internet sees from %s is noticed",
  async (seen) => {
    const exit = { ip: GATEWAY, whose: "the NAT gateway's address", ask: () => Promise.resolve(seen) };
    const { outcomes, text } = await told({ exit });
    expect(outcomes.map(({ asExpected }) => asExpected)).toEqual([false, false, false]);
    expect(text).toContain(`${seen ?? "nothing"}: NOT AS EXPECTED: ${GATEWAY} was`);
  },
);

test("a path that the network would let be better is noticed", async () => {
  const relayed = { HostName: "exit-node", TailscaleIPs: ["100.64.0.1"], Relay: "nyc" };
  const lines = [JSON.stringify({ Peer: { "nodekey:1": relayed } })];
  const { outcomes, text } = await told({ command: () => Promise.resolve({ code: 0, lines }) });
  expect(outcomes.map(({ client, asExpected }) => [client, asExpected])).toEqual([
    ["laptop", false],
    ["office", false],
    ["hotel", true],
  ]);
  expect(text).toContain("NOT AS EXPECTED: direct was");
});
