import { IpPort } from "../../../../agent/src/base/address.ts";
import { DiscoPublic, NodePrivate, NodePublic } from "../../../../agent/src/base/keys.ts";
import { after, type Instant, instant, millis, seconds, wallTime } from "../../../../agent/src/base/time.ts";
import {
  type ControlAction,
  ControlClient,
  type ControlClientOptions,
  type ControlEvent,
} from "../../../../agent/src/core/control/client.ts";
import type { JsonObject } from "../../../../agent/src/core/control/json.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import { seededRandom } from "../../../sim/random.ts";

const nodeKey = new NodePrivate(new Uint8Array(32).fill(8));
const publicText = (key: NodePrivate): string =>
  NodePublic.fromBytes(key.expose((secret) => portableSuite.x25519Public(secret))).text;
const authorized = JSON.stringify({ MachineAuthorized: true });
const selfJson = (more: object = {}): string =>
  JSON.stringify({ Node: { ID: 1, Key: publicText(nodeKey), Name: "web.lab.", ...more } });

/** A client whose owner is the test. */
class Bench {
  now: Instant = instant(0);
  readonly client: ControlClient;
  actions: ControlAction[] = [];
  events: ControlEvent[] = [];

  constructor(options: Partial<ControlClientOptions> = {}) {
    this.client = new ControlClient({
      suite: portableSuite,
      random: seededRandom(1),
      calendar: { now: () => wallTime(this.now) },
      nodeKey,
      discoKey: DiscoPublic.fromBytes(new Uint8Array(32).fill(3)),
      authKey: "spkey-1",
      ephemeral: false,
      registeredBefore: false,
      mayRotate: true,
      hostinfo: { Hostname: "web" },
      compress: true,
      ...options,
    });
  }

  give(input: (client: ControlClient, now: Instant) => void): this {
    input(this.client, this.now);
    for (let next = this.client.pollAction(); next !== undefined; next = this.client.pollAction()) {
      this.actions.push(next);
    }
    for (let next = this.client.pollEvent(); next !== undefined; next = this.client.pollEvent()) {
      this.events.push(next);
    }
    return this;
  }

  /** Moves on to the next deadline. */
  wake(): this {
    this.now = this.client.pollTimeout() ?? this.now;
    return this.give((client, now) => client.handleTimeout(now));
  }

  connect(): this {
    return this.give((client, now) => client.start(now)).give((client, now) => client.handleConnected(now));
  }

  /** Answers the newest post. */
  answer(body: string, status = 200): this {
    const { id } = this.last("post");
    return this.give((client, now) => client.handleResponse(id, status, body, now));
  }

  frame(body: string): this {
    const { id } = this.last("stream");
    return this.give((client, now) => client.handleFrame(id, body, now));
  }

  running(): this {
    return this.connect().answer(authorized).answer("").frame(selfJson());
  }

  last(kind: "post" | "stream"): { readonly id: number; readonly path: string; readonly body: JsonObject } {
    const found = this.actions.findLast((action) => action.kind === kind);
    if (found?.kind !== kind) throw new Error(`no ${kind}`);
    return found;
  }

  kinds(): readonly string[] {
    return this.actions.map(({ kind }) => kind);
  }

  errors(): readonly string[] {
    return this.events.flatMap((event) => (event.kind === "error" ? [event.message] : []));
  }

  posts(path: string): number {
    return this.actions.filter((action) => action.kind === "post" && action.path === path).length;
  }
}

test("registers with its key, tells of itself and asks for the map, in this order", () => {
  const bench = new Bench().connect();
  expect(bench.last("post")).toMatchObject({
    path: "/machine/register",
    body: { Auth: { AuthKey: "spkey-1" } },
  });
  bench.answer(authorized);
  expect(bench.last("post")).toMatchObject({
    path: "/machine/map",
    body: { OmitPeers: true, Compress: "zstd" },
  });
  expect(bench.last("stream")).toMatchObject({
    path: "/machine/map",
    body: { Stream: true, KeepAlive: true },
  });
  expect(bench.kinds()).toEqual(["connect", "post", "post", "stream"]);
  bench.frame(selfJson());
  expect(bench.client.state).toBe("running");
  expect(bench.events.at(-2)).toMatchObject({ kind: "net-map", netMap: { magicDnsSuffix: "lab" } });
});

