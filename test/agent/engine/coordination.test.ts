import { Prefix } from "../../../agent/src/base/address.ts";
import { MachinePublic, NodePublic } from "../../../agent/src/base/keys.ts";
import {
  after,
  type Instant,
  instant,
  millis,
  minutes,
  seconds,
  wallTime,
} from "../../../agent/src/base/time.ts";
import type { JsonObject } from "../../../agent/src/core/control/json.ts";
import { parseMapResponse } from "../../../agent/src/core/control/map-response.ts";
import {
  type MapRequest,
  parseMapRequest,
  parseRegisterRequest,
  type RegisterRequest,
} from "../../../agent/src/core/control/messages.ts";
import { type NetMap, NetMapFolder } from "../../../agent/src/core/control/net-map.ts";
import { Coordination, type CoordinationOptions } from "../../../agent/src/engine/coordination.ts";
import { seededRandom } from "../../sim/random.ts";
import { vectors } from "../../vectors/load.ts";

const EPOCH = Date.UTC(2026, 10, 22);
const derpMap = { Regions: { 900: { RegionID: 900, RegionCode: "nyc", RegionName: "New York", Nodes: [] } } };

/** A server with a clock that the test moves, and the maps that its streams have built up. */
class Bench {
  now: Instant = instant(0);
  readonly server: Coordination;
  readonly maps = new Map<number, NetMap>();
  readonly received: (readonly [number, JsonObject])[] = [];
  readonly ended: number[] = [];
  saved = "";
  readonly #folders = new Map<number, NetMapFolder>();

  constructor(options: Partial<CoordinationOptions> = {}) {
    const calendar = { now: () => wallTime(EPOCH + this.now) };
    this.server = new Coordination({ random: seededRandom(1), calendar, domain: "lab", derpMap, ...options });
  }

  key(options: Parameters<Coordination["createAuthKey"]>[0] = {}): string {
    return this.server.createAuthKey(options).text;
  }

  register(n: number, authKey: string | undefined, more: Partial<RegisterRequest> = {}): JsonObject {
    const request = { ...registration(n, authKey), ...more };
    const answer = this.server.handleRegister(machine(n), request, this.now);
    this.drain();
    return answer;
  }

  /** A lite update, then the stream, as clients do. */
  join(n: number, authKey: string, update: Partial<MapRequest> = {}): number {
    expect(this.register(n, authKey)["Error"]).toBe("");
    this.update(n, update);
    return this.follow(n);
  }

  follow(n: number, more: Partial<MapRequest> = {}): number {
    const request = { ...mapRequest(n), stream: true, omitPeers: false, ...more };
    const answer = this.server.handleMapRequest(machine(n), request, this.now);
    if (answer.kind !== "stream") throw new Error(answer.kind);
    this.#folders.set(answer.session, new NetMapFolder());
    this.drain();
    return answer.session;
  }

  update(n: number, more: Partial<MapRequest>): void {
    const answer = this.server.handleMapRequest(machine(n), { ...mapRequest(n), ...more }, this.now);
    expect(answer.kind).toBe("stored");
    this.drain();
  }

  close(session: number): void {
    this.server.handleSessionClosed(session, this.now);
    this.drain();
  }

  /** Moves the clock, stopping at every deadline on the way. */
  pass(ms: number): void {
    const end = after(this.now, millis(ms));
    for (let at = this.server.pollTimeout(); at !== undefined && at <= end; at = this.server.pollTimeout()) {
      this.now = at > this.now ? at : this.now;
      this.server.handleTimeout(this.now);
      this.drain();
    }
    this.now = end;
  }

  drain(): void {
    const wall = wallTime(EPOCH + this.now);
    for (let out = this.server.pollTransmit(); out !== undefined; out = this.server.pollTransmit()) {
      this.received.push([out.session, out.message]);
      const update = parseMapResponse(JSON.parse(JSON.stringify(out.message)));
      if (typeof update === "string") throw new Error(update);
      const map = this.#folders.get(out.session)?.apply(update, wall);
      if (map === "no-node") throw new Error(map);
      if (map !== undefined) this.maps.set(out.session, map);
    }
    for (let event = this.server.pollEvent(); event !== undefined; event = this.server.pollEvent()) {
      if (event.kind === "changed") this.saved = this.server.exportState();
      else this.ended.push(event.session);
    }
  }

