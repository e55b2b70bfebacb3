/** How long packets may be: found out between peers whose tunnels carry more, and given up when the path does not. */
import { seconds } from "../../agent/src/base/time.ts";
import type { Host } from "../sim/internet.ts";
import { easyNat } from "../sim/nat.ts";
import { World, type HostOptions } from "../sim/world.ts";

const JUMBO = 9000;

function connected(a: HostOptions, b: HostOptions): { world: World; alice: Host; bob: Host; sent: number } {
  const world = new World(3);
  const alice = world.addHost("alice", a);
  const bob = world.addHost("bob", b);
  world.join();
  const sent = world.stream(alice, bob, { first: 0, gap: 20, length: seconds(3) });
  expect(world.pathOf(alice, bob)).toBe("direct");
  return { world, alice, bob, sent };
}

describe.each([false, true])("with a data plane: %p", (plane) => {
  test.each([
    { links: 1500, mtu: 1408 },
    { links: 9001, mtu: 8912 },
    { links: 1380, mtu: 1280 },
  ])("two large tunnels over links of $links bytes use $mtu", ({ links, mtu }) => {
    const options = { mtu: JUMBO, linkMtu: links, plane };
    const { world, alice, bob, sent } = connected({ ...options, nat: easyNat }, options);
    expect([world.mtuOf(alice, bob), world.mtuOf(bob, alice)]).toEqual([mtu, mtu]);
    world.send(alice, bob, sent, mtu);
    world.run(seconds(1));
    expect(world.received(alice, bob)).toContain(sent);
  });

  test("the smaller of two links counts, on both sides", () => {
    const { world, alice, bob } = connected(
      { mtu: JUMBO, linkMtu: 9100, plane },
      { mtu: JUMBO, linkMtu: 1500, plane },
    );
    expect([world.mtuOf(alice, bob), world.mtuOf(bob, alice)]).toEqual([1408, 1408]);
  });

  test("a peer with a tunnel of 1,280 bytes keeps it, and what is longer is cut for it", () => {
    const { world, alice, bob, sent } = connected({ mtu: JUMBO, plane }, { plane });
    expect([world.mtuOf(alice, bob), world.mtuOf(bob, alice)]).toEqual([1280, 1280]);
    world.send(alice, bob, sent, 1280);
    world.run(seconds(1));
    expect(world.received(alice, bob)).toContain(sent);
  });

  test("when the path shrinks, smaller packets are used soon, the path stays, and what fits arrives", () => {
    const { world, alice, bob, sent } = connected(
      { mtu: JUMBO, linkMtu: JUMBO + 80, plane },
      { mtu: JUMBO, plane },
    );
    expect(world.mtuOf(alice, bob)).toBe(JUMBO);
    alice.mtu = 1500;
    const more = world.stream(alice, bob, { first: sent, gap: 20, length: seconds(3) });
    expect([world.mtuOf(alice, bob), world.pathOf(alice, bob)]).toEqual([1408, "direct"]);
    world.run(seconds(1));
    expect(new Set(world.received(alice, bob)).size).toBe(sent + more);
    expect(world.moves.filter(({ host }) => host === "alice").at(-1)?.to?.kind).toBe("direct");
  });

  test("without a direct path nothing is known, and 1,280 holds", () => {
    const world = new World(5);
    const alice = world.addHost("alice", { mtu: JUMBO, plane, udpBlocked: true });
    const bob = world.addHost("bob", { mtu: JUMBO, plane });
    world.join();
    world.stream(alice, bob, { first: 0, gap: 100, length: seconds(3) });
    expect(world.mtuOf(alice, bob)).toBe(1280);
  });
});
