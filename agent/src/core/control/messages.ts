/**
 * What the two sides of the coordination protocol say to each other as JSON, apart from the map (`map-response.ts`).
 *
 * Both directions stand here, so that client and server can not drift apart. Interfaces ending in Json are the wire's
 * own form with its field names; the others are read and checked.
 */
import { IpPort, Prefix } from "../../base/address.ts";
import { DiscoPublic, KEY_LENGTH, NodePublic } from "../../base/keys.ts";
import type { WallTime } from "../../base/time.ts";
import { formatRfc3339 } from "../../base/rfc3339.ts";
import {
  asObject,
  booleanAt,
  type JsonObject,
  listAt,
  numberAt,
  parseEach,
  textAt,
  textsAt,
  timeAt,
  tryParse,
} from "./json.ts";

/**
 * The version of tailcfg that we promise to others. At least 106 for headscale 0.28; at most 120, since 121 promises
 * to take part in peer relays.
 */
export const CAPABILITY_VERSION = 113;
/** The oldest client that a server need talk to: from here on lite updates and the map poll are separate. */
export const MIN_CAPABILITY_VERSION = 68;

/** Goes into the upgrade request, and names the protocol upgraded to. */
export const UPGRADE_PROTOCOL = "tailscale-control-protocol";
export const HANDSHAKE_HEADER = "x-tailscale-handshake";
export const KEY_PATH = "/key";
export const UPGRADE_PATH = "/ts2021";
export const REGISTER_PATH = "/machine/register";
export const MAP_PATH = "/machine/map";

const NO_KEY = new Uint8Array(KEY_LENGTH);
const NO_TIME = "0001-01-01T00:00:00Z";
/** What the stock client sends to log out. */
const LOGOUT_EXPIRY = "1970-01-01T00:02:03Z";
/** A host has few addresses; a hundred are a mistake or an attack. */
const MAX_ENDPOINTS = 100;

export interface NetInfo {
  readonly PreferredDERP?: number | undefined;
  readonly WorkingUDP?: boolean | undefined;
  readonly WorkingIPv6?: boolean | undefined;
  readonly MappingVariesByDestIP?: boolean | undefined;
  readonly DERPLatency?: Readonly<Record<string, number>> | undefined;
  readonly [more: string]: unknown;
}

export interface Hostinfo {
  readonly Hostname?: string;
  readonly OS?: string;
  readonly IPNVersion?: string;
  readonly BackendLogID?: string;
  readonly RoutableIPs?: readonly string[];
  readonly RequestTags?: readonly string[];
  readonly NetInfo?: NetInfo;
  readonly [more: string]: unknown;
}

export interface Endpoint {
  readonly endpoint: IpPort;
  /** tailcfg.EndpointType: 0 unknown, 1 local, 2 by STUN, 3 port-mapped, 4 by STUN with the local port. */
  readonly type: number;
}

export interface RegisterRequest {
  readonly version: number;
  readonly nodeKey: NodePublic;
  readonly oldNodeKey: NodePublic | undefined;
  readonly authKey: string | undefined;
  /** In the past: a logout. */
  readonly expiry: WallTime | undefined;
  readonly followup: string;
  readonly ephemeral: boolean;
  readonly hostinfo: Hostinfo;
}

export interface RegisterResponse {
  readonly error: string;
  readonly authUrl: string;
  readonly nodeKeyExpired: boolean;
  readonly machineAuthorized: boolean;
  /** The tailnet is locked: peers refuse nodes whose keys nobody signed. */
  readonly locked: boolean;
}

export interface MapRequest {
  readonly version: number;
  readonly nodeKey: NodePublic;
  readonly discoKey: DiscoPublic | undefined;
  readonly stream: boolean;
  readonly omitPeers: boolean;
  readonly compress: boolean;
  readonly endpoints: readonly Endpoint[];
  readonly hostinfo: Hostinfo | undefined;
}

export type MalformedRequest = "not-an-object" | "no-version" | "bad-node-key" | "bad-disco-key";

export function registerRequestJson(request: RegisterRequest): JsonObject {
  return {
    Version: request.version,
    NodeKey: request.nodeKey.text,
    OldNodeKey: (request.oldNodeKey ?? NodePublic.fromBytes(NO_KEY)).text,
    NLKey: `nlpub:${"00".repeat(KEY_LENGTH)}`,
    ...(request.authKey === undefined ? {} : { Auth: { AuthKey: request.authKey } }),
    Expiry: request.expiry === undefined ? NO_TIME : formatRfc3339(request.expiry),
    Followup: request.followup,
    Hostinfo: request.hostinfo,
    ...(request.ephemeral ? { Ephemeral: true } : {}),
    NodeKeySignature: null,
  };
}

export function logoutRequestJson(request: RegisterRequest): JsonObject {
  return { ...registerRequestJson(request), Expiry: LOGOUT_EXPIRY };
}

