import fc from "fast-check";
import { millis, seconds } from "../../agent/src/base/time.ts";
import { directPathPossible, type NatBehaviour } from "../sim/nat.ts";
import { World } from "../sim/world.ts";

const nat: fc.Arbitrary<NatBehaviour | undefined> = fc.option(
  fc.record<NatBehaviour>({
    mapping: fc.constantFrom("endpoint-independent", "endpoint-dependent"),
    filtering: fc.constantFrom("open", "address", "address-and-port"),
    expiry: fc.constantFrom(seconds(30), seconds(120), seconds(350)),
  }),
  { nil: undefined },
);
const place = fc.record({ nat, latency: fc.integer({ min: 1, max: 30 }), udpBlocked: fc.boolean() });

test("in any pair of networks: direct exactly where it must be, relayed elsewhere, nothing lost or twice", () => {
  fc.assert(
    fc.property(place, place, fc.integer({ min: 1, max: 1_000_000 }), (a, b, seed) => {
      const world = new World(seed, [{ code: "nyc", id: 900, latency: 120 }]);
      const host = (name: string, { nat: behaviour, ...rest }: typeof a) =>
        world.addHost(name, behaviour === undefined ? rest : { ...rest, nat: behaviour });
      const [alice, bob] = [host("alice", a), host("bob", b)];
      world.join();
      const there = world.stream(alice, bob, { first: 0, gap: 20, length: seconds(6) });
      const back = world.stream(bob, alice, { first: 0, gap: 20, length: seconds(2) });
      world.run(millis(1_000));

      const received = [...world.received(alice, bob)].sort((x, y) => x - y);
      expect(received).toEqual(Array.from({ length: there }, (_, i) => i));
      expect(world.received(bob, alice).length).toBe(back);
      const possible = !a.udpBlocked && !b.udpBlocked && directPathPossible(a.nat, b.nat);
      expect(world.pathOf(alice, bob)).toBe(possible ? "direct" : "relay");
    }),
    { numRuns: 60 },
  );
});

const everyNat: readonly (NatBehaviour | undefined)[] = [
  undefined,
  ...(["endpoint-independent", "endpoint-dependent"] as const).flatMap((mapping) =>
    (["open", "address", "address-and-port"] as const).map((filtering) => ({
      mapping,
      filtering,
      expiry: seconds(120),
    })),
  ),
];
const pairs = everyNat.flatMap((a, i) =>
  everyNat.slice(i).map((b) => ({ a, b, names: `${named(a)} and ${named(b)}` })),
);

test.each(pairs)("between $names a direct path is found exactly where there can be one", ({ a, b }) => {
  const world = new World(5);
  const alice = world.addHost("alice", a === undefined ? {} : { nat: a });
  const bob = world.addHost("bob", b === undefined ? {} : { nat: b });
  world.join();
  world.stream(alice, bob, { first: 0, gap: 100, length: seconds(6) });
  expect(world.pathOf(alice, bob)).toBe(directPathPossible(a, b) ? "direct" : "relay");
  expect(world.pathOf(bob, alice)).toBe(directPathPossible(a, b) ? "direct" : "relay");
});

function named(nat: NatBehaviour | undefined): string {
  return nat === undefined ? "a public address" : `${nat.mapping} mapping with ${nat.filtering} filtering`;
}
