import { millis, minutes } from "../../agent/src/base/time.ts";
import type { Host } from "../sim/internet.ts";
import { directPathPossible, easyNat, hardNat, type NatBehaviour } from "../sim/nat.ts";
import { type HostOptions, World } from "../sim/world.ts";

interface Scenario {
  readonly name: string;
  readonly a: HostOptions;
  readonly b: HostOptions;
  readonly direct: boolean;
}

const scenarios: readonly Scenario[] = [
  { name: "public to public", a: {}, b: {}, direct: true },
  { name: "easy NAT to easy NAT", a: { nat: easyNat }, b: { nat: easyNat }, direct: true },
  { name: "easy NAT to public", a: { nat: easyNat }, b: {}, direct: true },
  { name: "public to easy NAT", a: {}, b: { nat: easyNat }, direct: true },
  { name: "hard NAT to public", a: { nat: hardNat }, b: {}, direct: true },
  { name: "public to hard NAT", a: {}, b: { nat: hardNat }, direct: true },
  { name: "hard NAT to hard NAT", a: { nat: hardNat }, b: { nat: hardNat }, direct: false },
  { name: "UDP blocked to public", a: { udpBlocked: true }, b: {}, direct: false },
  { name: "public to UDP blocked", a: {}, b: { udpBlocked: true }, direct: false },
];

function worldOf({ a, b }: Scenario, seed = 1): { world: World; alice: Host; bob: Host } {
  const world = new World(seed);
  const alice = world.addHost("alice", a);
  const bob = world.addHost("bob", b);
  world.join();
  return { world, alice, bob };
}

const inOrder = (numbers: readonly number[]): number[] => [...numbers].sort((a, b) => a - b);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe.each(scenarios)("$name", (scenario) => {
  test(`what is said here agrees with the rule of who can reach whom`, () => {
    const behaviour = ({ nat }: HostOptions): NatBehaviour | undefined => nat;
    const blocked = scenario.a.udpBlocked === true || scenario.b.udpBlocked === true;
    expect(!blocked && directPathPossible(behaviour(scenario.a), behaviour(scenario.b))).toBe(
      scenario.direct,
    );
  });

  test("starts relayed, loses nothing, delivers nothing twice", () => {
    const { world, alice, bob } = worldOf(scenario);
    expect(world.pathOf(alice, bob)).toBe("relay");

    const there = world.stream(alice, bob, { first: 0, gap: 5, length: 4_000 });
    world.run(millis(1_000));

    expect(inOrder(world.received(alice, bob))).toEqual(upTo(there));
    expect(world.pathOf(alice, bob)).toBe(scenario.direct ? "direct" : "relay");
    expect(world.pathOf(bob, alice)).toBe(scenario.direct ? "direct" : "relay");
  });

  test("a packet overtakes only those that were in flight on the relay", () => {
    const { world, alice, bob } = worldOf(scenario);
    world.stream(alice, bob, { first: 0, gap: 5, length: 2_000 });
    world.run(millis(1_000));
    const relayDelay = 2 * (5 + 40);
    const arrivals = world.arrivals.filter(({ to }) => to === "bob");
    for (const [i, one] of arrivals.entries()) {
      for (const later of arrivals.slice(i + 1)) {
        if (later.sequence >= one.sequence) continue;
        const apart = (one.sequence - later.sequence) * 5;
        expect(apart).toBeLessThanOrEqual(relayDelay);
      }
    }
  });

  test("stays as it is for as long as the connection lives", () => {
    const { world, alice, bob } = worldOf(scenario);
    let sent = 0;
    for (let minute = 0; minute < 20; minute++) {
      sent += world.stream(alice, bob, { first: sent, gap: 2_000, length: minutes(1) });
      expect(world.pathOf(alice, bob)).toBe(scenario.direct ? "direct" : "relay");
    }
    world.run(millis(1_000));
    expect(inOrder(world.received(alice, bob))).toEqual(upTo(sent));
  });
});
