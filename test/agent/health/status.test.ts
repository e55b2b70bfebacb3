import { IpPort, Prefix } from "../../../agent/src/base/address.ts";
import { MachinePublic, NodePublic } from "../../../agent/src/base/keys.ts";
import { parseRfc3339 } from "../../../agent/src/base/rfc3339.ts";
import { type Instant, instant, wallTime } from "../../../agent/src/base/time.ts";
import type { MapNode, NetMap } from "../../../agent/src/core/control/net-map.ts";
import { parseDerpMap } from "../../../agent/src/core/path/derp-map.ts";
import { regionId } from "../../../agent/src/core/path/path.ts";
import type { PeerStatus } from "../../../agent/src/engine/node.ts";
import { buildStatus, type StatusInput } from "../../../agent/src/health/status.ts";
import type { PeerJson, StatusJson } from "../../../agent/src/health/status-json.ts";
import { findTarget } from "../../../agent/src/health/target.ts";
import { vectors } from "../../vectors/load.ts";

const sample = vectors<{ status_json: StatusJson }>("cli-samples.json").status_json;
const LAB = regionId(900);
const WALL = parseRfc3339("2026-11-22T09:03:46Z") ?? wallTime(0);
const NOW = instant(1_000_000);

test("the map and the counters of Tailscale's sample give Tailscale's JSON", () => {
  const built = buildStatus(inputOf(sample));
  expect(Object.keys(built)).toEqual(Object.keys(sample));
  expect(withoutPeerApi(built)).toEqual(withoutPeerApi(withMillis(sample)));
  expect(Object.keys(built.Self)).toEqual(Object.keys(sample.Self));
});

