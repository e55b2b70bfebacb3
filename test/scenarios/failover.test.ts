import { Ip } from "../../agent/src/base/address.ts";
import { minutes, millis, seconds } from "../../agent/src/base/time.ts";
import type { Host } from "../sim/internet.ts";
import { easyNat } from "../sim/nat.ts";
import { World } from "../sim/world.ts";

/** Two hosts with a direct path in use, and how many packets went out so far. */
function connected(seed = 1): { world: World; alice: Host; bob: Host; sent: number } {
  const world = new World(seed);
  const alice = world.addHost("alice", { nat: easyNat });
  const bob = world.addHost("bob");
  world.join();
  const sent = world.stream(alice, bob, { first: 0, gap: 10, length: seconds(2) });
  expect(world.pathOf(alice, bob)).toBe("direct");
  return { world, alice, bob, sent };
}

const missing = (numbers: readonly number[], count: number): number[] => {
  const got = new Set(numbers);
  return Array.from({ length: count }, (_, i) => i).filter((i) => !got.has(i));
};

/** The longest time, in ms, in which nothing arrived at `to`. */
function longestSilence(world: World, to: Host): number {
  const times = world.arrivals.filter((arrival) => arrival.to === to.name).map(({ at }) => at);
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? at)));
}

test("a direct path that is cut falls back to the relay within half a second, and nothing is lost", () => {
  const { world, alice, bob, sent } = connected();
  world.net.cut(alice, bob);
  const total = sent + world.stream(alice, bob, { first: sent, gap: 10, length: seconds(5) });
  world.run(seconds(1));

  expect(world.pathOf(alice, bob)).toBe("relay");
  expect(longestSilence(world, bob)).toBeLessThan(600);
  expect(missing(world.received(alice, bob), total)).toEqual([]);
  expect(new Set(world.received(alice, bob)).size).toBe(world.received(alice, bob).length);
});

test.each([1, 2.5, 3.6, 4.2, 5, 7.7, 20])(
  "after a cut of %d s the direct path is won back within a second, and nothing is lost",
  (cut) => {
    const { world, alice, bob, sent } = connected();
    world.net.cut(alice, bob);
    let total = sent + world.stream(alice, bob, { first: sent, gap: 20, length: seconds(cut) });
    world.net.mend(alice, bob);
    total += world.stream(alice, bob, { first: total, gap: 20, length: seconds(1) });
    expect(world.pathOf(alice, bob)).toBe("direct");
    world.run(seconds(1));
    expect(missing(world.received(alice, bob), total)).toEqual([]);
  },
);

test("an idle connection that was cut uses the relay from its first packet on", () => {
  const { world, alice, bob, sent } = connected();
  world.run(seconds(20));
  world.net.cut(alice, bob);
  world.run(minutes(5));
  const total = sent + world.stream(alice, bob, { first: sent, gap: 100, length: seconds(3) });
  world.run(seconds(1));
  expect(missing(world.received(alice, bob), total)).toEqual([]);
});

test("a NAT that forgot the mapping costs nothing", () => {
  const { world, alice, bob, sent } = connected();
  world.run(minutes(10));
  const total = sent + world.stream(bob, alice, { first: 0, gap: 50, length: seconds(3) });
  world.run(seconds(1));
  expect(total).toBeGreaterThan(sent);
  expect(missing(world.received(bob, alice), total - sent)).toEqual([]);
  expect(world.pathOf(bob, alice)).toBe("direct");
});

test("a host that slept for an hour is reached again", () => {
  const { world, alice, bob, sent } = connected();
  world.net.jump(minutes(60));
  const total = sent + world.stream(alice, bob, { first: sent, gap: 50, length: seconds(10) });
  world.run(seconds(2));
  expect(missing(world.received(alice, bob), total)).toEqual([]);
  expect(world.pathOf(alice, bob)).toBe("direct");
});

test("a peer that restarts is reached again within half a second of its being back, and directly", () => {
  const { world, alice, bob, sent } = connected();
  world.restart(bob);
  const backAt = world.net.now;
  world.stream(alice, bob, { first: sent, gap: 10, length: seconds(4) });
  world.run(seconds(1));
  const first = world.arrivals.find(({ to, at }) => to === "bob" && at >= backAt);
  expect((first?.at ?? Infinity) - backAt).toBeLessThan(500);
  expect(world.pathOf(alice, bob)).toBe("direct");
  const late = world.received(alice, bob).filter((sequence) => sequence >= sent + 100);
  expect(late).toHaveLength(300);
});

test("a new interface breaks no connection; one that is gone sends all to the relay until new paths are proven", () => {
  const { world, alice, bob } = connected();
  const wifi = Ip.parse("192.168.77.2");
  alice.node.handleInterfaces([alice.inside.ip, wifi], world.net.now);
  expect(world.pathOf(alice, bob)).toBe("direct");
  alice.node.handleInterfaces([alice.inside.ip], world.net.now);
  expect(world.pathOf(alice, bob)).toBe("relay");
  world.run(seconds(1));
  expect(world.pathOf(alice, bob)).toBe("direct");
});

test.each([200, 1_000, 3_000])(
  "a peer that restarts and gets the map %i ms after us is reached within half a second of that",
  (late) => {
    const { world, alice, bob } = connected();
    world.restart(bob, { late });
    const back = world.net.now + late;
    let sent = 10_000;
    for (; world.net.now < back + 2_000; sent += 10)
      world.stream(alice, bob, { first: sent, gap: 10, length: 100 });
    const first = world.arrivals.find(
      ({ to, sequence, at }) => to === "bob" && sequence >= 10_000 && at >= back,
    );
    expect(first?.at ?? Infinity).toBeLessThan(back + 500);
  },
);

test("a relay that restarts is joined again, and relayed data flows on", () => {
  const world = new World(3);
  const alice = world.addHost("alice", { udpBlocked: true });
  const bob = world.addHost("bob");
  world.join();
  const sent = world.stream(alice, bob, { first: 0, gap: 20, length: seconds(2) });
  world.run(seconds(1));
  world.net.breakStreams([...world.net.regions][0] ?? fail());
  world.run(seconds(2));
  const total = sent + world.stream(alice, bob, { first: sent, gap: 20, length: seconds(2) });
  world.run(seconds(1));
  expect(missing(world.received(alice, bob), total)).toEqual([]);
});

test.each([1, 5, 10])("with %i %% of the datagrams lost the direct path is found and kept", (percent) => {
  const world = new World(percent);
  const alice = world.addHost("alice", { nat: easyNat });
  const bob = world.addHost("bob", { nat: easyNat });
  world.net.loss = percent / 100;
  world.join();
  world.stream(alice, bob, { first: 0, gap: 50, length: seconds(60) });
  world.run(millis(500));
  const received = world.received(alice, bob);
  expect(world.pathOf(alice, bob)).toBe("direct");
  expect(new Set(received).size).toBe(received.length);
  expect(received.length).toBeGreaterThan(1200 * (1 - (2 * percent) / 100));
});

function fail(): never {
  throw new Error("no relay");
}
