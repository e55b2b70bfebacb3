/** The data plane in the daemon as it is shipped: each way it can go, its end, and its failure. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LabProcess } from "../../lab/processes.ts";
import { requires } from "../skip.ts";
import { canBuildLabs, LAB_NEEDS } from "./bundle.ts";
import { DaemonPair, DEVICE, type Side } from "./daemon-pair.ts";

const testHere = requires("root", canBuildLabs, LAB_NEEDS);
const LIMIT_MS = 20_000;
const PORT = "8081";
const BYTES = 2 * 1024 * 1024;

let pair: DaemonPair;
let daemon: LabProcess | undefined;
let programs: LabProcess[] = [];

beforeAll(async () => {
  if (testHere === test) pair = await DaemonPair.open();
}, 2 * LIMIT_MS);

afterEach(async () => {
  if (daemon !== undefined) programs.push(daemon);
  await Promise.all(programs.map((one) => one.stop()));
  [daemon, programs] = [undefined, []];
});

afterAll(() => pair?.close(), LIMIT_MS);

testHere.each([
  [{}, { Fallbacks: [] }],
  [{ SALLYPORT_NO_GSO: "1" }, { UdpSegmentation: false, Fallbacks: [says("SALLYPORT_NO_GSO is 1")] }],
  [{ SALLYPORT_NO_GRO: "1" }, { UdpReceiveOffload: false, Fallbacks: [says("SALLYPORT_NO_GRO is 1")] }],
  [
    { SALLYPORT_NO_TUN_OFFLOAD: "1" },
    { TunOffload: "none", Fallbacks: [says("SALLYPORT_NO_TUN_OFFLOAD is 1")] },
  ],
  [{ SALLYPORT_DATAPLANE: "off" }, { Workers: 0, Why: "SALLYPORT_DATAPLANE is off" }],
  [{ SALLYPORT_AEAD: "openssl-evp" }, { Aead: "openssl-evp" }],
  [{ SALLYPORT_AEAD: "wasm" }, { Aead: "wasm" }],
  [{ SALLYPORT_AEAD: "node-crypto" }, { Aead: "node-crypto" }],
])(
  "with %j files go both ways, and status names the way",
  async (env, expected) => {
    daemon = await pair.start("ours", { env });
    await expectFile("theirs");
    await expectFile("ours");
    const { DataPlane: ways } = await pair.status("ours");
    expect(ways).toMatchObject(
      "Fallbacks" in expected
        ? { ...expected, Fallbacks: expect.arrayContaining([...expected.Fallbacks]) }
        : expected,
    );
    if (!("SALLYPORT_DATAPLANE" in env)) expect(ways?.Workers).toBeGreaterThan(0);
  },
  LIMIT_MS,
);

function says(words: string): unknown {
  return expect.stringContaining(words);
}

testHere(
  "without C functions a node is up and answers pings by Node's own sockets, and says so",
  async () => {
    daemon = await pair.start("ours", { env: { SALLYPORT_NO_FFI: "1" }, namesDevice: false });
    // The other side may still use the session of the program before.
    await pair.run("theirs", "ping", ["ping", "-c", "1", "-i", "0.2", "-w", "5", pair.ip("ours")]);
    const ping = ["ping", "-c", "5", "-i", "0.2", "-s", "1200", pair.ip("ours")];
    expect((await pair.run("theirs", "ping", ping)).lines.join("\n")).toContain(" 0% packet loss");
    expect((await pair.sallyport("theirs", "ping", pair.ip("ours"))).join("\n")).toContain("via 198.18.2.1:");
    const { TUN, DataPlane: ways } = await pair.status("ours");
    expect(TUN).toBe(false);
    expect(ways).toMatchObject({
      ...{ Workers: 0, Why: "SALLYPORT_NO_FFI is 1", Aead: "node-crypto", TunOffload: "none" },
      Fallbacks: [says("node:dgram: SALLYPORT_NO_FFI is 1"), says("a device in memory")],
    });
    expect((await pair.sallyport("ours", "netcheck", "--verbose")).join("\n")).toContain(
      "\t* Data plane: 0 workers (SALLYPORT_NO_FFI is 1)",
    );
  },
  LIMIT_MS,
);

testHere.each([1, 2, 4])(
  "SIGTERM ends the daemon in order while %i workers carry load",
  async (workers) => {
    daemon = await pair.start("ours", { workers });
    expect((await pair.status("ours")).DataPlane?.Workers).toBe(workers);
    await startLoad();
    const began = performance.now();
    expect(await daemon.stop()).toEqual({ code: 0, signal: undefined });
    // The rest of the daemon has two seconds, after which it ends all the same.
    expect(performance.now() - began).toBeLessThan(2_000);
    expect((await pair.run("ours", "links", ["ip", "-o", "link"])).lines.join("\n")).not.toContain(DEVICE);
  },
  LIMIT_MS,
);

testHere(
  "a worker that dies under load ends the daemon with one clear sentence, for systemd to start it anew",
  async () => {
    const [poison, trigger] = [join(pair.folder, "poison.cjs"), join(pair.folder, "now")];
    // What each turn of a worker's loop calls fails once the file is there.
    writeFileSync(
      poison,
      `const { isMainThread } = require("node:worker_threads");
const { existsSync } = require("node:fs");
const now = performance.now.bind(performance);
if (!isMainThread) performance.now = () => {
  if (existsSync(${JSON.stringify(trigger)})) throw new Error("out of luck");
  return now();
};`,
    );
    daemon = await pair.start("ours", { node: ["--require", poison], workers: 2 });
    await startLoad();
    writeFileSync(trigger, "");
    expect((await daemon.exited).code).toBe(1);
    expect(spoken(daemon)).toEqual([
      "the data plane's thread has ended (out of luck): restart the daemon; SALLYPORT_DATAPLANE=off does without it",
    ]);
  },
  LIMIT_MS,
);

testHere(
  "a TUN device that is taken away ends the daemon with one clear sentence",
  async () => {
    daemon = await pair.start("ours");
    await pair.run("ours", "unlink", ["ip", "link", "del", DEVICE]);
    expect((await daemon.exited).code).toBe(1);
    const [sentence, ...others] = spoken(daemon);
    expect(sentence).toMatch(/^TUN device sp0 is gone \(.+\): restart the daemon to create it anew$/);
    expect(others).toEqual([]);
  },
  LIMIT_MS,
);

/** What is for people: the log is JSON. */
const spoken = ({ lines }: LabProcess): readonly string[] => lines.filter((line) => !line.startsWith("{"));

async function expectFile(from: Side): Promise<void> {
  const [given, taken] = await pair.sendFile(from, BYTES);
  expect(taken).toBe(given);
}

/** Returns when it flows. */
async function startLoad(): Promise<void> {
  const pourer = pair.traffic("theirs", "pour", PORT);
  programs.push(pourer);
  await pourer.readyLine(/^listening/, LIMIT_MS);
  const swallower = pair.traffic("ours", "swallow", pair.ip("theirs"), PORT);
  programs.push(swallower);
  expect(await swallower.readyLine(/./, LIMIT_MS)).toBe("flowing");
}