  peers(session: number): NetMap["peers"] {
    return this.maps.get(session)?.peers ?? [];
  }

  last(session: number): JsonObject {
    return this.received.filter(([to]) => to === session).at(-1)?.[1] ?? {};
  }
}

const hexOf = (n: number): string => n.toString(16).padStart(64, "1");
const machine = (n: number): MachinePublic => MachinePublic.parse(`mkey:${hexOf(n)}`);
const nodeKey = (n: number): NodePublic => NodePublic.parse(`nodekey:${hexOf(n)}`);

function registration(n: number, authKey: string | undefined): RegisterRequest {
  const json = { Version: 113, NodeKey: nodeKey(n).text, Hostinfo: { Hostname: `host${n}`, OS: "linux" } };
  const request = parseRegisterRequest({
    ...json,
    ...(authKey === undefined ? {} : { Auth: { AuthKey: authKey } }),
  });
  if (typeof request === "string") throw new Error(request);
  return request;
}

function mapRequest(n: number): MapRequest {
  const request = parseMapRequest({
    Version: 113,
    NodeKey: nodeKey(n).text,
    DiscoKey: `discokey:${hexOf(n)}`,
    OmitPeers: true,
    Hostinfo: { Hostname: `host${n}`, OS: "linux", NetInfo: { PreferredDERP: 900 } },
    Endpoints: [`192.0.2.${n}:41641`],
    EndpointTypes: [2],
  });
  if (typeof request === "string") throw new Error(request);
  return request;
}

const endpoints = (...texts: readonly string[]): MapRequest["endpoints"] => {
  const request = parseMapRequest({ Version: 113, NodeKey: nodeKey(1).text, Endpoints: texts });
  return typeof request === "string" ? [] : request.endpoints;
};

describe("two nodes that join", () => {
  test("see each other with keys, addresses, endpoints and home relay", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const [a, b] = [bench.join(1, key), bench.join(2, key)];
    expect(bench.peers(a)).toHaveLength(1);
    expect(bench.peers(a)[0]).toMatchObject({
      id: 2,
      stableId: "n2",
      name: "host2.lab.",
      key: nodeKey(2),
      machine: machine(2),
      homeRegion: 900,
      hostname: "host2",
      os: "linux",
      online: true,
      expired: false,
    });
    const [peer] = bench.peers(b);
    expect(peer?.addresses.map(String)).toEqual([
      "100.64.0.1/32",
      "fd7a:115c:a1e0:ab12:4843:cd96:6240:1/128",
    ]);
    expect(peer?.allowedIps).toEqual(peer?.addresses);
    expect(peer?.endpoints.map(String)).toEqual(["192.0.2.1:41641"]);
    expect(peer?.discoKey?.text).toBe(`discokey:${hexOf(1)}`);
    const map = bench.maps.get(b);
    expect(map?.self.name).toBe("host2.lab.");
    expect(map?.domain).toBe("lab");
    expect([...(map?.derpMap.regions.values() ?? [])].map(({ code }) => code)).toEqual(["nyc"]);
    expect(map?.packetFilter).toHaveLength(1);
    expect(map?.users.get(map.self.user)?.loginName).toBe("lab");
  });

  test("hear of a changed endpoint at once, in a patch that says no more", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const [a, b] = [bench.join(1, key), bench.join(2, key)];
    const before = bench.received.length;
    bench.update(2, { endpoints: endpoints("198.51.100.7:1", "[2001:db8::1]:2") });
    expect(bench.received.slice(before).map(([session]) => session)).toEqual([a]);
    expect(bench.last(a)["PeersChangedPatch"]).toEqual([
      { NodeID: 2, Endpoints: ["198.51.100.7:1", "[2001:db8::1]:2"] },
    ]);
    expect(bench.peers(a)[0]?.endpoints.map(String)).toEqual(["198.51.100.7:1", "[2001:db8::1]:2"]);
    expect(bench.maps.get(b)?.self.endpoints.map(String)).toEqual(["192.0.2.2:41641"]);
  });

  test("an update that changes nothing makes no message", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    bench.join(1, key);
    bench.join(2, key);
    const before = bench.received.length;
    bench.update(2, {});
    expect(bench.received).toHaveLength(before);
  });

  test("changes of one moment come as one message", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const a = bench.join(1, key);
    bench.join(2, key);
    bench.join(3, key);
    const before = bench.received.length;
    for (const n of [2, 3]) {
      bench.server.handleMapRequest(
        machine(n),
        { ...mapRequest(n), endpoints: endpoints("192.0.2.99:9") },
        bench.now,
      );
    }
    bench.drain();
    const toA = bench.received.slice(before).filter(([session]) => session === a);
    expect(toA).toHaveLength(1);
    expect(toA[0]?.[1]["PeersChangedPatch"]).toHaveLength(2);
  });

  test("endpoints that all vanish are told too, as is a home relay that the map lacks", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const a = bench.join(1, key);
    bench.join(2, key);
    bench.update(2, { endpoints: [], hostinfo: { Hostname: "host2", NetInfo: { PreferredDERP: 55 } } });
    expect(bench.peers(a)[0]).toMatchObject({ endpoints: [], homeRegion: undefined });
  });
});

