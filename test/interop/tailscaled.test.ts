/** Unmodified tailscaled with our coordination server, our relay and our daemon. */
import { sleep } from "../../lab/system.ts";
import { joinAll, Ours, Tailscaled, type Device } from "./devices.ts";
import { buildPeers, PEERS_TIMEOUT_MS, say, testWithPeers, type Peers } from "./peers.ts";
import { RELAY_CODE, startControl, startRelay } from "./servers.ts";
import { expectBulk, expectTraffic, startStream } from "./traffic.ts";
import { OURS, THEIRS, World } from "./world.ts";

const BY_RELAY = /^pong from \S+ \([\d.]+\) via DERP\(nyc\) in \d+m?s$/;
const DIRECTLY_TO_OURS = /^pong from ours \([\d.]+\) via 198\.18\.1\.30:41641 in \d+m?s$/;
const DIRECTLY_TO_THEIRS = /^pong from theirs \([\d.]+\) via 198\.18\.1\.40:41641 in \d+m?s$/;
const BULK = 4 * 1024 * 1024;
const TEST_TIMEOUT_MS = 60_000;

let peers: Peers;
let world: World;
let ours: Ours;
let theirs: Tailscaled;

beforeAll(async () => {
  if (testWithPeers === test) peers = await buildPeers();
}, PEERS_TIMEOUT_MS);

/** Each test has a mesh in which nobody has spoken yet. */
beforeEach(async () => {
  if (testWithPeers !== test) return;
  world = await World.open();
  const server = await startControl(world, await startRelay(world));
  ours = new Ours(world, server);
  theirs = new Tailscaled(world, server, peers);
  await joinAll(ours, theirs);
}, TEST_TIMEOUT_MS);

afterEach(() => world?.close(), TEST_TIMEOUT_MS);

testWithPeers(
  "sallyport ping reaches tailscaled by the relay, then directly",
  async () => {
    expect((await theirs.status()).Self.Relay).toBe(RELAY_CODE);
    const pongs = await ours.ping("theirs");
    expect(pongs[0]).toMatch(BY_RELAY);
    expect(pongs.at(-1)).toMatch(DIRECTLY_TO_THEIRS);
    const { lines } = await ours.command("status");
    expect(lines.join("\n")).toMatch(/ theirs .* active; direct 198\.18\.1\.40:41641/);
    expect((await theirs.ping("ours")).at(-1)).toMatch(DIRECTLY_TO_OURS);
    expect((await theirs.peer(ours.ip))?.CurAddr).toBe("198.18.1.30:41641");
    await expectTraffic(world, ours, theirs);
    await expectBulk(world, ours, theirs, BULK);
    await expectBulk(world, theirs, ours, BULK);
  },
  TEST_TIMEOUT_MS,
);

testWithPeers(
  "with UDP blocked between them everything goes by the relay; once it passes, directly",
  async () => {
    await world.cutUdp(OURS, THEIRS);
    const blocked = await theirs.command("ping", "-c", "2", ours.ip);
    expect(blocked.lines.slice(0, 2)).toEqual([
      expect.stringMatching(BY_RELAY),
      expect.stringMatching(BY_RELAY),
    ]);
    expect(blocked.lines.at(-1)).toBe("direct connection not established");
    expect(blocked.code).toBe(1);
    const fromOurs = await ours.command("ping", "-c", "2", theirs.ip);
    expect(fromOurs.lines.slice(0, 2)).toEqual(Array(2).fill(expect.stringMatching(BY_RELAY)));
    expect(fromOurs.code).toBe(1);
    await expectTraffic(world, ours, theirs);
    await expectBulk(world, ours, theirs, BULK);
    await expectBulk(world, theirs, ours, BULK);
    expect((await ours.command("status")).lines.join("\n")).toMatch(/ theirs .* active; relay "nyc"/);
    expect((await theirs.command("status")).lines.join("\n")).toMatch(/ ours .* active; relay "nyc"/);

    await world.restoreUdp();
    expect((await theirs.ping("-c", "20", ours.ip)).at(-1)).toMatch(DIRECTLY_TO_OURS);
    expect((await ours.ping("-c", "20", theirs.ip)).at(-1)).toMatch(DIRECTLY_TO_THEIRS);
  },
  TEST_TIMEOUT_MS,
);

testWithPeers(
  "when the direct path dies, our packets go on by the relay and come back to it later",
  async () => {
    await direct(ours, theirs);
    await direct(theirs, ours);
    const stream = await startStream(world, ours, theirs);
    await sleep(500);

    await world.cutUdp(OURS, THEIRS);
    const cutAt = Date.now();
    const since = (moment: number): number[] => stream.arrivals().filter((at) => at > moment);
    await ours.until("sending by the relay for a second", async () =>
      since(cutAt).length >= 100 ? true : undefined,
    );
    const silence = longestGap(since(cutAt - 100));
    say(`direct path cut: ${silence} ms of silence towards tailscaled`);
    expect(silence).toBeLessThan(TAILSCALED_FAILOVER_MS);

    await world.restoreUdp();
    const restoredAt = performance.now();
    await ours.until("the direct path", async () =>
      (await ours.peer(theirs.ip))?.CurAddr ? true : undefined,
    );
    say(`restored: direct again after ${Math.round(performance.now() - restoredAt)} ms`);
  },
  TEST_TIMEOUT_MS,
);

testWithPeers(
  "after a restart of either the connection is found again",
  async () => {
    await direct(ours, theirs);
    await theirs.restart();
    await direct(ours, theirs);
    expect(await world.answersEcho(OURS, theirs.ip)).toBe(true);
    await ours.restart();
    await direct(theirs, ours);
    await direct(ours, theirs);
    await expectTraffic(world, ours, theirs);
  },
  TEST_TIMEOUT_MS,
);

/** tailscaled's own takes 4.4 to 6.3 s. */
const TAILSCALED_FAILOVER_MS = 4_000;

async function direct(from: Device, to: Device): Promise<void> {
  expect((await from.ping("-c", "20", to.ip)).at(-1)).toMatch(/ via 198\.18\.1\.\d+:41641 in /);
}

function longestGap(times: readonly number[]): number {
  return Math.max(...times.slice(1).map((at, i) => at - (times[i] ?? at)));
}
