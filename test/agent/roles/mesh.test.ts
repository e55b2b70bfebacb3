import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ip } from "../../../agent/src/base/address.ts";
import { silentLog } from "../../../agent/src/base/log.ts";
import type { PingReply, UpEvent } from "../../../agent/src/health/local-backend.ts";
import { type ControlRole, startControl } from "../../../agent/src/roles/control.ts";
import { type Daemon, startDaemon } from "../../../agent/src/roles/daemon.ts";
import { type Relay, startRelay } from "../../../agent/src/roles/relay.ts";

const LOOPBACK = "127.0.0.1";

let folder: string;
let relay: Relay;
let control: ControlRole;
let authKey: string;
const daemons: Daemon[] = [];

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "sallyport-mesh-"));
  relay = await startRelay({
    listen: { host: LOOPBACK, port: 0 },
    stunPort: 0,
    hostname: LOOPBACK,
    addresses: [Ip.parse(LOOPBACK)],
    stateDir: join(folder, "relay"),
    regionId: 900,
    regionCode: "nyc",
    log: silentLog,
  });
  control = await startControl({
    listen: { host: LOOPBACK, port: 0 },
    stateDir: join(folder, "control"),
    hostname: LOOPBACK,
    derpMap: { Regions: { "900": { ...relay.derpMapRegion } } },
    log: silentLog,
  });
  const { driver, coordination } = control;
  authKey = (await driver.change(() => coordination.createAuthKey({ reusable: true }))).text;
}, 20_000);

afterAll(async () => {
  await Promise.all(daemons.map((daemon) => daemon.close()));
  await control?.close();
  await relay?.close();
  await rm(folder, { recursive: true, force: true });
});

async function daemon(name: string): Promise<Daemon> {
  const started = await startDaemon({
    port: 0,
    tun: "memory",
    stateDir: join(folder, name),
    socket: join(folder, `${name}.sock`),
    log: silentLog,
    loopback: true,
    loginServer: control.url,
    authKey,
    certPin: control.certPin,
    hostname: name,
    advertiseExitNode: false,
  });
  daemons.push(started);
  return started;
}

async function until<T>(ask: () => T | undefined | Promise<T | undefined>, what: string): Promise<T> {
  const deadline = performance.now() + 10_000;
  while (performance.now() < deadline) {
    const got = await ask();
    if (got !== undefined) return got;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`never saw ${what}`);
}

const running = (one: Daemon): Promise<true> =>
  until(() => (one.backend.status().BackendState === "Running" ? true : undefined), "a running daemon");
const pong = (reply: PingReply): Extract<PingReply, { kind: "pong" }> => {
  if (reply.kind !== "pong") throw new Error(`no pong but ${reply.kind}`);
  return reply;
};

test("two daemons meet through the coordination server: the first pong comes by the relay, then directly", async () => {
  const alice = await daemon("alice");
  const bob = await daemon("bob");
  await Promise.all([running(alice), running(bob)]);
  await until(() => Object.values(alice.backend.status().Peer ?? {})[0], "bob in alice's map");
  await until(
    () => Object.values(alice.backend.status().Peer ?? {})[0]?.Relay || undefined,
    "bob's home relay",
  );

  const first = pong(await alice.backend.ping({ target: "bob", timeoutMs: 5_000 }));
  expect(first).toMatchObject({ name: "bob", via: { kind: "derp", code: "nyc" } });
  await until(async () => {
    const next = pong(await alice.backend.ping({ target: "bob", timeoutMs: 5_000 }));
    return next.via.kind === "direct" ? true : undefined;
  }, "a direct pong");
  const [peer] = Object.values(alice.backend.status().Peer ?? {});
  expect(peer?.CurAddr).toMatch(/^\S+:\d+$/);
  expect(peer?.Active).toBe(true);
}, 30_000);

test("a network check asks the relays anew", async () => {
  const [alice] = daemons;
  const checked = await alice?.backend.netcheck();
  expect(checked?.report).toMatchObject({ UDP: true, IPv4: true, PreferredDERP: 900 });
  expect(checked?.report.GlobalV4).toMatch(/^127\.0\.0\.1:\d+$/);
  expect(checked?.regions.map(({ code }) => code)).toEqual(["nyc"]);
  expect(checked?.buffers?.receive).toBeGreaterThan(0);
}, 30_000);

test("down keeps the registration: up needs no key again", async () => {
  const [alice] = daemons;
  if (alice === undefined) throw new Error("no daemon");
  const before = alice.backend.status().TailscaleIPs;
  await alice.backend.down();
  expect(alice.backend.status().BackendState).toBe("Stopped");
  expect(await alice.backend.ping({ target: "bob", timeoutMs: 100 })).toMatchObject({ kind: "not-running" });
  const events: UpEvent[] = [];
  const nothing = {
    loginServer: undefined,
    authKey: undefined,
    hostname: undefined,
    advertiseExitNode: undefined,
    certPin: undefined,
  };
  for await (const event of alice.backend.up({ ...nothing, timeoutMs: 10_000 })) events.push(event);
  expect(events.at(-1)).toMatchObject({ kind: "running", name: "alice" });
  expect(alice.backend.status().TailscaleIPs).toEqual(before);
}, 30_000);

test("a ping to oneself, to nobody and to a stranger each say so", async () => {
  const [alice] = daemons;
  expect(await alice?.backend.ping({ target: "alice", timeoutMs: 100 })).toMatchObject({ kind: "local" });
  expect(await alice?.backend.ping({ target: "100.64.99.99", timeoutMs: 100 })).toEqual({ kind: "no-match" });
});