test("one that registered before keeps its auth key back until the server wants a login", () => {
  const bench = new Bench({ registeredBefore: true }).connect();
  expect(bench.last("post").body).not.toHaveProperty("Auth");
  bench.answer(JSON.stringify({ AuthURL: "https://login/1" }));
  expect(bench.last("post").body).toMatchObject({ Auth: { AuthKey: "spkey-1" } });
  expect(bench.events.some(({ kind }) => kind === "auth-url")).toBe(false);
});

test("without an auth key a person gets the URL, and the next registration waits for them", () => {
  const bench = new Bench({ authKey: undefined }).connect();
  bench.answer(JSON.stringify({ AuthURL: "https://login/1" }));
  expect(bench.events).toContainEqual({ kind: "auth-url", url: "https://login/1" });
  expect(bench.client.state).toBe("needs-login");
  expect(bench.last("post").body["Followup"]).toBe("https://login/1");
  bench.answer(authorized).frame(selfJson());
  expect(bench.client.state).toBe("running");
});

test("a refused auth key is told, and tried again ever more seldom, 45 s apart at most", () => {
  const bench = new Bench().connect();
  const waits: number[] = [];
  for (let i = 0; i < 70; i++) {
    const before = bench.now;
    bench.answer(JSON.stringify({ Error: "no such key" })).wake();
    waits.push(bench.now - before);
  }
  expect(bench.events).toContainEqual({
    kind: "error",
    message: "the coordination server refused this node: no such key",
    fatal: true,
  });
  expect(waits[0]).toBeLessThanOrEqual(15);
  expect(Math.max(...waits)).toBeLessThanOrEqual(45_000);
  expect(waits.at(-1)).toBeGreaterThanOrEqual(15_000);
});

test("Retry-After is honoured", () => {
  const bench = new Bench().connect();
  const { id } = bench.last("post");
  bench.give((client, now) => client.handleResponse(id, 429, "slow down", now, seconds(7)));
  expect(bench.client.pollTimeout()).toBe(7000);
});

test("changed endpoints go out at once; what changes meanwhile goes in one update after that", () => {
  const bench = new Bench().running();
  const before = bench.posts("/machine/map");
  const update = (...texts: string[]): void => {
    const endpoints = texts.map((text) => ({ endpoint: IpPort.parse(text), type: 2 }));
    bench.give((client, now) => client.updateEndpoints(endpoints, now));
  };
  update("192.0.2.1:1");
  expect(bench.last("post").body).toMatchObject({ Endpoints: ["192.0.2.1:1"], EndpointTypes: [2] });
  update("192.0.2.1:2");
  update("192.0.2.1:3");
  bench.give((client, now) => client.updateNetInfo({ PreferredDERP: 900 }, now));
  expect(bench.posts("/machine/map")).toBe(before + 1);
  bench.answer("");
  expect(bench.last("post").body).toMatchObject({
    Endpoints: ["192.0.2.1:3"],
    Hostinfo: { Hostname: "web", NetInfo: { PreferredDERP: 900 } },
  });
  bench.answer("");
  update("192.0.2.1:3");
  expect(bench.posts("/machine/map")).toBe(before + 2);
});

test("120 s of silence end the connection; keepalives prevent it", () => {
  const bench = new Bench().running();
  bench.now = after(bench.now, seconds(100));
  bench.frame('{"KeepAlive":true}');
  expect(bench.client.pollTimeout()).toBe(220_000);
  bench.wake();
  expect(bench.kinds().at(-1)).toBe("disconnect");
  expect(bench.errors()).toEqual(["the coordination server fell silent"]);
  bench.wake();
  expect(bench.kinds().at(-1)).toBe("connect");
});

