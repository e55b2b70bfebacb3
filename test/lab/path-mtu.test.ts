/** Packets longer than 1,280 bytes between two daemons, as far as the way between them carries them. */
import { sleep } from "../../lab/system.ts";
import { requires } from "../skip.ts";
import { canBuildLabs, LAB_NEEDS } from "./bundle.ts";
import { DaemonPair } from "./daemon-pair.ts";

const testHere = requires("root", canBuildLabs, LAB_NEEDS);
const LIMIT_MS = 40_000;
const MTU = 8_900;
const PING_HEADERS = 28;
const BYTES = 200 * 1024 * 1024;
const TOO_LONG = /message too long, mtu ?=? ?1\d\d\d|Frag needed and DF set \(mtu = 1\d\d\d\)/i;

let pair: DaemonPair;

beforeAll(async () => {
  if (testHere !== test) return;
  pair = await DaemonPair.open({ mtu: MTU });
  await carry(9_000);
  await pair.start("ours", { mtu: MTU });
}, LIMIT_MS);
afterAll(() => pair?.close(), LIMIT_MS);

testHere(
  "where the way carries jumbo frames the tunnel's whole packets pass, both ways",
  async () => {
    await pair.run("ours", "ping", ["ping", "-c", "15", "-i", "0.2", pair.ip("theirs")]);
    await untilPings(MTU);
    await untilPings(MTU, "theirs");
    const [given, taken] = await pair.sendFile("theirs", BYTES);
    expect(taken).toBe(given);
  },
  LIMIT_MS,
);

testHere(
  "when it carries 1,500 bytes only, connections go on, and longer packets are answered with what fits",
  async () => {
    await untilPings(MTU);
    const [given, taken] = await pair.sendFile("theirs", BYTES, async () => {
      await sleep(200);
      await carry(1_500);
    });
    expect(taken).toBe(given);
    await until("a ping that is too long", async () => TOO_LONG.test((await ping(MTU)).lines.join("\n")));
    await untilPings(1_280);
    // WireGuard, UDP and IPv6 take 80 bytes of the 1,500; longer ones are tried again once a minute.
    expect((await ping(1_440)).code).not.toBe(0);
  },
  LIMIT_MS,
);

/** From now on the wire has this MTU, as a path may have that nobody tells of. */
async function carry(mtu: number): Promise<void> {
  for (const side of ["ours", "theirs"] as const)
    await pair.run(side, "mtu", ["ip", "link", "set", "wire", "mtu", String(mtu)]);
}

/** One of this length, whole or not at all. */
function ping(length: number, from: "ours" | "theirs" = "ours") {
  const size = String(length - PING_HEADERS);
  const to = pair.ip(from === "ours" ? "theirs" : "ours");
  return pair.run(from, "ping", ["ping", "-M", "do", "-c", "1", "-W", "1", "-s", size, to]);
}

async function untilPings(length: number, from: "ours" | "theirs" = "ours"): Promise<void> {
  await until(`a ping of ${length} bytes`, async () => (await ping(length, from)).code === 0);
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  for (const end = performance.now() + 15_000; performance.now() < end; await sleep(100))
    if (await holds()) return;
  throw new Error(`waited in vain for ${what}`);
}