describe("online", () => {
  function pair(): { bench: Bench; a: number; b: number } {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    return { bench, a: bench.join(1, key), b: bench.join(2, key) };
  }

  test("a node is offline 10 s after its stream ended, and seen last then", () => {
    const { bench, a, b } = pair();
    bench.close(b);
    bench.pass(seconds(9.9));
    expect(bench.peers(a)[0]?.online).toBe(true);
    bench.pass(seconds(0.2));
    expect(bench.peers(a)[0]).toMatchObject({ online: false, lastSeen: EPOCH + 10_000 });
    bench.follow(2);
    expect(bench.last(a)["OnlineChange"]).toEqual({ 2: true });
    expect(bench.peers(a)[0]?.online).toBe(true);
  });

  test("a node that comes back within 10 s was never gone", () => {
    const { bench, a, b } = pair();
    const before = bench.received.filter(([session]) => session === a).length;
    bench.close(b);
    bench.pass(seconds(5));
    bench.follow(2);
    bench.pass(seconds(20));
    expect(bench.received.filter(([session]) => session === a)).toHaveLength(before);
  });

  test("a new stream takes the place of the old one", () => {
    const { bench, b } = pair();
    const again = bench.follow(2);
    expect(bench.ended).toEqual([b]);
    bench.close(b);
    bench.pass(seconds(30));
    expect(bench.server.listNodes()[1]?.online).toBe(true);
    expect(bench.maps.get(again)?.peers).toHaveLength(1);
  });

  test("a silent stream gets a keepalive every 50 s", () => {
    const { bench, a } = pair();
    bench.pass(seconds(151));
    const keepAlives = bench.received.filter(([to, message]) => to === a && message["KeepAlive"] === true);
    expect(keepAlives).toHaveLength(3);
  });
});