test("after a lost connection it follows the map again without registering, and keeps the old map till then", () => {
  const bench = new Bench().running();
  bench.give((client, now) => client.handleDisconnected(now)).wake();
  bench.give((client, now) => client.handleConnected(now));
  expect(bench.posts("/machine/register")).toBe(1);
  expect(bench.kinds().slice(-3)).toEqual(["connect", "post", "stream"]);
  bench.frame(selfJson());
  expect(bench.client.state).toBe("running");
});

test("a server that does not know the node any more is registered with again, with the key", () => {
  const bench = new Bench().running();
  const { id } = bench.last("stream");
  bench.give((client, now) => client.handleResponse(id, 404, "node not found", now)).wake();
  expect(bench.last("post").path).toBe("/machine/register");
  bench.answer(JSON.stringify({ Error: "who are you" }));
  expect(bench.last("post").body).toMatchObject({ Auth: { AuthKey: "spkey-1" } });
});

test.each([
  ["not JSON", /can not be read/],
  ['{"Peers":[]}', /without this node/],
  [`{"TKAInfo":{"Head":"x"},"Node":{"ID":1}}`, /can not be read/],
  [selfJson().replace("}}", '},"TKAInfo":{"Head":"x"}}'), /tailnet is locked/],
])("a first frame of %s ends the stream, which is asked for again", (frame, reason) => {
  const bench = new Bench().connect().answer(authorized).frame(frame);
  expect(bench.kinds().at(-1)).toBe("abort");
  expect(bench.errors()[0]).toMatch(reason);
  bench.wake();
  expect(bench.kinds().at(-1)).toBe("stream");
});

test("an expired node key is replaced once, named as the old one, and the new one is told", () => {
  const bench = new Bench().connect().answer(JSON.stringify({ NodeKeyExpired: true }));
  const event = bench.events.find(({ kind }) => kind === "node-key");
  if (event?.kind !== "node-key") throw new Error("no new key");
  expect(bench.last("post").body).toMatchObject({
    NodeKey: publicText(event.nodeKey),
    OldNodeKey: publicText(nodeKey),
    Auth: { AuthKey: "spkey-1" },
  });
  bench.answer(JSON.stringify({ NodeKeyExpired: true }));
  expect(bench.client.state).toBe("expired");
  expect(bench.errors()[0]).toMatch(/has expired: run/);
});

test("when the own key expires while running the stream is taken up anew with a new key", () => {
  const expiring = selfJson({ KeyExpiry: "1970-01-01T00:01:00Z" });
  const bench = new Bench().connect().answer(authorized).answer("").frame(expiring);
  expect(bench.client.state).toBe("running");
  bench.wake();
  expect(bench.now).toBe(60_000);
  expect(bench.events.some(({ kind }) => kind === "node-key")).toBe(true);
  expect(bench.kinds().slice(-2)).toEqual(["abort", "post"]);
});

test("an owner who can not take a new key is told that the old one has expired", () => {
  const bench = new Bench({ mayRotate: false }).running().frame(selfJson({ Expired: true }));
  expect(bench.client.state).toBe("expired");
  expect(bench.errors()[0]).toMatch(/has expired/);
});

test("logout names a time in the past and is done when the server has answered", () => {
  const bench = new Bench().running().give((client, now) => client.logout(now));
  expect(bench.last("post").body["Expiry"]).toBe("1970-01-01T00:02:03Z");
  bench.answer("{}");
  expect(bench.events.at(-1)).toEqual({ kind: "logged-out" });
  expect(bench.client.pollTimeout()).toBeUndefined();
});

test("after stop nothing is asked, and late answers change nothing", () => {
  const bench = new Bench().running();
  const { id } = bench.last("stream");
  bench.give((client) => client.stop());
  const before = bench.actions.length;
  bench.give((client, now) => client.handleFrame(id, selfJson(), now));
  bench.give((client, now) => client.handleDisconnected(now));
  bench.give((client, now) => client.handleTimeout(after(now, millis(1e9))));
  expect([bench.actions.length, bench.client.state]).toEqual([before, "stopped"]);
});
