/**
 * One message of the map stream, read tolerantly: absent fields mean "unchanged", a peer without an ID or key is left
 * out, and a field of the wrong type counts as absent.
 */
import { IpPort, Prefix } from "../../base/address.ts";
import { DiscoPublic, MachinePublic, NodePublic } from "../../base/keys.ts";
import type { Millis, WallTime } from "../../base/time.ts";
import { type RegionId, regionId } from "../path/path.ts";
import {
  asObject,
  booleanAt,
  idOf,
  type JsonObject,
  listAt,
  numberAt,
  parseEach,
  textAt,
  textsAt,
  timeAt,
  tryParse,
} from "./json.ts";

/** A node of the network map, oneself or a peer. */
export interface MapNode {
  /** Positive; negative stands for one that exceeds 2^53. */
  readonly id: number;
  readonly stableId: string;
  /** Fully qualified, with the final dot. */
  readonly name: string;
  readonly key: NodePublic;
  readonly machine: MachinePublic | undefined;
  readonly discoKey: DiscoPublic | undefined;
  readonly addresses: readonly Prefix[];
  readonly allowedIps: readonly Prefix[];
  readonly endpoints: readonly IpPort[];
  readonly homeRegion: RegionId | undefined;
  readonly user: number;
  readonly hostname: string;
  readonly os: string;
  readonly tags: readonly string[];
  /** `undefined`: the server did not say. */
  readonly online: boolean | undefined;
  readonly lastSeen: WallTime | undefined;
  /** `undefined`: never. */
  readonly keyExpiry: WallTime | undefined;
  /** Nothing may be sent to an expired node. */
  readonly expired: boolean;
  readonly cap: number;
  readonly primaryRoutes: readonly Prefix[];
  readonly created: WallTime | undefined;
  /** Where it stands, if the server says so, as Tailscale's does of exit nodes for rent. */
  readonly location?: NodeLocation;
  /** A peer that speaks WireGuard and nothing else. No server says so. */
  readonly plain?: PlainPeer;
}

export interface NodeLocation {
  /** Names and codes; "" where it does not say. */
  readonly country: string;
  readonly countryCode: string;
  readonly city: string;
  readonly cityCode: string;
  /** Of several in a city the highest is to be used. */
  readonly priority: number;
}

export interface PlainPeer {
  readonly endpoint: IpPort | undefined;
  /** 32 bytes. */
  readonly presharedKey: Uint8Array | undefined;
  readonly persistentKeepalive: Millis | undefined;
}

/**
 * A rule of the packet filter exactly as it came: the types are the wire's promise, and `core/filter` (whose type of
 * the same name is equal) checks them when it compiles.
 */
export interface FilterRuleJson {
  readonly SrcIPs?: readonly string[] | null;
  readonly DstPorts?:
    | readonly {
        readonly IP: string;
        readonly Ports: { readonly First: number; readonly Last: number };
      }[]
    | null;
  readonly IPProto?: readonly number[] | null;
  readonly CapGrant?:
    | readonly {
        readonly Dsts?: readonly string[] | null;
        readonly CapMap?: Readonly<Record<string, readonly unknown[] | null>> | null;
      }[]
    | null;
}

export interface UserProfile {
  readonly id: number;
  readonly loginName: string;
  readonly displayName: string;
}

/** A change of single fields of a peer; `undefined` is unchanged. */
export interface PeerPatch {
  readonly id: number;
  readonly key: NodePublic | undefined;
  readonly discoKey: DiscoPublic | undefined;
  readonly endpoints: readonly IpPort[] | undefined;
  readonly homeRegion: RegionId | undefined;
  readonly cap: number | undefined;
  readonly online: boolean | undefined;
  readonly lastSeen: WallTime | undefined;
  readonly keyExpiry: WallTime | undefined;
}

