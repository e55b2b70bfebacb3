import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import * as http from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { IpPort } from "../../../agent/src/base/address.ts";
import {
  clampPrivateKey,
  DiscoPublic,
  MachinePrivate,
  NodePrivate,
  NodePublic,
} from "../../../agent/src/base/keys.ts";
import { silentLog } from "../../../agent/src/base/log.ts";
import { randomBytes } from "../../../agent/src/base/random.ts";
import type { ControlState } from "../../../agent/src/core/control/client.ts";
import type { NetMap } from "../../../agent/src/core/control/net-map.ts";
import { ControlAdminClient } from "../../../agent/src/io/control-admin-client.ts";
import { ControlSession, type ControlSessionOptions } from "../../../agent/src/io/control-client.ts";
import { dialControl } from "../../../agent/src/io/control-dial.ts";
import { memoryCoordinationStore } from "../../../agent/src/io/coordination-store.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { systemRandom } from "../../../agent/src/io/random.ts";
import { type ControlRole, type ControlRoleOptions, startControl } from "../../../agent/src/roles/control.ts";

const derpMap = { Regions: { 900: { RegionID: 900, RegionCode: "nyc", Nodes: [] } } };
const folder = mkdtempSync(join(tmpdir(), "control-"));
const open: { close(): Promise<void> }[] = [];
let folders = 0;

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

async function serve(options: Partial<ControlRoleOptions> = {}): Promise<ControlRole> {
  const role = await startControl({
    listen: { host: "127.0.0.1", port: 0 },
    stateDir: join(folder, String(++folders)),
    derpMap,
    log: silentLog,
    ...options,
  });
  open.push(role);
  return role;
}

/** A session with the newest of what it was told, and a way to wait for what it is told next. */
class Client {
  readonly session: ControlSession;
  readonly states: ControlState[] = [];
  readonly errors: (readonly [string, boolean])[] = [];
  readonly nodeKey: NodePrivate;
  netMap: NetMap | undefined;
  #wake: (() => void)[] = [];

