import fc from "fast-check";
import { decompress } from "fzstd";
import { fromUtf8 } from "../../../../agent/src/base/bytes.ts";
import { parseRfc3339 } from "../../../../agent/src/base/rfc3339.ts";
import { wallTime, type WallTime } from "../../../../agent/src/base/time.ts";
import { parseJson } from "../../../../agent/src/core/control/json.ts";
import { MapFrameReader } from "../../../../agent/src/core/control/map-frame.ts";
import { type MapUpdate, parseMapResponse } from "../../../../agent/src/core/control/map-response.ts";
import { parseRegisterRequest, parseRegisterResponse } from "../../../../agent/src/core/control/messages.ts";
import { type NetMap, NetMapFolder } from "../../../../agent/src/core/control/net-map.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface StreamMessage {
  readonly t: number;
  readonly what: string;
  readonly json: { readonly ControlTime?: string };
  readonly frame?: string;
}
interface Vectors {
  readonly key: { readonly response: { readonly publicKey: string } };
  readonly register: readonly { readonly request: unknown; readonly response: unknown }[];
  readonly node1_stream: readonly StreamMessage[];
  readonly node2_stream: readonly StreamMessage[];
}
const headscale = vectors<Vectors>("headscale-map.json");
const messages = [...headscale.node1_stream, ...headscale.node2_stream];

function read(json: unknown): MapUpdate {
  const update = parseMapResponse(json);
  if (typeof update === "string") throw new Error(update);
  return update;
}

/** The body of a frame as a client reads it; where the vector left the frame out, its JSON. */
function bodyOf(message: StreamMessage): unknown {
  if (message.frame === undefined) return message.json;
  const reader = new MapFrameReader();
  reader.push(hex(message.frame));
  const body = reader.poll();
  if (!(body instanceof Uint8Array)) throw new Error("no frame");
  return parseJson(fromUtf8(decompress(body)));
}

/** Folds a stream up to and including time `t`, by the server's clock. */
function fold(stream: readonly StreamMessage[], t = Infinity): NetMap {
  const folder = new NetMapFolder();
  let [netMap, now]: [NetMap | undefined, WallTime] = [undefined, wallTime(0)];
  for (const message of stream.filter((each) => each.t <= t)) {
    now = parseRfc3339(message.json.ControlTime ?? "") ?? now;
    const next = folder.apply(read(bodyOf(message)), now);
    if (next === "no-node") throw new Error(next);
    netMap = next ?? netMap;
  }
  if (netMap === undefined) throw new Error("no map");
  return netMap;
}

const summary = ({ peers }: NetMap): unknown =>
  peers.map((peer) => [peer.id, peer.name, peer.online, peer.expired, peer.endpoints.map(String)]);

test.each(messages.filter((message) => message.frame !== undefined))(
  "the frame at $t s ($what) holds its JSON",
  (message) => {
    expect(bodyOf(message)).toEqual(message.json);
  },
);