test("a direct path, an exit node, an expired key and a tag are shown", () => {
  const input = inputOf(sample);
  const [first, ...others] = input.netMap?.peers ?? [];
  if (input.netMap === undefined || first === undefined) throw new Error("the sample has peers");
  const changed: MapNode = {
    ...first,
    allowedIps: [...first.allowedIps, Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")],
    tags: ["tag:exit"],
    online: undefined,
    expired: true,
    keyExpiry: WALL,
    primaryRoutes: [Prefix.parse("10.0.0.0/8")],
    location: { country: "Germany", countryCode: "DE", city: "Berlin", cityCode: "BER", priority: 20 },
  };
  const counters = { ...countersOf(changed), directAddress: IpPort.parse("203.0.113.5:41641"), txBytes: 5 };
  const status = buildStatus({
    ...input,
    netMap: { ...input.netMap, peers: [changed, ...others] },
    peers: [counters],
    exitNode: changed.stableId,
  });
  expect(status.Peer?.[first.key.text]).toMatchObject({
    CurAddr: "203.0.113.5:41641",
    TxBytes: 5,
    ExitNode: true,
    ExitNodeOption: true,
    Online: true,
    Expired: true,
    KeyExpiry: "2026-11-22T09:03:46.000Z",
    Tags: ["tag:exit"],
    PrimaryRoutes: ["10.0.0.0/8"],
    Location: { Country: "Germany", CountryCode: "DE", City: "Berlin", CityCode: "BER", Priority: 20 },
  });
  expect(status.ExitNodeStatus).toEqual({
    ID: first.stableId,
    Online: true,
    TailscaleIPs: ["100.64.9.1/32"],
  });
});

test("before there is a map there are no nodes but its own, of which scripts may ask everything", () => {
  const status = buildStatus({
    ...inputOf(sample),
    netMap: undefined,
    backendState: "NeedsLogin",
    authUrl: "https://x",
  });
  expect(status).toMatchObject({ Peer: null, User: null, TailscaleIPs: null, AuthURL: "https://x" });
  const { AllowedIPs, ...always } = buildStatus(inputOf(sample)).Self;
  expect(AllowedIPs).toBeDefined();
  expect(Object.keys(status.Self)).toEqual(Object.keys(always));
  expect(status.Self).toMatchObject({
    ...{ HostName: "web", OS: "linux", Online: false, TailscaleIPs: null, Addrs: [], InNetworkMap: false },
    ...{ PublicKey: `nodekey:${"0".repeat(64)}`, Created: "0001-01-01T00:00:00Z" },
  });
});

test("without peers there is null where they would stand", () => {
  const input = inputOf(sample);
  if (input.netMap === undefined) throw new Error("the sample has a map");
  expect(buildStatus({ ...input, netMap: { ...input.netMap, peers: [] } }).Peer).toBeNull();
});

test.each([
  ["m1", "peer 100.64.9.1"],
  ["M1", "peer 100.64.9.1"],
  ["m1.mini.example", "peer 100.64.9.1"],
  ["m1.mini.example.", "peer 100.64.9.1"],
  ["100.64.9.2", "peer 100.64.9.2"],
  ["m3", "local 100.64.9.3"],
  ["100.64.9.3", "local 100.64.9.3"],
  ["100.64.9.4", "no-match"],
  ["m", "no-match"],
  ["", "no-match"],
  [".", "no-match"],
])("%j means %s", (text, expected) => {
  const { netMap } = inputOf(sample);
  if (netMap === undefined) throw new Error("the sample has a map");
  const target = findTarget(netMap, text);
  expect(target.kind === "no-match" ? "no-match" : `${target.kind} ${target.ip.text}`).toBe(expected);
});

function inputOf(status: StatusJson): StatusInput {
  const self = status.Self;
  const peers = Object.values(status.Peer ?? {}).map(nodeOf);
  const netMap: NetMap = {
    self: nodeOf(self),
    peers: peers.toSorted((a, b) => a.id - b.id),
    derpMap: parseDerpMap({
      Regions: { "900": { RegionID: 900, RegionCode: "lab", RegionName: "Lab", Nodes: [] } },
    }),
    packetFilter: undefined,
    domain: "mini.example",
    users: new Map([[1, { id: 1, loginName: "mini", displayName: "mini" }]]),
    magicDnsSuffix: status.MagicDNSSuffix,
  };
  return {
    version: status.Version,
    ...{ hostname: "web", os: "linux" },
    tun: status.TUN,
    backendState: status.BackendState,
    haveNodeKey: status.HaveNodeKey,
    authUrl: undefined,
    health: [],
    netMap,
    connected: true,
    ownEndpoints: (self.Addrs ?? []).map((text) => IpPort.parse(text)),
    homeRegion: LAB,
    peers: Object.values(status.Peer ?? {}).map((peer) => ({
      ...countersOf(nodeOf(peer)),
      lastWrite: onClock(peer.LastWrite),
    })),
    exitNode: undefined,
    now: NOW,
    wallNow: WALL,
  };
}

function countersOf(node: MapNode): PeerStatus {
  return {
    node,
    active: true,
    directAddress: undefined,
    mtu: 1280,
    txBytes: 0,
    rxBytes: 0,
    lastWrite: undefined,
    lastHandshake: undefined,
  };
}

function onClock(text: string): Instant {
  return instant(NOW - (WALL - (parseRfc3339(text) ?? WALL)));
}

function nodeOf(peer: PeerJson): MapNode {
  return {
    id: peer.NodeID,
    stableId: peer.ID,
    name: peer.DNSName,
    key: NodePublic.parse(peer.PublicKey),
    machine: MachinePublic.fromBytes(new Uint8Array(32)),
    discoKey: undefined,
    addresses: (peer.AllowedIPs ?? []).map((text) => Prefix.parse(text)),
    allowedIps: (peer.AllowedIPs ?? []).map((text) => Prefix.parse(text)),
    endpoints: [],
    homeRegion: LAB,
    user: peer.UserID,
    hostname: peer.HostName,
    os: peer.OS,
    tags: [],
    online: peer.Online,
    lastSeen: undefined,
    keyExpiry: undefined,
    expired: false,
    cap: 0,
    primaryRoutes: [],
    created: undefined,
  };
}

/** We have no peer API, and so nothing to say of it. */
function withoutPeerApi(status: StatusJson): StatusJson {
  const strip = (peer: PeerJson): PeerJson => ({ ...peer, PeerAPIURL: null, TaildropTarget: 0 });
  return {
    ...status,
    Self: strip(status.Self),
    Peer: Object.fromEntries(Object.entries(status.Peer ?? {}).map(([key, peer]) => [key, strip(peer)])),
  };
}

/** Our clock is read in milliseconds. */
function withMillis(status: StatusJson): StatusJson {
  return JSON.parse(JSON.stringify(status).replaceAll(/(\.\d{3})\d+Z/g, "$1Z")) as StatusJson;
}