describe("admission", () => {
  test("without a key, or with an unknown one, the answer says what to do, and nobody joins", () => {
    const bench = new Bench();
    expect(bench.register(1, undefined)["Error"]).toMatch(/auth-key create/);
    expect(bench.register(1, "spkey-000000000000-1")["Error"]).toMatch(/not known/);
    expect(bench.server.listNodes()).toEqual([]);
  });

  test("a key for one node is refused the second time, but not to the node that used it", () => {
    const bench = new Bench();
    const key = bench.key();
    bench.join(1, key);
    expect(bench.register(2, key)["Error"]).toMatch(/has been used/);
    expect(bench.register(1, key)["Error"]).toBe("");
    expect(bench.server.listNodes()).toHaveLength(1);
  });

  test("a key that has expired is refused", () => {
    const bench = new Bench();
    const key = bench.key({ expiry: wallTime(EPOCH + 1000) });
    bench.pass(1000);
    expect(bench.register(1, key)["Error"]).toMatch(/has expired/);
  });

  test("a removed key is unknown", () => {
    const bench = new Bench();
    const { id, text } = bench.server.createAuthKey({ reusable: true });
    expect(bench.server.removeAuthKey(id)).toBe(true);
    expect(bench.register(1, text)["Error"]).toMatch(/not known/);
  });

  test("a key's tags go to the node; tags that it only asks for are refused", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true, tags: ["tag:exit"] });
    const asks = (...tags: string[]): Partial<RegisterRequest> => ({ hostinfo: { RequestTags: tags } });
    expect(bench.register(1, key, asks("tag:root"))["Error"]).toMatch(/tag:root/);
    expect(bench.register(1, key, asks("tag:exit"))["Error"]).toBe("");
    expect(bench.server.listNodes()[0]).toMatchObject({ tags: ["tag:exit"], user: "tagged-devices" });
  });

  test("a restarted node is known without a key; another machine with its node key is not", () => {
    const bench = new Bench();
    bench.join(1, bench.key());
    expect(bench.register(1, undefined)).toMatchObject({ Error: "", MachineAuthorized: true, AuthURL: "" });
    const stolen = bench.server.handleRegister(machine(9), registration(1, undefined), bench.now);
    expect(stolen["Error"]).toMatch(/another machine/);
    const follow = bench.server.handleMapRequest(machine(9), { ...mapRequest(1), stream: true }, bench.now);
    expect(follow).toMatchObject({ kind: "refused", status: 404 });
  });

  test("a rotated node key keeps the node's ID, name and addresses, and peers hear of it", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const a = bench.join(1, key);
    bench.join(2, key);
    const before = bench.peers(a)[0];
    bench.register(2, undefined, { nodeKey: nodeKey(22), oldNodeKey: nodeKey(2) });
    expect(bench.last(a)["PeersChangedPatch"]).toEqual([{ NodeID: 2, Key: nodeKey(22).text }]);
    expect(bench.peers(a)[0]).toEqual({ ...before, key: nodeKey(22) });
    expect(bench.register(3, undefined, { oldNodeKey: nodeKey(22) })["Error"]).toMatch(/auth key/);
  });

  test("names are made safe and unique, and follow a renamed host", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const named = (n: number, Hostname: string): string | undefined => {
      bench.register(n, key, { hostinfo: { Hostname } });
      return bench.server.listNodes().at(-1)?.name;
    };
    expect(named(1, "Ann's Laptop.local")).toBe("anns-laptop.lab");
    expect(named(2, "ANNS_LAPTOP")).toBe("anns-laptop-1.lab");
    expect(named(3, "…")).toBe("node.lab");
    bench.update(3, { hostinfo: { Hostname: "web" } });
    expect(bench.server.listNodes()[2]?.name).toBe("web.lab");
  });

  test("addresses go round the range and leave out what is reserved", () => {
    const bench = new Bench();
    const state = (last: string): string =>
      JSON.stringify({ version: 1, nextId: 9, lastAddress: last, users: [], authKeys: [], nodes: [] });
    const next = (last: string): string | undefined => {
      bench.server.importState(state(last), bench.now);
      bench.register(1, bench.key());
      return bench.server.listNodes()[0]?.addresses[0];
    };
    expect(next("100.115.91.255")).toBe("100.115.94.0");
    expect(next("100.100.100.99")).toBe("100.100.100.101");
    expect(next("100.127.255.254")).toBe("100.64.0.1");
  });
});

