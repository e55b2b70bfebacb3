/**
 * The two boxes of a login: what a client and a relay tell each other about themselves.
 *
 *     client info box:  {"version":2,"CanAckPings":true}    client key ↔ server key
 *     server info box:  {"version":2}                       and the limits the client must keep to
 *
 * Both are crypto_box with a random nonce in front. Fields that are not known are ignored.
 */
import { fromUtf8, utf8 } from "../../base/bytes.ts";
import { type NodePrivate, NodePublic } from "../../base/keys.ts";
import { type Random, randomBytes } from "../../base/random.ts";
import { BOX_NONCE_LENGTH, BoxKey } from "../../crypto/box.ts";
import type { Suite } from "../../crypto/suite.ts";
import { encodeFrame } from "./frame.ts";

export const PROTOCOL_VERSION = 2;

export interface ClientInfo {
  readonly version: number;
  readonly canAckPings: boolean;
  /** 64 hex digits; shared by the servers of one region. */
  readonly meshKey: string | undefined;
  readonly isProber: boolean;
  readonly appName: string | undefined;
}

export interface ServerInfo {
  readonly version: number;
  /** 0 is no limit. */
  readonly bytesPerSecond: number;
  readonly burstBytes: number;
}

export type MalformedLogin = "bad-key" | "not-ours" | "bad-json";

export const plainClientInfo: ClientInfo = {
  version: PROTOCOL_VERSION,
  canAckPings: true,
  meshKey: undefined,
  isProber: false,
  appName: undefined,
};

/** A relay's name on the wire: the public half of its key. */
export function publicOf(suite: Suite, key: NodePrivate): NodePublic {
  return NodePublic.fromBytes(key.expose((secret) => suite.x25519Public(secret)));
}

/** The secret of both boxes. `undefined` for a public key that is none. */
export function loginKey(suite: Suite, own: NodePrivate, other: NodePublic): BoxKey | undefined {
  return own.expose((secret) => BoxKey.agree(suite, secret, other.bytes));
}

export function encodeClientInfo(
  key: BoxKey,
  client: NodePublic,
  info: ClientInfo,
  random: Random,
): Uint8Array {
  const nonce = randomBytes(random, BOX_NONCE_LENGTH);
  const json = {
    ...(info.meshKey === undefined ? {} : { meshKey: info.meshKey }),
    version: info.version,
    CanAckPings: info.canAckPings,
    ...(info.isProber ? { IsProber: true } : {}),
    ...(info.appName === undefined ? {} : { AppName: info.appName }),
  };
  return encodeFrame({
    kind: "client-info",
    client,
    nonce,
    box: key.seal(nonce, utf8(JSON.stringify(json))),
  });
}

export function encodeServerInfo(key: BoxKey, info: ServerInfo, random: Random): Uint8Array {
  const nonce = randomBytes(random, BOX_NONCE_LENGTH);
  const json = {
    version: info.version,
    ...(info.bytesPerSecond > 0 ? { TokenBucketBytesPerSecond: info.bytesPerSecond } : {}),
    ...(info.burstBytes > 0 ? { TokenBucketBytesBurst: info.burstBytes } : {}),
  };
  return encodeFrame({ kind: "server-info", nonce, box: key.seal(nonce, utf8(JSON.stringify(json))) });
}

export function openClientInfo(
  key: BoxKey | undefined,
  nonce: Uint8Array,
  box: Uint8Array,
): ClientInfo | MalformedLogin {
  const json = openJson(key, nonce, box);
  if (typeof json === "string") return json;
  return {
    version: numberOr(json["version"], 0),
    canAckPings: json["CanAckPings"] === true,
    meshKey: textOrUndefined(json["meshKey"]),
    isProber: json["IsProber"] === true,
    appName: textOrUndefined(json["AppName"]),
  };
}

export function openServerInfo(
  key: BoxKey | undefined,
  nonce: Uint8Array,
  box: Uint8Array,
): ServerInfo | MalformedLogin {
  const json = openJson(key, nonce, box);
  if (typeof json === "string") return json;
  return {
    version: numberOr(json["version"], 0),
    bytesPerSecond: numberOr(json["TokenBucketBytesPerSecond"], 0),
    burstBytes: numberOr(json["TokenBucketBytesBurst"], 0),
  };
}

function openJson(
  key: BoxKey | undefined,
  nonce: Uint8Array,
  box: Uint8Array,
): Readonly<Record<string, unknown>> | MalformedLogin {
  if (key === undefined) return "bad-key";
  const plain = key.open(nonce, box);
  if (plain === undefined) return "not-ours";
  try {
    const json: unknown = JSON.parse(fromUtf8(plain));
    return typeof json === "object" && json !== null ? (json as Record<string, unknown>) : "bad-json";
  } catch {
    return "bad-json";
  }
}

function numberOr(value: unknown, fallback: number): number {
  return typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : fallback;
}

function textOrUndefined(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