describe("node 1's stream from headscale", () => {
  test("begins alone, with its relay map and filter", () => {
    const map = fold(headscale.node1_stream, 1.91);
    expect(map.peers).toEqual([]);
    expect(map.self).toMatchObject({ id: 1, stableId: "1", name: "vec1.lab.example.", user: 1, cap: 142 });
    expect(map.self.addresses.map(String)).toEqual(["100.64.0.1/32", "fd7a:115c:a1e0::1/128"]);
    expect(map.self.homeRegion).toBe(900);
    expect(map.self.hostname).toBe("vec1");
    expect(map.magicDnsSuffix).toBe("lab.example");
    expect(map.domain).toBe("198.18.7.1");
    expect([...map.derpMap.regions.values()].map((region) => region.code)).toEqual(["lab"]);
    expect(map.packetFilter).toHaveLength(2);
    expect(map.users.get(1)?.loginName).toBe("alice");
  });

  test.each([
    [8.18, [[2, "vec2.lab.example.", undefined, false, []]]],
    [8.98, [[2, "vec2.lab.example.", true, false, []]]],
    [12.18, [[2, "vec2.lab.example.", true, false, ["198.18.7.1:40001"]]]],
    [
      18.58,
      [
        [2, "vec2.lab.example.", true, false, ["198.18.7.1:40001"]],
        [3, "ts1.lab.example.", true, false, []],
      ],
    ],
    [
      27.38,
      [
        [2, "vec2.lab.example.", true, false, ["198.18.7.1:40001"]],
        [3, "renamed1.lab.example.", true, false, ["198.18.7.1:41641"]],
      ],
    ],
    [
      76.18,
      [
        [2, "vec2.lab.example.", true, true, ["198.18.7.1:40001"]],
        [3, "renamed1.lab.example.", false, false, ["198.18.7.1:41641"]],
      ],
    ],
    [79.38, [[3, "renamed1.lab.example.", false, false, ["198.18.7.1:41641"]]]],
    [Infinity, []],
  ])("at %s s the peers are as the story says", (t, peers) => {
    expect(summary(fold(headscale.node1_stream, t))).toEqual(peers);
  });

  test("takes only approved routes, and the primary ones", () => {
    const [vec2] = fold(headscale.node1_stream, 8.98).peers;
    expect(vec2?.allowedIps.map(String)).toEqual([
      "0.0.0.0/0",
      "192.0.2.0/24",
      "100.64.0.2/32",
      "::/0",
      "fd7a:115c:a1e0::2/128",
    ]);
    expect(vec2?.primaryRoutes.map(String)).toEqual(["192.0.2.0/24"]);
    expect(vec2?.tags).toEqual(["tag:server"]);
    expect(vec2?.machine?.text).toMatch(/^mkey:/);
  });
});

test("node 2's stream from headscale", () => {
  const map = fold(headscale.node2_stream);
  expect(map.self).toMatchObject({ id: 2, name: "vec2.lab.example." });
  expect(map.self.endpoints.map(String)).toEqual(["198.18.7.1:40001"]);
  expect(map.peers.map(({ id }) => id)).toEqual([1]);
  expect(map.users.get(2_147_455_555)?.displayName).toBe("Tagged Devices");
});

test("headscale's registrations are read", () => {
  expect(headscale.key.response.publicKey).toMatch(/^mkey:/);
  for (const { request, response } of headscale.register) {
    expect(parseRegisterRequest(request)).toMatchObject({
      version: 142,
      authKey: "<auth key>",
      expiry: undefined,
    });
    expect(parseRegisterResponse(response)).toEqual({
      error: "",
      authUrl: "",
      nodeKeyExpired: false,
      machineAuthorized: true,
      locked: false,
    });
  }
});

const key = (n: number): string => `nodekey:${String(n).padStart(64, "0")}`;
const node = (id: number, more: object = {}): object => ({
  ID: id,
  Key: key(id),
  Name: `n${id}.lab.`,
  Addresses: [`100.64.0.${id}/32`],
  ...more,
});

function folded(...updates: readonly object[]): NetMap {
  const folder = new NetMapFolder();
  let netMap: NetMap | undefined;
  for (const update of updates) {
    const next = folder.apply(read(update), wallTime(1000));
    if (next === "no-node") throw new Error(next);
    netMap = next ?? netMap;
  }
  if (netMap === undefined) throw new Error("no map");
  return netMap;
}
const ids = (netMap: NetMap): readonly number[] => netMap.peers.map((peer) => peer.id);

