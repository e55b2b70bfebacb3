/** What the daemon says of itself, put together from the network map and the engine's counters. */
import type { IpPort } from "../base/address.ts";
import { formatRfc3339 } from "../base/rfc3339.ts";
import type { Instant, WallTime } from "../base/time.ts";
import { wallTime } from "../base/time.ts";
import type { NodeLocation } from "../core/control/map-response.ts";
import { type MapNode, type NetMap, offersExitNode } from "../core/control/net-map.ts";
import type { RegionId } from "../core/path/path.ts";
import type { PeerStatus } from "../engine/node.ts";
import type {
  BackendState,
  DataPlaneJson,
  ForwardingJson,
  ExitNodeJson,
  LocationJson,
  PeerJson,
  StatusJson,
  TailnetJson,
  UserJson,
} from "./status-json.ts";
import { NEVER } from "./status-json.ts";

export interface StatusInput {
  readonly version: string;
  /** What the node calls itself while there is no map, and its system. */
  readonly hostname: string;
  readonly os: string;
  /** Whether packets go through a kernel device. */
  readonly tun: boolean;
  readonly backendState: BackendState;
  readonly haveNodeKey: boolean;
  readonly authUrl: string | undefined;
  /** What is wrong, one sentence each. */
  readonly health: readonly string[];
  /** undefined until the coordination server has sent one. */
  readonly netMap: NetMap | undefined;
  /** Whether the coordination server can be reached now. */
  readonly connected: boolean;
  readonly ownEndpoints: readonly IpPort[];
  readonly homeRegion: RegionId | undefined;
  readonly peers: readonly PeerStatus[];
  /** `stableId` of the peer that all traffic goes out by. */
  readonly exitNode: string | undefined;
  readonly dataPlane?: DataPlaneJson | undefined;
  readonly forwarding?: ForwardingJson | undefined;
  /** The same moment on both clocks: it places the engine's instants on the calendar. */
  readonly now: Instant;
  readonly wallNow: WallTime;
}

export function buildStatus(input: StatusInput): StatusJson {
  const { netMap } = input;
  const exitNode = exitNodeOf(input);
  const suffix = netMap?.magicDnsSuffix ?? "";
  return {
    Version: input.version,
    TUN: input.tun,
    BackendState: input.backendState,
    HaveNodeKey: input.haveNodeKey,
    AuthURL: input.authUrl ?? "",
    TailscaleIPs: netMap === undefined ? null : addressesOf(netMap.self),
    Self: netMap === undefined ? unmappedSelf(input.hostname, input.os) : selfJson(netMap, input),
    ...(exitNode === undefined ? {} : { ExitNodeStatus: exitNode }),
    Health: input.health,
    MagicDNSSuffix: suffix,
    CurrentTailnet: netMap === undefined ? null : tailnetJson(netMap),
    CertDomains: null,
    ExtraRecords: null,
    Peer: netMap === undefined || netMap.peers.length === 0 ? null : peersJson(netMap, input),
    User: netMap === undefined ? null : usersJson(netMap),
    ClientVersion: null,
    ...(input.dataPlane === undefined ? {} : { DataPlane: input.dataPlane }),
    ...(input.forwarding === undefined ? {} : { Forwarding: input.forwarding }),
  };
}

/** As Tailscale's: scripts read fields of it at any time. */
export function unmappedSelf(hostname: string, os: string): PeerJson {
  return {
    ...{ ID: "", NodeID: 0, PublicKey: `nodekey:${"0".repeat(64)}`, HostName: hostname, DNSName: "", OS: os },
    ...{ UserID: 0, TailscaleIPs: null, Addrs: [], CurAddr: "", Relay: "", PeerRelay: "" },
    ...{ RxBytes: 0, TxBytes: 0, Created: NEVER, LastWrite: NEVER, LastSeen: NEVER, LastHandshake: NEVER },
    ...{ Online: false, ExitNode: false, ExitNodeOption: false, Active: false, ...withoutPeerApi },
    ...{ InNetworkMap: false, InMagicSock: false, InEngine: false },
  };
}

function selfJson(netMap: NetMap, input: StatusInput): PeerJson {
  return {
    ...nodeJson(netMap.self),
    Addrs: input.ownEndpoints.map((endpoint) => endpoint.text),
    CurAddr: "",
    Relay: codeOf(netMap, input.homeRegion),
    PeerRelay: "",
    RxBytes: 0,
    TxBytes: 0,
    Created: timeText(netMap.self.created),
    LastWrite: NEVER,
    LastSeen: NEVER,
    LastHandshake: NEVER,
    Online: input.connected,
    ExitNode: false,
    ExitNodeOption: offersExitNode(netMap.self),
    Active: false,
    ...withoutPeerApi,
    InNetworkMap: true,
    InMagicSock: false,
    InEngine: false,
    ...keyLife(netMap.self),
  };
}

