/**
 * What a coordination server remembers, and its form as JSON.
 *
 * Auth keys are kept as hashes: who reads the state can not join with it. A state that can not be read is refused as a
 * whole, since a server that forgets half its nodes would give their addresses to others.
 */
import { Ip, IpPort, Prefix } from "../base/address.ts";
import { ParseError } from "../base/errors.ts";
import { DiscoPublic, MachinePublic, NodePublic } from "../base/keys.ts";
import { type WallTime, wallTime } from "../base/time.ts";
import { asObject, type JsonObject, listAt, parseJson, textAt, textsAt } from "../core/control/json.ts";
import type { Endpoint, Hostinfo } from "../core/control/messages.ts";

export interface CoordinationNode {
  readonly id: number;
  readonly created: WallTime;
  readonly ipv4: Ip;
  readonly ipv6: Ip;
  machine: MachinePublic;
  key: NodePublic;
  discoKey: DiscoPublic | undefined;
  /** The first label of its name. */
  label: string;
  user: number;
  tags: readonly string[];
  ephemeral: boolean;
  hostinfo: Hostinfo;
  endpoints: readonly Endpoint[];
  /** The capability version it last named. */
  cap: number;
  lastSeen: WallTime;
  /** `undefined`: never. */
  keyExpiry: WallTime | undefined;
  /** Routes that an administrator approved; they count while the node offers them. */
  approvedRoutes: readonly Prefix[];
}

export interface AuthKeyRecord {
  readonly id: string;
  /** SHA-256 of the key's text, in hex. */
  readonly hash: string;
  readonly reusable: boolean;
  readonly ephemeral: boolean;
  readonly tags: readonly string[];
  readonly user: number;
  readonly created: WallTime;
  /** `undefined`: never. */
  readonly expiry: WallTime | undefined;
  used: boolean;
}

export interface UserRecord {
  readonly id: number;
  readonly loginName: string;
}

export interface CoordinationState {
  readonly nextId: number;
  /** The address given out last. */
  readonly lastAddress: Ip | undefined;
  readonly users: readonly UserRecord[];
  readonly authKeys: readonly AuthKeyRecord[];
  readonly nodes: readonly CoordinationNode[];
  /** Set by an administrator while the server ran; it wins over the configured one. */
  readonly derpMap: JsonObject | undefined;
  readonly packetFilter: readonly JsonObject[] | undefined;
}

const VERSION = 1;

export function formatState(state: CoordinationState): string {
  return JSON.stringify({
    version: VERSION,
    ...state,
    nodes: state.nodes.map((node) => ({
      ...node,
      endpoints: node.endpoints.map(({ endpoint, type }) => ({ endpoint: endpoint.text, type })),
    })),
  });
}

/** @throws ParseError naming the first thing that does not fit */
export function parseState(text: string): CoordinationState {
  const object = asObject(parseJson(text));
  if (object === undefined) throw corrupt("it is not a JSON object");
  if (object["version"] !== VERSION) {
    throw corrupt(`its version is ${String(object["version"])}, this program reads ${VERSION}`);
  }
  const derpMap = asObject(object["derpMap"]);
  const filter = listAt(object, "packetFilter");
  const state: CoordinationState = {
    nextId: integer(object, "nextId"),
    lastAddress: optional(object, "lastAddress", Ip.parse),
    users: list(object, "users").map(parseUser),
    authKeys: list(object, "authKeys").map(parseAuthKey),
    nodes: list(object, "nodes").map(parseNode),
    derpMap,
    packetFilter: filter?.map((rule) => asObject(rule) ?? {}),
  };
  checkUnique(state);
  return state;
}

function parseUser(object: JsonObject): UserRecord {
  return { id: integer(object, "id"), loginName: text(object, "loginName") };
}