describe("order and absence", () => {
  const first = { Node: node(1), Peers: [node(3), node(2)] };

  test("peers are sorted, and oneself is never among them", () => {
    expect(ids(folded(first))).toEqual([2, 3]);
    expect(ids(folded(first, { PeersChanged: [node(1), node(5)] }))).toEqual([2, 3, 5]);
  });

  test("an empty list of peers changes nothing", () => {
    expect(ids(folded(first, { Peers: [] }))).toEqual([2, 3]);
  });

  test("a complete list makes the deltas beside it void", () => {
    const message = { Peers: [node(4)], PeersRemoved: [4], PeersChanged: [node(9)] };
    expect(ids(folded(first, message))).toEqual([4]);
  });

  test("removed, changed, online and patches apply in this order", () => {
    const map = folded(first, {
      PeersRemoved: [2, 3],
      PeersChanged: [node(2, { Online: true })],
      OnlineChange: { 2: false, 77: true },
      PeersChangedPatch: [
        { NodeID: 2, Online: true, DERPRegion: 5, Endpoints: ["192.0.2.1:5"] },
        { NodeID: 88 },
      ],
    });
    expect(summary(map)).toEqual([[2, "n2.lab.", true, false, ["192.0.2.1:5"]]]);
    expect(map.peers[0]?.homeRegion).toBe(5);
  });

  test("seen false forgets when, seen true is now", () => {
    const seen = { Node: node(1), Peers: [node(2, { LastSeen: "2020-01-01T00:00:00Z" }), node(3)] };
    const map = folded(seen, { PeerSeenChange: { 2: false, 3: true } });
    expect(map.peers.map((peer) => peer.lastSeen)).toEqual([undefined, 1000]);
  });

  test("a poll that begins without a node is refused; the next one replaces what was", () => {
    const folder = new NetMapFolder();
    expect(folder.apply(read({ Peers: [node(2)] }), wallTime(0))).toBe("no-node");
    folder.apply(read({ ...first, PacketFilter: [] }), wallTime(0));
    folder.beginPoll();
    expect(folder.apply(read({ KeepAlive: true }), wallTime(0))).toBeUndefined();
    expect(folder.current(wallTime(0))?.peers).toHaveLength(2);
    expect(folder.apply(read({ Node: node(1) }), wallTime(0))).toMatchObject({
      peers: [],
      packetFilter: undefined,
    });
  });

  test("absent AllowedIPs are the addresses, an empty list is none", () => {
    const map = folded({ Node: node(1), Peers: [node(2), node(3, { AllowedIPs: [] })] });
    expect(map.peers.map((peer) => peer.allowedIps.map(String))).toEqual([["100.64.0.2/32"], []]);
  });

  test("HomeDERP wins over the older form, and 0 is none", () => {
    const map = folded({
      Node: node(1, { DERP: "127.3.3.40:7", HomeDERP: 8 }),
      Peers: [node(2, { DERP: "127.3.3.40:7" }), node(3, { DERP: "127.3.3.40:0" })],
    });
    expect([map.self.homeRegion, ...map.peers.map((peer) => peer.homeRegion)]).toEqual([8, 7, undefined]);
  });

  test("parts of the filter are replaced, deleted, and cleared, and stand in the order of their names", () => {
    const rule = (ip: string): object => ({ SrcIPs: [ip], DstPorts: [] });
    const sources = (...updates: readonly object[]): unknown =>
      folded({ Node: node(1) }, ...updates).packetFilter?.map((each) => each.SrcIPs?.[0]);
    expect(sources()).toBeUndefined();
    expect(sources({ PacketFilter: [] })).toEqual([]);
    const both = { PacketFilters: { base: [rule("b")], aaa: [rule("a")] } };
    expect(sources(both)).toEqual(["a", "b"]);
    expect(sources(both, { PacketFilters: { aaa: null } })).toEqual(["b"]);
    expect(sources(both, { PacketFilters: { zzz: [rule("z")], "*": null } })).toEqual(["z"]);
    expect(sources(both, { PacketFilter: [rule("c")] })).toEqual(["a", "c"]);
  });

  test("a map, its lists and its nodes are frozen, and each change makes a new one", () => {
    const map = folded(first);
    expect([map, map.peers, map.peers[0]].every(Object.isFrozen)).toBe(true);
  });

  test("IDs beyond 2^53 stay apart", () => {
    const ids64 = ["9223372036854775807", "9223372036854775806"];
    const body = `{"Node":${JSON.stringify(node(1))},"Peers":[${ids64
      .map((id, i) => `{"ID":${id},"Key":"${key(i + 2)}","Name":"x\\"12345678901234567"}`)
      .join()}],"OnlineChange":{"${ids64[0]}":true}}`;
    const map = folded(parseJson(body) as object);
    expect(new Set(ids(map)).size).toBe(2);
    expect(map.peers.map((peer) => peer.online)).toContain(true);
    expect(map.peers[0]?.name).toBe('x"12345678901234567');
  });

  test("keys expire as time passes, by the server's clock when ours is wrong", () => {
    const folder = new NetMapFolder();
    const peer = node(2, { KeyExpiry: "2026-01-01T01:00:00Z" });
    const update = read({ Node: node(1), Peers: [peer], ControlTime: "2026-01-01T00:00:00Z" });
    expect(folder.apply(update, wallTime(0))).toMatchObject({ peers: [{ expired: false }] });
    expect(folder.untilExpiry(wallTime(0))).toBe(3_600_000);
    expect(folder.current(wallTime(3_599_999))?.peers[0]?.expired).toBe(false);
    expect(folder.current(wallTime(3_600_000))?.peers[0]?.expired).toBe(true);
    expect(folder.untilExpiry(wallTime(3_600_000))).toBeUndefined();
  });
});

test("damaged fields count as absent, and a peer without a key is left out", () => {
  const update = read({
    Node: node(1, { Addresses: ["x", 5, "100.64.0.1/32"], Online: "yes", Hostinfo: 7, Endpoints: null }),
    Peers: [{ ID: 2 }, 7, null, node(3, { DiscoKey: "discokey:zz", Machine: 5 })],
    PeersRemoved: "all",
    OnlineChange: [1],
    PacketFilters: 3,
  });
  expect(update.skipped).toBe(3);
  expect(update.node?.online).toBeUndefined();
  expect(update.node?.addresses).toHaveLength(1);
  expect(update.peers?.map((peer) => [peer.id, peer.discoKey])).toEqual([[3, undefined]]);
});

test("a map without a readable node of its own is refused", () => {
  expect(parseMapResponse({ Node: { ID: 1 } })).toBe("bad-node");
  expect(parseMapResponse([])).toBe("not-an-object");
  expect(parseMapResponse(parseJson("{"))).toBe("not-an-object");
});

test("any JSON is read without an exception", () => {
  const fields = fc.constantFrom(
    ...[
      "Node",
      "Peers",
      "PeersChanged",
      "PeersChangedPatch",
      "OnlineChange",
      "PacketFilters",
      "UserProfiles",
    ],
    ...["ID", "Key", "NodeID", "Endpoints", "Addresses", "DERPMap", "KeepAlive", "TKAInfo", "ControlTime"],
  );
  const leaf = fc.oneof(fc.string(), fc.integer(), fc.constant(null), fc.boolean(), fc.constant(key(2)));
  const inside = fc.dictionary(fields, leaf, { maxKeys: 6 });
  const part = fc.oneof(leaf, inside, fc.array(fc.oneof(leaf, inside), { maxLength: 4 }));
  const value = fc.oneof(leaf, fc.dictionary(fields, part, { maxKeys: 6 }));
  fc.assert(
    fc.property(value, (json) => {
      const update = parseMapResponse(json);
      if (typeof update !== "string") new NetMapFolder().apply(update, wallTime(0));
      parseRegisterRequest(json);
      parseRegisterResponse(json);
    }),
  );
});

test.each<[unknown, unknown]>([
  [
    { Country: "Germany", CountryCode: "DE", City: "Berlin", CityCode: "BER", Latitude: 52.5, Priority: 20 },
    { country: "Germany", countryCode: "DE", city: "Berlin", cityCode: "BER", priority: 20 },
  ],
  [
    { Country: 7, City: "Berlin" },
    { country: "", countryCode: "", city: "Berlin", cityCode: "", priority: 0 },
  ],
  ["Berlin", undefined],
  [undefined, undefined],
])("a node whose location is %j is at %j", (Location, expected) => {
  const Key = headscale.key.response.publicKey.replace("mkey", "nodekey");
  const { node } = read({ Node: { ID: 1, Key, Hostinfo: { Location } } });
  expect(node?.location).toEqual(expected);
});