describe("leaving", () => {
  const logout = { expiry: wallTime(123_000) };

  test("a node that logged out is offline and expired at once, and joins again as the same node", () => {
    const bench = new Bench();
    const key = bench.key({ reusable: true });
    const [a, b] = [bench.join(1, key), bench.join(2, key)];
    expect(bench.register(2, key, logout)["Error"]).toBe("");
    expect(bench.ended).toEqual([b]);
    expect(bench.peers(a)[0]).toMatchObject({ online: false, expired: true });
    expect(bench.register(2, undefined)["NodeKeyExpired"]).toBe(true);
    bench.register(2, key, { nodeKey: nodeKey(22) });
    expect(bench.peers(a)[0]).toMatchObject({ id: 2, key: nodeKey(22), expired: false });
  });

  test("an ephemeral node is forgotten at logout", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    bench.join(2, bench.key({ ephemeral: true }));
    bench.register(2, undefined, logout);
    expect(bench.last(a)["PeersRemoved"]).toEqual([2]);
    expect(bench.peers(a)).toEqual([]);
  });

  test("an ephemeral node is forgotten 30 minutes after its stream ended, unless it comes back", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    const b = bench.join(2, bench.key({ ephemeral: true }));
    bench.close(b);
    bench.pass(minutes(29));
    const again = bench.follow(2);
    bench.pass(minutes(40));
    expect(bench.peers(a)).toHaveLength(1);
    bench.close(again);
    bench.pass(minutes(31));
    expect(bench.peers(a)).toEqual([]);
  });

  test("a registration that runs out: peers are told, the node's stream ends and shows it only itself", () => {
    const bench = new Bench({ keyLifetime: minutes(5) });
    const a = bench.join(1, bench.key({ tags: ["tag:always"] }));
    const b = bench.join(2, bench.key());
    bench.pass(minutes(4));
    expect(bench.peers(a)[0]).toMatchObject({ expired: false, keyExpiry: EPOCH + minutes(5) });
    bench.pass(minutes(2));
    const told = bench.received.flatMap(([to, message]) => (to === a ? (message["PeersChanged"] ?? []) : []));
    expect(told).toContainEqual(expect.objectContaining({ ID: 2, Expired: true }));
    expect(bench.peers(a)[0]).toMatchObject({ expired: true, online: false });
    expect(bench.ended).toEqual([b]);
    const alone = bench.follow(2);
    expect(bench.maps.get(alone)).toMatchObject({ self: { expired: true }, peers: [] });
  });

  test("a deleted node is gone from every map and has to register", () => {
    const bench = new Bench();
    const [a, b] = [bench.join(1, bench.key()), bench.join(2, bench.key())];
    expect(bench.server.deleteNode(2, bench.now)).toBe(true);
    bench.drain();
    expect([bench.peers(a), bench.ended]).toEqual([[], [b]]);
    expect(bench.server.handleMapRequest(machine(2), mapRequest(2), bench.now)).toMatchObject({
      status: 404,
    });
    expect(bench.server.deleteNode(2, bench.now)).toBe(false);
  });

  test("an administrator ends a registration", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    bench.join(2, bench.key());
    expect(bench.server.expireNode(2, bench.now)).toBe(true);
    bench.drain();
    expect(bench.peers(a)[0]?.expired).toBe(true);
  });
});

describe("routes", () => {
  const offers = (...RoutableIPs: string[]): Partial<MapRequest> => ({
    hostinfo: { Hostname: "r", RoutableIPs },
  });
  const allowed = (bench: Bench, session: number, id: number): readonly string[] =>
    bench
      .peers(session)
      .find((peer) => peer.id === id)
      ?.allowedIps.filter((prefix) => !prefix.isHost)
      .map(String) ?? [];

  test("what is offered counts only when it is approved", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    bench.join(2, bench.key(), offers("0.0.0.0/0", "::/0", "192.168.9.0/24", "10.0.0.0/8"));
    expect(allowed(bench, a, 2)).toEqual([]);
    bench.server.approveRoutes(2, [Prefix.parse("192.168.9.0/24"), Prefix.parse("172.16.0.0/12")], bench.now);
    bench.drain();
    expect(allowed(bench, a, 2)).toEqual(["192.168.9.0/24"]);
    expect(bench.peers(a)[0]?.primaryRoutes.map(String)).toEqual(["192.168.9.0/24"]);
  });

  test.each([
    [true, true],
    [["tag:exit"], true],
    [["tag:other"], false],
    [false, false],
  ])("exit nodes with autoApproveExitNodes %j", (autoApproveExitNodes, approved) => {
    const bench = new Bench({ autoApproveExitNodes });
    const a = bench.join(1, bench.key());
    bench.join(2, bench.key({ tags: ["tag:exit"] }), offers("0.0.0.0/0", "::/0", "10.0.0.0/8"));
    expect(allowed(bench, a, 2)).toEqual(approved ? ["0.0.0.0/0", "::/0"] : []);
    bench.update(2, { hostinfo: { Hostname: "r" } });
    expect(allowed(bench, a, 2)).toEqual([]);
  });

  test.each([
    ["10.0.0.0/8", undefined, ["10.1.0.0/16"]],
    ["10.1.0.0/16", "tag:exit", ["10.1.0.0/16"]],
    ["10.1.0.0/16", "tag:other", []],
    ["10.1.2.0/24", undefined, []],
    ["0.0.0.0/0", undefined, ["10.1.0.0/16"]],
  ])("a rule for %s and %s approves the routes %j at once, and never an exit", (network, tag, approved) => {
    const bench = new Bench({ autoApproveRoutes: [{ network: Prefix.parse(network), tag }] });
    const a = bench.join(1, bench.key());
    bench.join(2, bench.key({ tags: ["tag:exit"] }), offers("0.0.0.0/0", "::/0", "10.1.0.0/16"));
    expect(allowed(bench, a, 2)).toEqual(approved);
  });

  test("of two routers one carries the route, and the other takes over when it goes offline", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    const b = bench.join(2, bench.key(), offers("10.0.0.0/8"));
    bench.join(3, bench.key(), offers("10.0.0.0/8"));
    for (const id of [2, 3]) bench.server.approveRoutes(id, [Prefix.parse("10.0.0.0/8")], bench.now);
    bench.drain();
    expect([allowed(bench, a, 2), allowed(bench, a, 3)]).toEqual([["10.0.0.0/8"], []]);
    bench.close(b);
    bench.pass(seconds(11));
    expect([allowed(bench, a, 2), allowed(bench, a, 3)]).toEqual([[], ["10.0.0.0/8"]]);
    bench.follow(2);
    expect([allowed(bench, a, 2), allowed(bench, a, 3)]).toEqual([[], ["10.0.0.0/8"]]);
  });
});

