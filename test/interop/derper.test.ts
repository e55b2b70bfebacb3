/** An unmodified derper as the relay of our daemon and of tailscaled. */
import { joinAll, Ours, Tailscaled } from "./devices.ts";
import { buildPeers, PEERS_TIMEOUT_MS, testWithPeers, type Peers } from "./peers.ts";
import { RELAY_CODE, startControl, startDerper } from "./servers.ts";
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
  "our daemon takes derper as its home, and sends through it while UDP is blocked",
  async () => {
    world = await World.open();
    const server = await startControl(world, await startDerper(world, peers.derper));
    const [ours, theirs] = [new Ours(world, server), new Tailscaled(world, server, peers)];
    await joinAll(ours, theirs);
    expect((await ours.status()).Self.Relay).toBe(RELAY_CODE);

    await world.cutUdp(OURS, THEIRS);
    expect((await ours.ping("-c", "1", "theirs"))[0]).toMatch(/ via DERP\(nyc\) in /);
    expect((await theirs.ping("-c", "1", "ours"))[0]).toMatch(/ via DERP\(nyc\) in /);
    await expectTraffic(world, ours, theirs);
    await world.restoreUdp();
    expect((await ours.ping("-c", "20", "theirs")).at(-1)).toMatch(/ via 198\.18\.1\.40:41641 in /);
  },
  TEST_TIMEOUT_MS,
);