function peersJson(netMap: NetMap, input: StatusInput): Readonly<Record<string, PeerJson>> {
  const counters = new Map(input.peers.map((peer) => [peer.node.key.text, peer]));
  const sorted = netMap.peers.toSorted((a, b) => (a.key.text < b.key.text ? -1 : 1));
  return Object.fromEntries(
    sorted.map((node) => [node.key.text, peerJson(netMap, node, counters.get(node.key.text), input)]),
  );
}

function peerJson(
  netMap: NetMap,
  node: MapNode,
  counters: PeerStatus | undefined,
  input: StatusInput,
): PeerJson {
  const onCalendar = (at: Instant | undefined): string =>
    at === undefined ? NEVER : timeText(wallTime(input.wallNow - (input.now - at)));
  return {
    ...nodeJson(node),
    Addrs: null,
    CurAddr: counters?.directAddress?.text ?? "",
    Relay: codeOf(netMap, node.homeRegion),
    PeerRelay: "",
    RxBytes: counters?.rxBytes ?? 0,
    TxBytes: counters?.txBytes ?? 0,
    Created: timeText(node.created),
    LastWrite: onCalendar(counters?.lastWrite),
    LastSeen: timeText(node.lastSeen),
    LastHandshake: onCalendar(counters?.lastHandshake),
    // Where the server does not say, nothing speaks for offline.
    Online: node.online ?? true,
    ExitNode: node.stableId === input.exitNode,
    ExitNodeOption: offersExitNode(node),
    Active: counters?.active ?? false,
    ...withoutPeerApi,
    InNetworkMap: true,
    InMagicSock: counters !== undefined,
    InEngine: counters?.lastHandshake !== undefined,
    ...keyLife(node),
  };
}

/** We offer no peer API, so files can not be sent. */
const withoutPeerApi = { PeerAPIURL: null, TaildropTarget: 0, NoFileSharingReason: "" } as const;

type NodeFields = Pick<
  PeerJson,
  | "ID"
  | "NodeID"
  | "PublicKey"
  | "HostName"
  | "DNSName"
  | "OS"
  | "UserID"
  | "TailscaleIPs"
  | "AllowedIPs"
  | "Tags"
  | "PrimaryRoutes"
  | "Location"
>;

function nodeJson(node: MapNode): NodeFields {
  return {
    ID: node.stableId,
    NodeID: node.id,
    PublicKey: node.key.text,
    HostName: node.hostname,
    DNSName: node.name,
    OS: node.os,
    UserID: node.user,
    TailscaleIPs: addressesOf(node),
    AllowedIPs: node.allowedIps.map((prefix) => prefix.text),
    ...(node.tags.length === 0 ? {} : { Tags: node.tags }),
    ...(node.primaryRoutes.length === 0
      ? {}
      : { PrimaryRoutes: node.primaryRoutes.map((prefix) => prefix.text) }),
    ...(node.location === undefined ? {} : { Location: locationJson(node.location) }),
  };
}

function locationJson(location: NodeLocation): LocationJson {
  return {
    Country: location.country,
    CountryCode: location.countryCode,
    City: location.city,
    CityCode: location.cityCode,
    Priority: location.priority,
  };
}

function keyLife(node: MapNode): Pick<PeerJson, "Expired" | "KeyExpiry"> {
  return {
    ...(node.expired ? { Expired: true } : {}),
    ...(node.keyExpiry === undefined ? {} : { KeyExpiry: timeText(node.keyExpiry) }),
  };
}

function exitNodeOf(input: StatusInput): ExitNodeJson | undefined {
  const node = input.netMap?.peers.find(({ stableId }) => stableId === input.exitNode);
  if (node === undefined) return undefined;
  return {
    ID: node.stableId,
    Online: node.online ?? true,
    TailscaleIPs: node.addresses.map((prefix) => prefix.text),
  };
}

function tailnetJson(netMap: NetMap): TailnetJson {
  return { Name: netMap.domain, MagicDNSSuffix: netMap.magicDnsSuffix, MagicDNSEnabled: false };
}

function usersJson(netMap: NetMap): Readonly<Record<string, UserJson>> {
  return Object.fromEntries(
    [...netMap.users.values()].map((user) => [
      String(user.id),
      { ID: user.id, LoginName: user.loginName, DisplayName: user.displayName },
    ]),
  );
}

function codeOf(netMap: NetMap, region: RegionId | undefined): string {
  return region === undefined ? "" : (netMap.derpMap.regions.get(region)?.code ?? "");
}

function addressesOf(node: MapNode): readonly string[] {
  return node.addresses.map((prefix) => prefix.ip.text);
}

function timeText(at: WallTime | undefined): string {
  return at === undefined ? NEVER : formatRfc3339(at);
}