describe("what an administrator replaces reaches every stream", () => {
  test("the relay map, and home relays that it lacks", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    bench.join(2, bench.key());
    bench.server.setDerpMap({ Regions: { 7: { RegionID: 7, RegionCode: "tor", Nodes: [] } } }, bench.now);
    bench.drain();
    expect([...(bench.maps.get(a)?.derpMap.regions.keys() ?? [])]).toEqual([7]);
    expect(bench.peers(a)[0]?.homeRegion).toBeUndefined();
  });

  test("the packet filter", () => {
    const bench = new Bench();
    const a = bench.join(1, bench.key());
    bench.server.setPacketFilter([], bench.now);
    bench.drain();
    expect(bench.maps.get(a)?.packetFilter).toEqual([]);
    expect(bench.maps.get(bench.follow(1))?.packetFilter).toEqual([]);
  });
});

describe("state", () => {
  function withTwoNodes(): Bench {
    const bench = new Bench();
    bench.join(1, bench.key());
    bench.join(2, bench.key({ tags: ["tag:exit"] }));
    bench.server.approveRoutes(2, [Prefix.parse("10.0.0.0/8")], bench.now);
    bench.server.setDerpMap({ Regions: { 900: { RegionID: 900, RegionCode: "new", Nodes: [] } } }, bench.now);
    bench.drain();
    return bench;
  }

  test("after a restart every node is known, with its peers' last endpoints, and keys stay used", () => {
    const old = withTwoNodes();
    const key = old.key();
    old.join(3, key);
    const bench = new Bench();
    bench.server.importState(old.saved, bench.now);
    expect(JSON.parse(bench.server.exportState())).toEqual(JSON.parse(old.saved));
    expect(bench.register(1, undefined)["Error"]).toBe("");
    expect(bench.register(9, key)["Error"]).toMatch(/has been used/);
    const a = bench.follow(1);
    expect(bench.peers(a).map((peer) => [peer.id, peer.online, peer.endpoints.map(String)])).toEqual([
      [2, false, ["192.0.2.2:41641"]],
      [3, false, ["192.0.2.3:41641"]],
    ]);
    expect([...(bench.maps.get(a)?.derpMap.regions.values() ?? [])][0]?.code).toBe("new");
    bench.join(4, bench.key());
    expect(bench.peers(a).at(-1)?.addresses.map(String)[0]).toBe("100.64.0.4/32");
  });

  test("holds no auth key", () => {
    const bench = new Bench();
    const key = bench.key();
    bench.join(1, key);
    expect(bench.saved).not.toContain(key.slice(-20));
    expect(JSON.stringify(bench.server.listAuthKeys())).not.toContain("hash");
  });

  test.each([
    ["", /not a JSON object/],
    ["{}", /version is undefined/],
    ['{"version":2}', /version is 2/],
    ['{"version":1}', /nextId/],
    [withTwoNodes().saved.slice(0, -10), /not a JSON object/],
    [withTwoNodes().saved.replace("nodekey:", "nodekex:"), /"key"/],
    [withTwoNodes().saved.replace('"100.64.0.1"', '"100.64.0.2"'), /two nodes have one address/],
    [withTwoNodes().saved.replace('"nextId":3', '"nextId":2'), /nextId/],
    [withTwoNodes().saved.replace('"reusable":false', '"reusable":"no"'), /reusable/],
  ])("a damaged state (%#) is refused as a whole", (text, reason) => {
    const bench = new Bench();
    bench.join(1, bench.key());
    const before = bench.server.exportState();
    expect(() => bench.server.importState(text, bench.now)).toThrow(reason);
    expect(bench.server.exportState()).toBe(before);
  });
});

