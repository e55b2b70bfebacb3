import { createSocket } from "node:dgram";
import { mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Ip } from "../../../agent/src/base/address.ts";
import type { Calendar } from "../../../agent/src/base/time.ts";
import { silentLog } from "../../../agent/src/base/log.ts";
import { NodePrivate, type NodePublic } from "../../../agent/src/base/keys.ts";
import { randomBytes } from "../../../agent/src/base/random.ts";
import { DerpClient, type DerpClientEvent } from "../../../agent/src/core/derp/client.ts";
import { publicOf } from "../../../agent/src/core/derp/login.ts";
import { type DerpRegion, parseDerpMap } from "../../../agent/src/core/path/derp-map.ts";
import { decodeBindingResponse, encodeBindingRequest } from "../../../agent/src/core/stun/message.ts";
import { now } from "../../../agent/src/io/clock.ts";
import { nodeSuite as suite } from "../../../agent/src/io/node-suite.ts";
import { systemRandom } from "../../../agent/src/io/random.ts";
import { dialRelay, type DialOptions, measureRelay } from "../../../agent/src/io/relay-client.ts";
import type { RelayConnection } from "../../../agent/src/io/relay-stream.ts";
import { type Relay, type RelayOptions, startRelay } from "../../../agent/src/roles/relay.ts";

const LOOPBACK = Ip.parse("127.0.0.1");
const newKey = (): NodePrivate => new NodePrivate(randomBytes(systemRandom, 32));

let stateDir = "";
const closing: { close(): unknown }[] = [];
beforeEach(async () => {
  stateDir = await mkdtemp(join(tmpdir(), "sallyport-relay-"));
});
afterEach(async () => {
  for (const each of closing.splice(0).toReversed()) await each.close();
  await rm(stateDir, { recursive: true });
});

async function start(options: Partial<RelayOptions> = {}): Promise<Relay> {
  const relay = await startRelay({
    listen: { host: "127.0.0.1", port: 0 },
    stunPort: 0,
    hostname: "relay.example.net",
    addresses: [LOOPBACK],
    stateDir,
    regionId: 900,
    regionCode: "nyc",
    log: silentLog,
    ...options,
  });
  closing.push(relay);
  return relay;
}

/** A DERP client on a real connection. */
class Client {
  readonly key: NodePublic;
  readonly connection: RelayConnection;
  readonly #machine: DerpClient;
  readonly #events: DerpClientEvent[] = [];
  #wake: () => void = () => {};

  static async join(options: DialOptions, key = newKey()): Promise<Client> {
    return new Client(await dialRelay(options), key);
  }

  constructor(connection: RelayConnection, nodeKey: NodePrivate) {
    closing.push(connection);
    this.key = publicOf(suite, nodeKey);
    this.connection = connection;
    const { serverKey } = connection;
    this.#machine = new DerpClient(
      { suite, random: systemRandom, nodeKey, serverKey, preferred: true },
      now(),
    );
    connection.onData((chunk) => {
      this.#machine.handleBytes(chunk, now());
      this.#drain();
    });
    connection.onWritable(() => {
      this.#machine.handleWritable(true);
      this.#drain();
    });
    this.#drain();
  }

  send(to: NodePublic, packet: Uint8Array): void {
    this.#machine.send(to, packet, now());
    this.#drain();
  }

  async next<K extends DerpClientEvent["kind"]>(kind: K): Promise<Extract<DerpClientEvent, { kind: K }>> {
    for (;;) {
      const at = this.#events.findIndex((event) => event.kind === kind);
      const [event] = at < 0 ? [] : this.#events.splice(at, 1);
      if (event !== undefined) return event as Extract<DerpClientEvent, { kind: K }>;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  #drain(): void {
    for (let out = this.#machine.pollTransmit(); out !== undefined; out = this.#machine.pollTransmit()) {
      if (!this.connection.write(out)) this.#machine.handleWritable(false);
    }
    for (let event = this.#machine.pollEvent(); event !== undefined; event = this.#machine.pollEvent()) {
      this.#events.push(event);
    }
    this.#wake();
  }
}

const withNode = (region: DerpRegion, change: Partial<DerpRegion["nodes"][number]>): DerpRegion => ({
  ...region,
  nodes: region.nodes.map((node) => ({ ...node, ...change })),
});

test.each([{ fastStart: true }, { fastStart: false }])(
  "two clients exchange packets over TLS (fast start: $fastStart)",
  async ({ fastStart }) => {
    const relay = await start();
    const [a, b] = [
      await Client.join({ region: relay.region, fastStart }),
      await Client.join({ region: relay.region, fastStart }),
    ];
    expect(a.connection.serverKey?.text).toBe(fastStart ? relay.serverKey.text : undefined);
    expect((await a.next("ready")).serverKey.text).toBe(relay.serverKey.text);
    await b.next("ready");

    a.send(b.key, Uint8Array.of(1, 2, 3));
    expect(await b.next("packet")).toMatchObject({ from: a.key, packet: Uint8Array.of(1, 2, 3) });
    b.send(a.key, new Uint8Array(65_536).fill(7));
    const { packet } = await a.next("packet");
    expect(packet.length).toBe(65_536);
    expect(packet.every((byte) => byte === 7)).toBe(true);

    b.connection.close();
    expect(await a.next("peer-gone")).toMatchObject({ peer: b.key, reason: 0 });
  },
);

