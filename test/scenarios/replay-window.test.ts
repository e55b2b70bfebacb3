import { millis } from "../../agent/src/base/time.ts";
import { World } from "../sim/world.ts";

/** Of wireguard-go and the kernel: how far behind the newest counter a packet may be. */
const STOCK_WINDOW = 8_128;

test("a fast sender's move to the direct path loses nothing at a stock peer", () => {
  const world = new World(7, [{ code: "far", id: 900, latency: 90 }]);
  const alice = world.addHost("alice");
  const bob = world.addHost("bob", { replayWindow: STOCK_WINDOW });
  world.join();
  // Discovery finds nothing until 700 ms: by then a session is up and the relay is full of packets.
  world.net.cut(alice, bob);
  let sent = world.stream(alice, bob, { first: 0, gap: 10, length: 550 });
  world.net.mend(alice, bob);
  for (let ms = 0; ms < 400; ms++) {
    for (let i = 0; i < 60; i++) world.send(alice, bob, sent++);
    world.run(millis(1));
  }
  world.run(millis(2_000));

  const received = world.received(alice, bob);
  expect(world.pathOf(alice, bob)).toBe("direct");
  expect(world.moves.filter(({ host }) => host === "alice")).toHaveLength(1);
  expect(received).toHaveLength(sent);
  expect(new Set(received).size).toBe(sent);
}, 60_000);