function parseAuthKey(object: JsonObject): AuthKeyRecord {
  return {
    id: text(object, "id"),
    hash: text(object, "hash"),
    reusable: flag(object, "reusable"),
    ephemeral: flag(object, "ephemeral"),
    tags: textsAt(object, "tags"),
    user: integer(object, "user"),
    created: time(object, "created"),
    expiry: object["expiry"] === undefined ? undefined : time(object, "expiry"),
    used: flag(object, "used"),
  };
}

function parseNode(object: JsonObject): CoordinationNode {
  return {
    id: integer(object, "id"),
    created: time(object, "created"),
    ipv4: field(object, "ipv4", Ip.parse),
    ipv6: field(object, "ipv6", Ip.parse),
    machine: field(object, "machine", MachinePublic.parse),
    key: field(object, "key", NodePublic.parse),
    discoKey: optional(object, "discoKey", DiscoPublic.parse),
    label: text(object, "label"),
    user: integer(object, "user"),
    tags: textsAt(object, "tags"),
    ephemeral: flag(object, "ephemeral"),
    hostinfo: (asObject(object["hostinfo"]) ?? {}) as Hostinfo,
    endpoints: list(object, "endpoints").map((item) => ({
      endpoint: field(item, "endpoint", IpPort.parse),
      type: integer(item, "type"),
    })),
    cap: integer(object, "cap"),
    lastSeen: time(object, "lastSeen"),
    keyExpiry: object["keyExpiry"] === undefined ? undefined : time(object, "keyExpiry"),
    approvedRoutes: textsAt(object, "approvedRoutes").map((route) =>
      read("approvedRoutes", Prefix.parse, route),
    ),
  };
}

/** Two nodes with one key, address or name would be given each other's traffic. */
function checkUnique(state: CoordinationState): void {
  const names: readonly (readonly [string, (node: CoordinationNode) => string])[] = [
    ["id", (node) => String(node.id)],
    ["key", (node) => node.key.text],
    ["address", (node) => node.ipv4.text],
    ["label", (node) => node.label],
  ];
  for (const [what, of] of names) {
    if (new Set(state.nodes.map(of)).size < state.nodes.length) throw corrupt(`two nodes have one ${what}`);
  }
  if (state.nodes.some((node) => node.id >= state.nextId)) throw corrupt("nextId is too small");
}

function list(object: JsonObject, key: string): readonly JsonObject[] {
  const items = listAt(object, key)?.map(asObject);
  const objects = items?.filter((item) => item !== undefined);
  if (objects === undefined || objects.length !== items?.length)
    throw corrupt(`"${key}" is no list of objects`);
  return objects;
}

function integer(object: JsonObject, key: string): number {
  const value = object[key];
  if (!Number.isSafeInteger(value)) throw corrupt(`"${key}" is no whole number`);
  return Number(value);
}

function time(object: JsonObject, key: string): WallTime {
  const value = object[key];
  if (typeof value !== "number" || !Number.isFinite(value)) throw corrupt(`"${key}" is no time`);
  return wallTime(value);
}

function flag(object: JsonObject, key: string): boolean {
  const value = object[key];
  if (typeof value !== "boolean") throw corrupt(`"${key}" is neither true nor false`);
  return value;
}

function text(object: JsonObject, key: string): string {
  const value = textAt(object, key);
  if (value === "") throw corrupt(`"${key}" is missing`);
  return value;
}

function field<T>(object: JsonObject, key: string, parse: (text: string) => T): T {
  return read(key, parse, text(object, key));
}

function optional<T>(object: JsonObject, key: string, parse: (text: string) => T): T | undefined {
  return object[key] === undefined ? undefined : field(object, key, parse);
}

function read<T>(key: string, parse: (text: string) => T, value: string): T {
  try {
    return parse(value);
  } catch (error) {
    if (error instanceof ParseError) throw corrupt(`"${key}": ${error.message}`);
    throw error;
  }
}

function corrupt(reason: string): ParseError {
  return new ParseError("coordination-state", `the coordination server's state can not be read: ${reason}`);
}
