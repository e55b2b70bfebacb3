import { millis } from "../../agent/src/base/time.ts";
import { World } from "../sim/world.ts";

/** Of wireguard-go and the kernel: how far behind the newest counter a packet may be. */
const STOCK_WINDOW = 8_128;

test("a fast sender's move to the direct path loses nothing at a stock peer", () => {
  const world = new World(7);
  const alice = world.addHost("alice");
  const bob = world.addHost("bob", { replayWindow: STOCK_WINDOW });
  world.join();
  let sent = 0;
  for (let ms = 0; ms < 400; ms++) {
    for (let i = 0; i < 60; i++) world.send(alice, bob, sent++);
    world.run(millis(1));
  }
  world.run(millis(2_000));

  const received = world.received(alice, bob);
  expect(world.pathOf(alice, bob)).toBe("direct");
  // What waited for the handshake beyond the queue's 512 is lost before any path is chosen.
  const first = Math.min(...received.filter((sequence) => sequence > 512));
  expect(new Set(received).size).toBe(received.length);
  expect(received.filter((sequence) => sequence >= first)).toHaveLength(sent - first);
}, 60_000);
