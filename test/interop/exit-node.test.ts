/** An exit node of ours for an unmodified tailscaled, and the other way round. */
import { joinAll, Ours, Tailscaled, type Device } from "./devices.ts";
import { buildPeers, PEERS_TIMEOUT_MS, testWithPeers, type Peers } from "./peers.ts";
import { startControl, startRelay } from "./servers.ts";
import { OURS, RELAY, THEIRS, World } from "./world.ts";

const PORT = 8080;
const TEST_TIMEOUT_MS = 90_000;

let peers: Peers;
let world: World;
let ours: Ours;
let theirs: Tailscaled;

beforeAll(async () => {
  if (testWithPeers !== test) return;
  peers = await buildPeers();
  world = await World.open();
  const server = await startControl(world, await startRelay(world));
  ours = new Ours(world, server);
  theirs = new Tailscaled(world, server, peers);
  await joinAll(ours, theirs);
  await world.serveHttp(RELAY, PORT);
  const forward = ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"];
  await world.run(THEIRS, { name: "forward", command: forward });
}, PEERS_TIMEOUT_MS);

afterAll(() => world?.close(), TEST_TIMEOUT_MS);

testWithPeers(
  "our traffic goes out by tailscaled",
  async () => {
    await say(theirs, "set", "--advertise-exit-node");
    await use(ours, theirs, world.addressOf(THEIRS));
    await say(theirs, "set", "--advertise-exit-node=false");
  },
  TEST_TIMEOUT_MS,
);

testWithPeers(
  "tailscaled's traffic goes out by us",
  async () => {
    await say(ours, "set", "--advertise-exit-node");
    await use(theirs, ours, world.addressOf(OURS));
  },
  TEST_TIMEOUT_MS,
);

/** Sends the traffic of `client` out by `exit` and back again. */
async function use(client: Device, exit: Device, seenAs: string): Promise<void> {
  const visit = (): Promise<string> =>
    world.fetchHttp(client.host, `http://${world.addressOf(RELAY)}:${PORT}/`);
  const own = world.addressOf(client.host);
  expect(await visit()).toContain(`hello ${own},`);
  await client.until("an exit node on offer", async () =>
    (await client.command("set", `--exit-node=${exit.ip}`)).code === 0 ? true : undefined,
  );
  await client.until("going out by it", async () =>
    (await visit()).includes(`hello ${seenAs},`) ? true : undefined,
  );
  await say(client, "set", "--exit-node=");
  await client.until("going out by itself", async () =>
    (await visit()).includes(`hello ${own},`) ? true : undefined,
  );
}

async function say(device: Device, ...words: readonly string[]): Promise<void> {
  const { code, lines } = await device.command(...words);
  expect([code, code === 0 ? [] : lines]).toEqual([0, []]);
}