export function parseRegisterRequest(json: unknown): RegisterRequest | MalformedRequest {
  const opened = openRequest(json);
  if (typeof opened === "string") return opened;
  const { object, version, nodeKey } = opened;
  const oldNodeKey = tryParse(NodePublic.parse, textAt(object, "OldNodeKey"));
  const authKey = textAt(asObject(object["Auth"]) ?? {}, "AuthKey");
  return {
    version,
    nodeKey,
    oldNodeKey: oldNodeKey?.isZero === true ? undefined : oldNodeKey,
    authKey: authKey === "" ? undefined : authKey,
    expiry: timeAt(object, "Expiry"),
    followup: textAt(object, "Followup"),
    ephemeral: booleanAt(object, "Ephemeral") ?? false,
    hostinfo: asHostinfo(object["Hostinfo"]) ?? {},
  };
}

/** `undefined` when it is not an object. */
export function parseRegisterResponse(json: unknown): RegisterResponse | undefined {
  const object = asObject(json);
  if (object === undefined) return undefined;
  const signature = object["NodeKeySignature"];
  return {
    error: textAt(object, "Error"),
    authUrl: textAt(object, "AuthURL"),
    nodeKeyExpired: booleanAt(object, "NodeKeyExpired") ?? false,
    machineAuthorized: booleanAt(object, "MachineAuthorized") ?? false,
    locked: typeof signature === "string" && signature !== "",
  };
}

export function mapRequestJson(request: MapRequest): JsonObject {
  return {
    Version: request.version,
    ...(request.compress ? { Compress: "zstd" } : {}),
    KeepAlive: true,
    NodeKey: request.nodeKey.text,
    ...(request.discoKey === undefined ? {} : { DiscoKey: request.discoKey.text }),
    ...(request.stream ? { Stream: true } : {}),
    ...(request.omitPeers ? { OmitPeers: true } : {}),
    Hostinfo: request.hostinfo,
    Endpoints: request.endpoints.map(({ endpoint }) => endpoint.text),
    EndpointTypes: request.endpoints.map(({ type }) => type),
  };
}

export function parseMapRequest(json: unknown): MapRequest | MalformedRequest {
  const opened = openRequest(json);
  if (typeof opened === "string") return opened;
  const { object, version, nodeKey } = opened;
  const discoText = textAt(object, "DiscoKey");
  const discoKey = tryParse(DiscoPublic.parse, discoText);
  if (discoText !== "" && discoKey === undefined) return "bad-disco-key";
  return {
    version,
    nodeKey,
    discoKey: discoKey?.isZero === true ? undefined : discoKey,
    stream: booleanAt(object, "Stream") ?? false,
    omitPeers: booleanAt(object, "OmitPeers") ?? false,
    compress: textAt(object, "Compress") === "zstd",
    endpoints: parseEndpoints(object),
    hostinfo: asHostinfo(object["Hostinfo"]),
  };
}

/** The routes that a node offers; what is no prefix is left out. */
export function routableIps(hostinfo: Hostinfo): readonly Prefix[] {
  return parseEach(Prefix.parse, textsAt(hostinfo, "RoutableIPs"));
}

/** The region that a node names as its home; 0 stands for none. */
export function preferredDerp(hostinfo: Hostinfo): number {
  const region = numberAt(asObject(hostinfo["NetInfo"]) ?? {}, "PreferredDERP") ?? 0;
  return Number.isSafeInteger(region) && region > 0 ? region : 0;
}

interface OpenedRequest {
  readonly object: JsonObject;
  readonly version: number;
  readonly nodeKey: NodePublic;
}

/** What every request says: who asks, and what it can do. */
function openRequest(json: unknown): OpenedRequest | MalformedRequest {
  const object = asObject(json);
  if (object === undefined) return "not-an-object";
  const version = numberAt(object, "Version");
  if (version === undefined) return "no-version";
  const nodeKey = tryParse(NodePublic.parse, textAt(object, "NodeKey"));
  if (nodeKey === undefined || nodeKey.isZero) return "bad-node-key";
  return { object, version, nodeKey };
}

function parseEndpoints(object: JsonObject): readonly Endpoint[] {
  const types = listAt(object, "EndpointTypes") ?? [];
  const endpoints: Endpoint[] = [];
  for (const [i, text] of (listAt(object, "Endpoints") ?? []).slice(0, MAX_ENDPOINTS).entries()) {
    const endpoint = typeof text === "string" ? IpPort.tryParse(text) : undefined;
    const type = types[i];
    if (endpoint !== undefined) endpoints.push({ endpoint, type: typeof type === "number" ? type : 0 });
  }
  return endpoints;
}

/** Keeps the fields that we don't know, and drops those whose type would mislead a reader. */
function asHostinfo(json: unknown): Hostinfo | undefined {
  const object = asObject(json);
  if (object === undefined) return undefined;
  const { Hostname, OS, RoutableIPs, RequestTags, NetInfo, ...rest } = object;
  const netInfo = asObject(NetInfo);
  return {
    ...rest,
    ...(typeof Hostname === "string" ? { Hostname } : {}),
    ...(typeof OS === "string" ? { OS } : {}),
    ...(Array.isArray(RoutableIPs) ? { RoutableIPs: textsAt(object, "RoutableIPs") } : {}),
    ...(Array.isArray(RequestTags) ? { RequestTags: textsAt(object, "RequestTags") } : {}),
    ...(netInfo === undefined ? {} : { NetInfo: netInfo }),
  };
}