test("a burst arrives whole and in order", async () => {
  const relay = await start();
  const [a, b] = [await Client.join({ region: relay.region }), await Client.join({ region: relay.region })];
  await Promise.all([a.next("ready"), b.next("ready")]);
  for (let i = 0; i < 250; i++) a.send(b.key, new Uint8Array(1400).fill(i));
  for (let i = 0; i < 250; i++) expect((await b.next("packet")).packet[1399]).toBe(i);
});

test("the entry for the relay map is enough to reach the relay", async () => {
  const relay = await start();
  const map = parseDerpMap(JSON.parse(JSON.stringify({ Regions: { 900: relay.derpMapRegion } })));
  const region = [...map.regions.values()][0];
  expect(relay.derpMapRegion).toMatchObject({
    RegionID: 900,
    RegionCode: "nyc",
    Nodes: [{ Name: "900a", HostName: "relay.example.net", CertName: relay.certName, IPv4: "127.0.0.1" }],
  });
  if (region === undefined) throw new Error("no region");
  await (await Client.join({ region })).next("ready");
});

test("an HTTPS request measures the relay", async () => {
  const relay = await start();
  const latency = await measureRelay({ region: relay.region });
  expect(latency).toBeGreaterThan(0);
});

describe("who answers is checked:", () => {
  test("another certificate than the pinned one is refused, with both hashes", async () => {
    const relay = await start();
    const pin = `sha256-raw:${"ab".repeat(32)}`;
    await expect(dialRelay({ region: withNode(relay.region, { certName: pin }) })).rejects.toMatchObject({
      code: "relay-unreachable",
      message: expect.stringMatching(`${relay.certName}, but the relay map pins ${pin}`),
    });
  });

  test("a pinned certificate that is for another name is refused", async () => {
    const relay = await start();
    const region = withNode(relay.region, { hostName: "other.example.net" });
    await expect(dialRelay({ region })).rejects.toThrow("its certificate is not for other.example.net");
  });

  test("a pinned certificate that has ended is refused", async () => {
    const relay = await start();
    const calendar = { now: () => (Date.now() + 3660 * 86_400_000) as ReturnType<Calendar["now"]> };
    await expect(dialRelay({ region: relay.region, calendar })).rejects.toThrow("its certificate ended on");
  });

  test("a certificate that nobody vouches for is refused, and taken where its authority is given", async () => {
    const relay = await start();
    const region = withNode(relay.region, { certName: undefined });
    await expect(dialRelay({ region })).rejects.toThrow(
      /not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\): pin it/,
    );
    const ca = await readFile(join(stateDir, "relay-tls.pem"), "utf8");
    await (await Client.join({ region, ca })).next("ready");
    await expect(
      dialRelay({ region: withNode(region, { certName: "wrong.example.net" }), ca }),
    ).rejects.toThrow("ERR_TLS_CERT_ALTNAME_INVALID");
  });

  test("nothing is checked where the relay map says so", async () => {
    const relay = await start();
    const region = withNode(relay.region, { certName: undefined, insecureForTests: true });
    await (await Client.join({ region })).next("ready");
  });

  test("a relay known by its address alone is reached by it", async () => {
    const relay = await start({ hostname: "127.0.0.1", addresses: [] });
    expect(relay.derpMapRegion.Nodes).toMatchObject([
      { HostName: "127.0.0.1", IPv4: "127.0.0.1", IPv6: "none" },
    ]);
    await (await Client.join({ region: relay.region })).next("ready");
  });
});

test("the next node is tried where the first does not answer", async () => {
  const relay = await start();
  const good = relay.region.nodes.map((node) => ({ ...node, name: "900b" }));
  const dead = withNode(relay.region, { derpPort: 1, name: "900a" }).nodes;
  const region = { ...relay.region, nodes: [...dead, ...good] };
  await (await Client.join({ region })).next("ready");
});

test.each([
  { name: "nothing listens", change: { derpPort: 1 }, want: "the connection was refused" },
  { name: "the map has no node", change: { stunOnly: true }, want: "has no node to connect to" },
  { name: "both families are off", change: { ipv4: "none", ipv6: "none" }, want: "gives it no address" },
])("where $name the error says so", async ({ change, want }) => {
  const relay = await start();
  await expect(dialRelay({ region: withNode(relay.region, change) })).rejects.toThrow(want);
});

test("a server that is no relay is told apart by its answer", async () => {
  const relay = await start({
    share: (server) => {
      server.removeAllListeners("upgrade");
      server.on("upgrade", (_, socket) => socket.end("HTTP/1.1 404 Not Found\r\n\r\n"));
    },
  });
  await expect(dialRelay({ region: relay.region, fastStart: false })).rejects.toThrow(
    'it answered "HTTP/1.1 404 Not Found"',
  );
});