export interface MapUpdate {
  readonly keepAlive: boolean;
  readonly node: MapNode | undefined;
  readonly peers: readonly MapNode[] | undefined;
  readonly peersChanged: readonly MapNode[];
  readonly peersRemoved: readonly number[];
  readonly patches: readonly PeerPatch[];
  readonly onlineChange: ReadonlyMap<number, boolean>;
  readonly seenChange: ReadonlyMap<number, boolean>;
  /** For `parseDerpMap`. */
  readonly derpMap: JsonObject | undefined;
  /** Named parts; `undefined` deletes one, and under the name "*" all of them first. */
  readonly packetFilters: ReadonlyMap<string, readonly FilterRuleJson[] | undefined>;
  readonly domain: string | undefined;
  readonly users: readonly UserProfile[];
  readonly controlTime: WallTime | undefined;
  /** The tailnet is locked (tailnet lock): this client can not verify signatures. */
  readonly locked: boolean | undefined;
  /** How many nodes were left out for lack of an ID or key. */
  readonly skipped: number;
}

export type MalformedUpdate = "not-an-object" | "bad-node";

export function parseMapResponse(json: unknown): MapUpdate | MalformedUpdate {
  const object = asObject(json);
  if (object === undefined) return "not-an-object";
  const self = asObject(object["Node"]);
  const node = self === undefined ? undefined : parseNode(self);
  if (self !== undefined && node === undefined) return "bad-node";
  const peers = parseNodes(object, "Peers");
  const changed = parseNodes(object, "PeersChanged");
  const patches = (listAt(object, "PeersChangedPatch") ?? []).map(parsePatch);
  return {
    keepAlive: booleanAt(object, "KeepAlive") ?? false,
    node,
    peers: listAt(object, "Peers") === undefined ? undefined : peers.nodes,
    peersChanged: changed.nodes,
    peersRemoved: (listAt(object, "PeersRemoved") ?? []).map(idOf).filter((id) => id !== undefined),
    patches: patches.filter((patch) => patch !== undefined),
    onlineChange: parseFlags(object, "OnlineChange"),
    seenChange: parseFlags(object, "PeerSeenChange"),
    derpMap: asObject(object["DERPMap"]),
    packetFilters: parseFilters(object),
    domain: typeof object["Domain"] === "string" ? object["Domain"] : undefined,
    users: (listAt(object, "UserProfiles") ?? []).map(parseUser).filter((user) => user !== undefined),
    controlTime: timeAt(object, "ControlTime"),
    locked: parseLocked(object["TKAInfo"]),
    skipped: peers.skipped + changed.skipped,
  };
}

function parseNodes(object: JsonObject, key: string): { nodes: readonly MapNode[]; skipped: number } {
  const list = listAt(object, key) ?? [];
  const nodes = list.map((item) => parseNode(asObject(item) ?? {})).filter((node) => node !== undefined);
  return { nodes, skipped: list.length - nodes.length };
}

function parseNode(object: JsonObject): MapNode | undefined {
  const id = idOf(object["ID"]);
  const key = tryParse(NodePublic.parse, textAt(object, "Key"));
  if (id === undefined || id === 0 || key === undefined || key.isZero) return undefined;
  const addresses = prefixesAt(object, "Addresses");
  const hostinfo = asObject(object["Hostinfo"]) ?? {};
  const location = asObject(hostinfo["Location"]);
  return {
    id,
    stableId: textAt(object, "StableID"),
    name: textAt(object, "Name"),
    key,
    machine: knownKey(tryParse(MachinePublic.parse, textAt(object, "Machine"))),
    discoKey: knownKey(tryParse(DiscoPublic.parse, textAt(object, "DiscoKey"))),
    addresses,
    allowedIps: listAt(object, "AllowedIPs") === undefined ? addresses : prefixesAt(object, "AllowedIPs"),
    endpoints: endpointsAt(object, "Endpoints"),
    homeRegion: homeRegionOf(object),
    user: idOf(object["User"]) ?? 0,
    hostname: textAt(hostinfo, "Hostname"),
    os: textAt(hostinfo, "OS"),
    tags: textsAt(object, "Tags"),
    online: booleanAt(object, "Online"),
    lastSeen: timeAt(object, "LastSeen"),
    keyExpiry: timeAt(object, "KeyExpiry"),
    expired: booleanAt(object, "Expired") ?? false,
    cap: numberAt(object, "Cap") ?? 0,
    primaryRoutes: prefixesAt(object, "PrimaryRoutes"),
    created: timeAt(object, "Created"),
    ...(location === undefined ? {} : { location: parseLocation(location) }),
  };
}

