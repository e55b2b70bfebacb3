/** With a data plane beside the engine every promise of the engine holds: no loss, nothing twice, through all changes. */
import fc from "fast-check";
import { minutes, seconds } from "../../agent/src/base/time.ts";
import type { Host } from "../sim/internet.ts";
import { easyNat } from "../sim/nat.ts";
import { PlanedNode } from "../sim/planed-node.ts";
import { World } from "../sim/world.ts";

function connected(seed = 1): { world: World; alice: Host; bob: Host; sent: number } {
  const world = new World(seed);
  const alice = world.addHost("alice", { nat: easyNat, plane: true });
  const bob = world.addHost("bob", { plane: true });
  world.join();
  const sent = world.stream(alice, bob, { first: 0, gap: 10, length: seconds(2) });
  expect(world.pathOf(alice, bob)).toBe("direct");
  return { world, alice, bob, sent };
}

function passedBeside({ node }: Host): number {
  return node instanceof PlanedNode ? node.passed : 0;
}

function expectAll(world: World, from: Host, to: Host, total: number): void {
  const numbers = world.received(from, to);
  expect(new Set(numbers).size).toBe(numbers.length);
  expect(numbers.toSorted((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, i) => i));
}

test("once the path is proven, packets pass without the engine on both sides", () => {
  const { world, alice, bob, sent } = connected();
  const before = [passedBeside(alice), passedBeside(bob)];
  const more = world.stream(alice, bob, { first: sent, gap: 10, length: seconds(2) });
  world.run(seconds(1));
  expect(passedBeside(alice) - (before[0] ?? 0)).toBeGreaterThanOrEqual(more);
  expect(passedBeside(bob) - (before[1] ?? 0)).toBeGreaterThanOrEqual(more);
  expectAll(world, alice, bob, sent + more);
});

test("a direct path that is cut falls back to the relay, and is won back: nothing is lost, nothing comes twice", () => {
  const { world, alice, bob, sent } = connected();
  world.net.cut(alice, bob);
  let total = sent + world.stream(alice, bob, { first: sent, gap: 10, length: seconds(4) });
  expect(world.pathOf(alice, bob)).toBe("relay");
  world.net.mend(alice, bob);
  total += world.stream(alice, bob, { first: total, gap: 10, length: seconds(2) });
  world.run(seconds(1));
  expect(world.pathOf(alice, bob)).toBe("direct");
  expectAll(world, alice, bob, total);
});

test("sessions are replaced under way: ten minutes without a lost packet, both ways at once", () => {
  const { world, alice, bob, sent } = connected();
  const there = sent + world.stream(alice, bob, { first: sent, gap: 200, length: minutes(5) });
  const back = world.stream(bob, alice, { first: 0, gap: 200, length: minutes(5) });
  world.run(seconds(1));
  expectAll(world, alice, bob, there);
  expectAll(world, bob, alice, back);
});

test("silence, a keepalive, and a session that expired cost nothing", () => {
  const { world, alice, bob, sent } = connected();
  let total = sent;
  for (const pause of [seconds(12), seconds(50), minutes(4), minutes(12)]) {
    world.run(pause);
    total += world.stream(alice, bob, { first: total, gap: 50, length: seconds(1) });
  }
  world.run(seconds(2));
  expectAll(world, alice, bob, total);
});

test("one side without a data plane talks to one with it", () => {
  const world = new World(5);
  const alice = world.addHost("alice", { nat: easyNat });
  const bob = world.addHost("bob", { plane: true });
  world.join();
  const there = world.stream(alice, bob, { first: 0, gap: 20, length: seconds(4) });
  const back = world.stream(bob, alice, { first: 0, gap: 20, length: seconds(4) });
  world.run(seconds(1));
  expectAll(world, alice, bob, there);
  expectAll(world, bob, alice, back);
});

test("cuts at any moment, of a second and more, lose nothing", () => {
  const cuts = fc.array(
    fc.record({ after: fc.integer({ min: 100, max: 3000 }), lasting: fc.integer({ min: 1000, max: 4000 }) }),
    { minLength: 1, maxLength: 4 },
  );
  fc.assert(
    fc.property(cuts, fc.integer({ min: 1, max: 10_000 }), (script, seed) => {
      const { world, alice, bob, sent } = connected(seed);
      let total = sent;
      for (const { after, lasting } of script) {
        total += world.stream(alice, bob, { first: total, gap: 20, length: after });
        world.net.cut(alice, bob);
        total += world.stream(alice, bob, { first: total, gap: 20, length: lasting });
        world.net.mend(alice, bob);
      }
      world.run(seconds(3));
      expectAll(world, alice, bob, total);
    }),
    { numRuns: 15 },
  );
});