test("a dial that is given up ends at once, before and while it waits", async () => {
  const relay = await start();
  await expect(dialRelay({ region: relay.region, signal: AbortSignal.abort() })).rejects.toMatchObject({
    code: "relay-given-up",
  });

  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  const { port } = silent.address() as { port: number };
  const abort = new AbortController();
  silent.on("connection", (socket) => {
    closing.push({ close: () => socket.destroy() });
    abort.abort();
  });
  closing.push(silent);
  const region = withNode(relay.region, { derpPort: port });
  await expect(dialRelay({ region, signal: abort.signal })).rejects.toMatchObject({ code: "relay-given-up" });
});

test("the end of a connection is told once, and not to who closed it", async () => {
  const relay = await start();
  const [ended, closed] = [
    await dialRelay({ region: relay.region }),
    await dialRelay({ region: relay.region }),
  ];
  const told: string[] = [];
  closed.onClose((why) => told.push(why));
  closed.close();
  const why = new Promise((resolve) => ended.onClose(resolve));
  ended.onData(() => {});
  await relay.close();
  expect(await why).toBe("the relay ended the connection");
  expect(told).toEqual([]);
});

test("the relay closes at once, whatever its connections are doing", async () => {
  const relay = await start();
  const idle = connect(relay.address.port, "127.0.0.1");
  idle.on("error", () => {});
  await new Promise((resolve) => idle.once("connect", resolve));
  const client = await Client.join({ region: relay.region });
  await client.next("ready");
  await relay.close();
  await new Promise((resolve) => idle.once("close", resolve).resume());
});

test("a client that is not allowed is disconnected", async () => {
  const relay = await start({ allow: () => false });
  const connection = await dialRelay({ region: relay.region });
  const client = new Client(connection, newKey());
  await new Promise((resolve) => connection.onClose(resolve));
  expect(relay.counters).toMatchObject({ accepts: 1, connections: 0 });
  expect(client.key).toBeDefined();
});

test("STUN tells the address that the question came from", async () => {
  const relay = await start();
  const socket = createSocket("udp4");
  const txId = new Uint8Array(12).fill(9);
  const answer = new Promise<Buffer>((resolve) => socket.on("message", resolve));
  socket.send(encodeBindingRequest(txId), relay.stunAddress?.port ?? 0, "127.0.0.1");
  expect(decodeBindingResponse(await answer)).toMatchObject({
    txId,
    address: { text: `127.0.0.1:${socket.address().port}` },
  });
  socket.close();
});

test("without STUN the map says so", async () => {
  const relay = await start({ stunPort: -1 });
  expect(relay.stunAddress).toBeUndefined();
  expect(relay.derpMapRegion.Nodes[0]?.STUNPort).toBe(-1);
});

test("the relay's key and certificate outlive it", async () => {
  const first = await start();
  await first.close();
  const second = await start();
  expect(second.serverKey.text).toBe(first.serverKey.text);
  expect(second.certName).toBe(first.certName);
  const path = join(stateDir, "relay-key.json");
  expect((await stat(path)).mode & 0o777).toBe(0o600);
  expect(JSON.parse(await readFile(path, "utf8"))).toEqual({
    PrivateKey: expect.stringMatching(/^privkey:[0-9a-f]{64}$/),
  });
});

test.each(["", "{}", '{"PrivateKey":"privkey:00"}', '{"PrivateKey":'])(
  "a key file that holds '%s' is named with the remedy",
  async (text) => {
    const path = join(stateDir, "relay-key.json");
    await writeFile(path, text);
    await expect(start()).rejects.toMatchObject({
      code: "state-corrupt",
      message: expect.stringContaining(`${path} holds no relay key`),
    });
  },
);

test("a TCP port in use is one clear error, and nothing stays behind", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  closing.push(taken);
  const { port } = taken.address() as { port: number };
  await expect(start({ listen: { host: "127.0.0.1", port } })).rejects.toMatchObject({
    code: "tcp-port-in-use",
    message: expect.stringContaining(`TCP port ${port} is in use`),
  });
});

test("a UDP port in use is one clear error, and the TCP port is free again", async () => {
  const first = await start();
  const stunPort = first.stunAddress?.port ?? 0;
  await first.close();
  const taken = createSocket("udp4");
  await new Promise<void>((resolve) => taken.bind(stunPort, "127.0.0.1", resolve));
  closing.push(taken);
  const listen = { host: "127.0.0.1", port: first.address.port };
  await expect(start({ listen, stunPort })).rejects.toMatchObject({
    code: "udp-port-in-use",
    message: expect.stringContaining("--stun-port"),
  });
  await start({ listen });
});

test("an address of another machine is one clear error", async () => {
  await expect(start({ listen: { host: "203.0.113.1", port: 0 } })).rejects.toMatchObject({
    code: "tcp-no-address",
  });
});

test("a certificate without its key is a usage error", async () => {
  await expect(start({ certFile: "cert.pem" })).rejects.toMatchObject({ code: "relay-certificate" });
});