function parseLocation(object: JsonObject): NodeLocation {
  return {
    country: textAt(object, "Country"),
    countryCode: textAt(object, "CountryCode"),
    city: textAt(object, "City"),
    cityCode: textAt(object, "CityCode"),
    priority: numberAt(object, "Priority") ?? 0,
  };
}

function parsePatch(json: unknown): PeerPatch | undefined {
  const object = asObject(json) ?? {};
  const id = idOf(object["NodeID"]);
  if (id === undefined) return undefined;
  return {
    id,
    key: knownKey(tryParse(NodePublic.parse, textAt(object, "Key"))),
    discoKey: knownKey(tryParse(DiscoPublic.parse, textAt(object, "DiscoKey"))),
    endpoints: listAt(object, "Endpoints") === undefined ? undefined : endpointsAt(object, "Endpoints"),
    homeRegion: asRegion(numberAt(object, "DERPRegion")),
    cap: numberAt(object, "Cap"),
    online: booleanAt(object, "Online"),
    lastSeen: timeAt(object, "LastSeen"),
    keyExpiry: timeAt(object, "KeyExpiry"),
  };
}

/** HomeDERP wins over the older form "127.3.3.40:<region>". */
function homeRegionOf(object: JsonObject): RegionId | undefined {
  const legacy = /^127\.3\.3\.40:(\d{1,9})$/.exec(textAt(object, "DERP"))?.[1];
  return asRegion(numberAt(object, "HomeDERP")) ?? asRegion(Number(legacy ?? 0));
}

function asRegion(n: number | undefined): RegionId | undefined {
  return n !== undefined && Number.isSafeInteger(n) && n > 0 ? regionId(n) : undefined;
}

function knownKey<K extends { readonly isZero: boolean }>(key: K | undefined): K | undefined {
  return key?.isZero === true ? undefined : key;
}

function prefixesAt(object: JsonObject, key: string): readonly Prefix[] {
  return parseEach(Prefix.parse, textsAt(object, key));
}

function endpointsAt(object: JsonObject, key: string): readonly IpPort[] {
  return textsAt(object, key)
    .map(IpPort.tryParse)
    .filter((endpoint) => endpoint !== undefined);
}

function parseFlags(object: JsonObject, key: string): ReadonlyMap<number, boolean> {
  const flags = new Map<number, boolean>();
  for (const [text, value] of Object.entries(asObject(object[key]) ?? {})) {
    const id = idOf(text);
    if (id !== undefined && typeof value === "boolean") flags.set(id, value);
  }
  return flags;
}

function parseUser(json: unknown): UserProfile | undefined {
  const object = asObject(json) ?? {};
  const id = idOf(object["ID"]);
  if (id === undefined) return undefined;
  return { id, loginName: textAt(object, "LoginName"), displayName: textAt(object, "DisplayName") };
}

/** A whole filter (PacketFilter) is the part named "base". */
function parseFilters(object: JsonObject): ReadonlyMap<string, readonly FilterRuleJson[] | undefined> {
  const parts = new Map<string, readonly FilterRuleJson[] | undefined>();
  const whole = listAt(object, "PacketFilter");
  if (whole !== undefined) parts.set("base", parseRules(whole));
  for (const [name, rules] of Object.entries(asObject(object["PacketFilters"]) ?? {})) {
    if (rules === null) parts.set(name, undefined);
    else if (Array.isArray(rules)) parts.set(name, parseRules(rules));
  }
  return parts;
}

function parseRules(list: readonly unknown[]): readonly FilterRuleJson[] {
  return list.filter((rule) => asObject(rule) !== undefined) as readonly FilterRuleJson[];
}

function parseLocked(json: unknown): boolean | undefined {
  const object = asObject(json);
  if (object === undefined) return undefined;
  return textAt(object, "Head") !== "" && booleanAt(object, "Disabled") !== true;
}