  constructor(
    server: { url: string; certPin?: string | undefined },
    options: Partial<ControlSessionOptions> = {},
  ) {
    const secret = (): Uint8Array => clampPrivateKey(randomBytes(systemRandom, 32));
    this.nodeKey = options.nodeKey ?? new NodePrivate(secret());
    const told = (tell: () => void): void => {
      tell();
      for (const wake of this.#wake.splice(0)) wake();
    };
    this.session = new ControlSession({
      serverUrl: server.url,
      certPin: server.certPin,
      machineKey: new MachinePrivate(secret()),
      nodeKey: this.nodeKey,
      discoKey: DiscoPublic.fromBytes(secret()),
      hostinfo: { Hostname: "web", OS: "linux" },
      log: silentLog,
      suite: nodeSuite,
      random: systemRandom,
      callbacks: {
        onNetMap: (netMap) => told(() => (this.netMap = netMap)),
        onState: (state) => told(() => this.states.push(state)),
        onAuthUrl: () => {},
        onError: (message, { fatal }) => told(() => this.errors.push([message, fatal])),
      },
      ...options,
    });
    open.push(this.session);
    this.session.start();
  }

  async until(holds: (client: this) => boolean): Promise<void> {
    while (!holds(this)) await new Promise<void>((resolve) => this.#wake.push(resolve));
  }

  running(): Promise<void> {
    return this.until(({ session, netMap }) => session.state === "running" && netMap !== undefined);
  }
}

const keyOf = (role: ControlRole): string => role.coordination.createAuthKey({ reusable: true }).text;

describe.each([
  ["TLS with a pinned certificate", {}],
  ["plain HTTP", { plainHttp: true }],
])("over %s", (_, options) => {
  test("two nodes join, see each other, and hear of a changed endpoint and home relay", async () => {
    const role = await serve(options);
    const authKey = keyOf(role);
    const [a, b] = [new Client(role, { authKey }), new Client(role, { authKey })];
    await Promise.all([a.running(), b.running()]);
    await a.until(({ netMap }) => netMap?.peers[0]?.online === true);
    expect(a.states).toEqual(["connecting", "registering", "waiting-for-map", "running"]);

    b.session.updateEndpoints([{ endpoint: IpPort.parse("192.0.2.7:41641"), type: 2 }]);
    await a.until(({ netMap }) => netMap?.peers[0]?.endpoints[0]?.text === "192.0.2.7:41641");
    b.session.updateNetInfo({ PreferredDERP: 900 });
    await a.until(({ netMap }) => netMap?.peers[0]?.homeRegion === 900);
    b.session.updateHostinfo({ RoutableIPs: ["0.0.0.0/0", "::/0"] });
    await a.until(({ netMap }) => netMap?.peers[0]?.allowedIps.some((prefix) => prefix.isDefault) === true);
    expect(a.errors).toEqual([]);
    expect(b.errors).toEqual([]);
  });
});

test("after the server was restarted clients come back by themselves, and the network is as it was", async () => {
  const store = memoryCoordinationStore();
  const stateDir = join(folder, "restart");
  const first = await serve({ store, stateDir });
  const client = new Client(first, { authKey: keyOf(first) });
  await client.running();
  const addresses = client.netMap?.self.addresses.map(String);
  open.splice(open.indexOf(first), 1);
  await first.close();
  await client.until(({ session }) => session.state === "connecting");

  const second = await serve({ store, stateDir, listen: { host: "127.0.0.1", port: first.port } });
  await client.running();
  expect(second.publicKey).toBe(first.publicKey);
  expect(client.netMap?.self.addresses.map(String)).toEqual(addresses);
  expect(second.coordination.listNodes()).toHaveLength(1);
});

test("logout ends the registration on the server", async () => {
  const role = await serve();
  const client = new Client(role, { authKey: keyOf(role) });
  await client.running();
  await client.session.logout();
  expect(client.session.state).toBe("logged-out");
  expect(role.coordination.listNodes()[0]).toMatchObject({ expired: true, online: false });
});

describe("what a user can mend is told in one sentence", () => {
  async function firstError(
    server: { url: string; certPin?: string | undefined },
    options: Partial<ControlSessionOptions> = {},
  ): Promise<readonly [string, boolean]> {
    const client = new Client(server, options);
    await client.until(({ errors }) => errors.length > 0);
    return client.errors[0] ?? ["", false];
  }
  const tlsRole = (): Promise<ControlRole> => serve();

  test("nothing listens there", async () => {
    const [message, fatal] = await firstError({ url: "http://127.0.0.1:1" });
    expect(message).toMatch(
      /can not be reached \(nothing listens there\): check the URL, and that the server runs/,
    );
    expect(fatal).toBe(false);
  });

  test("the name has no address", async () => {
    const [message] = await firstError({ url: "http://no.such.name.invalid:1" });
    expect(message).toMatch(/can not be reached \(its name/);
  });

  test("the certificate is not the pinned one", async () => {
    const { url, certPin } = await tlsRole();
    const [message, fatal] = await firstError({ url, certPin: `sha256-raw:${"0".repeat(64)}` });
    expect(message).toContain(`it has ${certPin ?? ""}`);
    expect(fatal).toBe(true);
  });

  test("the certificate is not trusted", async () => {
    const { url } = await tlsRole();
    const [message, fatal] = await firstError({ url });
    expect(message).toMatch(/is not trusted \(\w+\): pin it with --cert-pin/);
    expect(fatal).toBe(true);
  });

  test("http to a server that speaks TLS, and https to one that does not", async () => {
    const [tls, plain] = [await tlsRole(), await serve({ plainHttp: true })];
    expect((await firstError({ url: tls.url.replace("https", "http") }))[0]).toMatch(/write https:\/\//);
    expect((await firstError({ url: plain.url.replace("http", "https") }))[0]).toMatch(/write http:\/\//);
  });

  test("it is some other web server", async () => {
    const server = http.createServer((_request, response) => response.writeHead(404).end("no"));
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    open.push({ close: () => new Promise((resolve) => server.close(() => resolve()).closeAllConnections()) });
    const { port } = server.address() as { port: number };
    const [message] = await firstError({ url: `http://127.0.0.1:${port}` });
    expect(message).toMatch(/is no coordination server \(\/key answered 404\)/);
  });

  test("the auth key is refused", async () => {
    const role = await serve({ plainHttp: true });
    const [message, fatal] = await firstError(role, { authKey: "spkey-unknown" });
    expect(message).toMatch(/refused this node: this auth key is not known here/);
    expect(message).not.toContain("spkey-unknown");
    expect(fatal).toBe(true);
  });

  test.each([
    ["control.example", undefined, /is no login server/],
    ["ftp://control.example", undefined, /is no login server/],
    ["https://control.example", "sha256:00", /is no pin/],
    ["http://control.example", `sha256-raw:${"0".repeat(64)}`, /needs an https/],
  ])("%s with pin %s can not even start", (url, certPin, reason) => {
    expect(() => new Client({ url, certPin })).toThrow(reason);
  });
});

describe("the server's doors", () => {
  const raw = (port: number, text: string): Promise<string> =>
    new Promise((resolve) => {
      let answer = "";
      const socket = connect(port, "127.0.0.1", () => socket.write(text));
      socket.on("data", (bytes: Buffer) => (answer += bytes.toString("latin1")));
      socket.on("error", () => {});
      socket.on("close", () => resolve(answer));
    });
  const upgrade = (path: string, handshake: string, protocol = "tailscale-control-protocol"): string =>
    `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: ${protocol}\r\n` +
    `X-Tailscale-Handshake: ${handshake}\r\nContent-Length: 0\r\n\r\n`;
  const get = (path: string): string => `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;

  test("refuse what they do not know and go on serving", async () => {
    const role = await serve({ plainHttp: true });
    expect(await raw(role.port, get("/key?v=142"))).toContain(`"publicKey":"${role.publicKey}"`);
    expect(await raw(role.port, get("/other"))).toMatch(/^HTTP\/1.1 404 /);
    expect(await raw(role.port, get("/ts2021"))).toMatch(/^HTTP\/1.1 426 /);
    expect(await raw(role.port, upgrade("/ts2021", "AAAA"))).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(role.port, upgrade("/ts2021", "", "websocket"))).toMatch(/^HTTP\/1.1 400 /);
    expect(await raw(role.port, upgrade("/other", "AAAA"))).toMatch(/^HTTP\/1.1 404 /);
    const client = new Client(role, { authKey: keyOf(role) });
    await client.running();
  });
});

describe("inside the encrypted connection", () => {
  interface Answer {
    readonly status: number;
    readonly body: Buffer;
  }
  const secret = clampPrivateKey(randomBytes(systemRandom, 32));
  const NodeKey = NodePublic.fromBytes(nodeSuite.x25519Public(secret)).text;

  async function connected(
    role: ControlRole,
  ): Promise<(path: string, body: string, method?: string) => Promise<Answer>> {
    const { session, end } = await dialControl({
      ...{ serverUrl: role.url, certPin: role.certPin, suite: nodeSuite, random: systemRandom },
      machineKey: new MachinePrivate(secret),
    });
    open.push({ close: () => Promise.resolve(end()) });
    return (path, body, method = "POST") =>
      new Promise((resolve, reject) => {
        const stream = session.request({ ":method": method, ":path": path });
        const parts: Buffer[] = [];
        let status = 0;
        stream.on("response", (headers) => {
          status = headers[":status"] ?? 0;
          stream.on("data", (part: Buffer) => parts.push(part));
        });
        stream.on("error", reject);
        stream.on("close", () => resolve({ status, body: Buffer.concat(parts) }));
        if (method === "POST") stream.end(body);
      });
  }

  test("a client that goes away in the middle of its requests harms nobody", async () => {
    const role = await serve({ plainHttp: true });
    for (let i = 0; i < 20; i++) {
      const { session, end } = await dialControl({
        ...{ serverUrl: role.url, certPin: undefined, suite: nodeSuite, random: systemRandom },
        machineKey: new MachinePrivate(secret),
      });
      for (const path of ["/machine/register", "/machine/map"]) {
        const stream = session.request({ ":method": "POST", ":path": path });
        stream.on("error", () => {});
        stream.end(JSON.stringify({ Version: 113, NodeKey, Stream: i % 2 === 0 }));
      }
      await new Promise((resolve) => setTimeout(resolve, i / 4));
      end();
    }
    const post = await connected(role);
    expect((await post("/machine/map", "{")).status).toBe(400);
  });

  test("what is malformed, too long or unknown is refused, and nothing changes", async () => {
    const role = await serve({ plainHttp: true });
    const post = await connected(role);
    const before = role.coordination.exportState();
    for (const path of ["/machine/register", "/machine/map"]) {
      expect((await post(path, "{")).status).toBe(400);
      expect((await post(path, "[]")).status).toBe(400);
      expect((await post(path, '{"Version":113,"NodeKey":"nodekey:00"}')).status).toBe(400);
      expect(
        (await post(path, JSON.stringify({ Version: 113, NodeKey, pad: "x".repeat(1_100_000) }))).status,
      ).toBe(413);
    }
    expect((await post("/machine/map", JSON.stringify({ Version: 113, NodeKey }))).status).toBe(404);
    expect((await post("/machine/set-dns", "{}")).status).toBe(404);
    expect((await post("/machine/map", "", "GET")).status).toBe(404);
    expect(role.coordination.exportState()).toBe(before);
  });

  test("a client that does not ask for compression gets a plain frame, and a request without Stream just one", async () => {
    const role = await serve();
    const post = await connected(role);
    const join = { Version: 113, NodeKey, Auth: { AuthKey: keyOf(role) }, Hostinfo: { Hostname: "web" } };
    expect((await post("/machine/register", JSON.stringify(join))).status).toBe(200);
    const { status, body } = await post("/machine/map", JSON.stringify({ Version: 113, NodeKey }));
    expect([status, body.readUInt32LE(0)]).toEqual([200, body.length - 4]);
    expect(JSON.parse(body.subarray(4).toString())).toMatchObject({
      Node: { Name: "web.lab.", Key: NodeKey },
    });
  });
});

describe("the administrator's socket", () => {
  async function withSocket(options: Partial<ControlRoleOptions> = {}): Promise<{
    role: ControlRole;
    admin: ControlAdminClient;
    socket: string;
  }> {
    const socket = join(folder, `${++folders}.sock`);
    const role = await serve({ plainHttp: true, socket, ...options });
    return { role, admin: new ControlAdminClient(socket), socket };
  }

  test("makes keys, lists and deletes nodes, approves routes and replaces the relay map", async () => {
    const { role, admin, socket } = await withSocket();
    expect(statSync(socket).mode & 0o777).toBe(0o600);
    const { id, key } = await admin.createAuthKey({ reusable: true, tags: ["tag:web"], expirySeconds: 60 });
    expect(key).toMatch(/^spkey-[0-9a-f]+-[0-9a-f]+$/);
    const client = new Client(role, {
      authKey: key,
      hostinfo: { Hostname: "web", RoutableIPs: ["10.0.0.0/8"] },
    });
    await client.running();
    expect(await admin.nodes()).toMatchObject([{ id: 1, name: "web.lab", tags: ["tag:web"], online: true }]);
    await admin.approveRoutes(1, ["10.0.0.0/8"]);
    expect((await admin.nodes())[0]?.routes).toEqual(["10.0.0.0/8"]);
    await admin.setDerpMap({ Regions: { 7: { RegionID: 7, RegionCode: "tor", Nodes: [] } } });
    await client.until(({ netMap }) => [...(netMap?.derpMap.regions.keys() ?? [])].join() === "7");
    await admin.deleteAuthKey(id);
    await admin.deleteNode(1);
    expect(await admin.nodes()).toEqual([]);
    await client.until(({ errors }) => errors.some(([message]) => message.includes("not known here")));
  });

  test("says what is wrong", async () => {
    const { admin } = await withSocket();
    await expect(admin.deleteNode(5)).rejects.toThrow(/no node has the id 5/);
    await expect(admin.setDerpMap({ Regions: {} })).rejects.toThrow(/no relay map/);
    await expect(admin.createAuthKey({ tags: ["web"] })).rejects.toThrow(/"web" is no tag/);
    await expect(admin.createAuthKey({ expirySeconds: -1 })).rejects.toThrow(/expirySeconds/);
    await expect(admin.approveRoutes(1, ["x"])).rejects.toThrow(/not an address prefix/);
    await expect(new ControlAdminClient(join(folder, "none")).nodes()).rejects.toThrow(
      /no coordination server/,
    );
  });
});

describe("the role", () => {
  test("keeps its keys, its pin and its state in its directory", async () => {
    const stateDir = join(folder, "kept");
    const authKeyFile = join(folder, "first-key");
    const role = await serve({ stateDir, authKeyFile });
    const authKey = readFileSync(authKeyFile, "utf8").trim();
    expect(statSync(authKeyFile).mode & 0o777).toBe(0o600);
    expect(readFileSync(join(stateDir, "cert-pin"), "utf8").trim()).toBe(role.certPin);
    const client = new Client(role, { authKey });
    await client.running();
    await client.session.close();
    open.splice(open.indexOf(role), 1);
    await role.close();
    expect(readFileSync(join(stateDir, "control-state.json"), "utf8")).not.toContain(authKey);

    const again = await serve({ stateDir, authKeyFile });
    expect([again.publicKey, again.certPin]).toEqual([role.publicKey, role.certPin]);
    const publicKey = NodePublic.fromBytes(client.nodeKey.expose((secret) => nodeSuite.x25519Public(secret)));
    expect(again.coordination.exportState()).toContain(publicKey.text);
  });

  test("takes its first keys from a file, and refuses one that can be guessed", async () => {
    const authKeyFile = join(folder, "given-key");
    writeFileSync(authKeyFile, "spkey-given-by-the-stack-1234567890\n");
    const role = await serve({ authKeyFile, plainHttp: true });
    await new Client(role, { authKey: "spkey-given-by-the-stack-1234567890" }).running();
    writeFileSync(authKeyFile, "short");
    await expect(serve({ authKeyFile })).rejects.toThrow(/at least 20 characters/);
  });

  test.each(["control-state.json", "control-key.json"])("leaves a damaged %s as it is", async (file) => {
    const stateDir = join(folder, `damaged-${file}`);
    const role = await serve({ stateDir });
    open.splice(open.indexOf(role), 1);
    role.coordination.createAuthKey({});
    await role.close();
    writeFileSync(join(stateDir, file), "{");
    await expect(serve({ stateDir })).rejects.toThrow(/left as it (is|was)|was left as it is/);
    expect(readFileSync(join(stateDir, file), "utf8")).toBe("{");
  });
});