describe("what tailscaled 1.102.5 really sends", () => {
  interface Recorded {
    readonly request: string;
    readonly data: JsonObject & { readonly machine?: string };
  }
  interface RecordedVectors {
    readonly requests: readonly Recorded[];
    readonly self_node_that_sufficed: JsonObject;
    readonly server_answers_that_sufficed: Readonly<Record<string, string>>;
  }
  const recorded = vectors<RecordedVectors>("tailscaled-requests.json");
  const { requests, self_node_that_sufficed: sufficient } = recorded;
  const registered = JSON.parse(
    recorded.server_answers_that_sufficed["POST /machine/register"] ?? "",
  ) as JsonObject;

  /** The requests' node keys name the nodes; the vector has machine keys for two of them. */
  const machines = new Map<string, MachinePublic>();
  for (const { data } of requests) {
    const key = data["NodeKey"];
    if (typeof key === "string" && !machines.has(key)) machines.set(key, machine(machines.size + 1));
  }
  const machineOf = (data: JsonObject): MachinePublic => machines.get(String(data["NodeKey"])) ?? machine(99);

  test("is accepted in the recorded order, and answered with the fields that it needs", () => {
    const bench = new Bench({ admitWithoutKey: true });
    let streams = 0;
    for (const { request: what, data } of requests) {
      if (what.startsWith("POST /machine/register")) {
        const request = parseRegisterRequest(data);
        if (typeof request === "string") throw new Error(request);
        const answer = bench.server.handleRegister(machineOf(data), request, bench.now);
        expect(answer).toMatchObject({ Error: "", AuthURL: "", NodeKeyExpired: false });
        expect(formOf(answer)).toMatchObject(formOf(registered));
        if (!what.includes("logout")) {
          expect(answer).toMatchObject({
            MachineAuthorized: true,
            User: { ID: 1, DisplayName: "lab" },
            Login: { ID: 1, LoginName: "lab", DisplayName: "lab" },
          });
        }
      } else if (what.startsWith("POST /machine/map")) {
        const request = parseMapRequest(data);
        if (typeof request === "string") throw new Error(request);
        if (what.includes("exit node")) register(bench, data);
        const answer = bench.server.handleMapRequest(machineOf(data), request, bench.now);
        expect(answer.kind).toBe(data["Stream"] === true ? "stream" : "stored");
        if (answer.kind === "stream") streams++;
      }
      bench.drain();
    }
    expect(streams).toBe(1);
    const [, first = {}] = bench.received[0] ?? [];
    expect(Object.keys(first)).toEqual(
      expect.arrayContaining(["Node", "DERPMap", "Domain", "PacketFilters", "UserProfiles"]),
    );
    const { Endpoints: _endpoints, HomeDERP: _home, ...needed } = { ...sufficient };
    expect(formOf(first["Node"] as JsonObject)).toMatchObject(formOf(needed));
    expect(bench.server.listNodes().map(({ name, expired }) => [name, expired])).toEqual([
      ["m1.lab", true],
      ["m2.lab", false],
      ["m3.lab", false],
    ]);
  });

  const isObject = (value: unknown): value is JsonObject => typeof value === "object" && value !== null;

  /** The fields of an answer and the types of their values. */
  function formOf(json: JsonObject): Record<string, unknown> {
    const form = (value: unknown): unknown =>
      Array.isArray(value) ? "list" : isObject(value) ? formOf(value) : typeof value;
    return Object.fromEntries(Object.entries(json).map(([key, value]) => [key, form(value)]));
  }

  /** The vector has only the map request of the third node. */
  function register(bench: Bench, data: JsonObject): void {
    const request = parseRegisterRequest(data);
    if (typeof request === "string") throw new Error(request);
    bench.server.handleRegister(machineOf(data), request, bench.now);
  }
});

test("a client that is too old is told so", () => {
  const bench = new Bench();
  expect(bench.register(1, bench.key(), { version: 30 })["Error"]).toMatch(/too old/);
  bench.join(2, bench.key());
  const answer = bench.server.handleMapRequest(machine(2), { ...mapRequest(2), version: 30 }, bench.now);
  expect(answer).toMatchObject({ kind: "refused", status: 400 });
});
