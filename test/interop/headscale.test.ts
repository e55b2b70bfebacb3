/** Our daemon in a headscale network, beside an unmodified tailscaled. */
import { joinAll, Ours, Tailscaled } from "./devices.ts";
import { buildPeers, PEERS_TIMEOUT_MS, testWithPeers, type Peers } from "./peers.ts";
import { startHeadscale, startRelay } from "./servers.ts";
import { expectTraffic } from "./traffic.ts";
import { OURS, THEIRS, World } from "./world.ts";

const TEST_TIMEOUT_MS = 60_000;

let peers: Peers;
let world: World | undefined;

beforeAll(async () => {
  if (testWithPeers === test) peers = await buildPeers();
}, PEERS_TIMEOUT_MS);

afterEach(() => world?.close(), TEST_TIMEOUT_MS);

testWithPeers(
  "our daemon joins headscale, and reaches tailscaled by the relay, then directly",
  async () => {
    world = await World.open();
    const server = await startHeadscale(world, peers.headscale, await startRelay(world));
    const [ours, theirs] = [new Ours(world, server), new Tailscaled(world, server, peers)];
    await joinAll(ours, theirs);

    const pongs = await ours.ping("theirs");
    expect(pongs[0]).toMatch(/^pong from theirs \([\d.]+\) via DERP\(nyc\) in /);
    expect(pongs.at(-1)).toMatch(/^pong from theirs \([\d.]+\) via 198\.18\.1\.40:41641 in /);
    expect((await theirs.ping("ours")).at(-1)).toMatch(
      /^pong from ours \([\d.]+\) via 198\.18\.1\.30:41641 in /,
    );
    await expectTraffic(world, ours, theirs);

    await world.cutUdp(OURS, THEIRS);
    const relayed = await theirs.until("the relay", async () => {
      const lines = await theirs.ping("-c", "1", "--timeout", "2s", ours.ip);
      return lines[0]?.includes("via DERP(nyc)") ? lines : undefined;
    });
    expect(relayed.at(-1)).toBe("direct connection not established");
  },
  TEST_TIMEOUT_MS,
);
