/**
 * Disco messages: what two nodes say to each other to find a direct path. This is the content of the
 * sealed box, which `seal.ts` adds and opens. All numbers are big-endian.
 *
 *     0      1      2                                  (bytes)
 *     +------+------+----------------------------------------------------------------+
 *     | type | ver  | body                                                           |
 *     +------+------+----------------------------------------------------------------+
 *     01 ping                transaction id 12 | node key 32 (not from old clients) | padding
 *     02 pong                transaction id 12 | address that the ping came from 18
 *     03 call me maybe       address 18 × n
 *     04 bind relay endpoint VNI 4 | generation 4 | other client's disco key 32 | challenge 32
 *     05 … challenge         the same, from the relay
 *     06 … answer            the same, the challenge echoed
 *     07 call me maybe via   relay endpoint
 *     08 allocate request    two clients' disco keys 2 × 32, in order | generation 4
 *     09 allocate response   generation 4 | relay endpoint
 *
 *     relay endpoint: relay's disco key 32 | clients' disco keys 2 × 32 | Lamport id 8 | VNI 4
 *                     | time to bind, ns 8 | time without traffic, ns 8 | address 18 × n, n ≥ 1
 *     address:        IP 16, IPv4 as ::ffff:a.b.c.d | port 2
 *
 * A reader takes the bytes it knows and skips the rest, so that a newer peer can add fields at the end.
 */
import { Ip, IpPort } from "../../base/address.ts";
import { concat, viewOf } from "../../base/bytes.ts";
import { DiscoPublic, KEY_LENGTH, NodePublic } from "../../base/keys.ts";

const TX_ID_LENGTH = 12;
const CHALLENGE_LENGTH = 32;

export interface Ping {
  readonly kind: "ping";
  readonly txId: Uint8Array;
  /** The sender's; very old clients don't say it. */
  readonly nodeKey: NodePublic | undefined;
  /** Zero bytes after the rest, which make the packet as large as the MTU that is tried. */
  readonly padding: number;
}

export interface Pong {
  readonly kind: "pong";
  readonly txId: Uint8Array;
  /** Where the ping came from, as its receiver saw it; 127.3.3.40:region for one that came by relay. */
  readonly source: IpPort;
}

/** "Ping me at these": sent by relay, when the own pings alone may not get through. */
export interface CallMeMaybe {
  readonly kind: "call-me-maybe";
  readonly endpoints: readonly IpPort[];
}

export interface BindRelay {
  readonly kind: "bind-relay-endpoint" | "bind-relay-challenge" | "bind-relay-answer";
  readonly vni: number;
  readonly generation: number;
  readonly remoteKey: DiscoPublic;
  readonly challenge: Uint8Array;
}

/** A place on a peer relay that is reserved for two clients. */
export interface RelayEndpoint {
  readonly serverDisco: DiscoPublic;
  readonly clientDisco: readonly [DiscoPublic, DiscoPublic];
  readonly lamportId: bigint;
  readonly vni: number;
  readonly bindLifetimeNs: bigint;
  readonly steadyStateLifetimeNs: bigint;
  readonly endpoints: readonly IpPort[];
}

export interface CallMeMaybeVia {
  readonly kind: "call-me-maybe-via";
  readonly endpoint: RelayEndpoint;
}

export interface AllocateRelayRequest {
  readonly kind: "allocate-relay-request";
  readonly clientDisco: readonly [DiscoPublic, DiscoPublic];
  readonly generation: number;
}

export interface AllocateRelayResponse {
  readonly kind: "allocate-relay-response";
  readonly generation: number;
  readonly endpoint: RelayEndpoint;
}

export type DiscoMessage =
  Ping | Pong | CallMeMaybe | BindRelay | CallMeMaybeVia | AllocateRelayRequest | AllocateRelayResponse;

/** Why a message was dropped. A peer can cause each of these. */
export type Malformed = "short" | "unknown-type" | "unknown-version";

const Type = {
  ping: 0x01,
  pong: 0x02,
  "call-me-maybe": 0x03,
  "bind-relay-endpoint": 0x04,
  "bind-relay-challenge": 0x05,
  "bind-relay-answer": 0x06,
  "call-me-maybe-via": 0x07,
  "allocate-relay-request": 0x08,
  "allocate-relay-response": 0x09,
} as const;
const VERSION = 0;
const HEADER_LENGTH = 2;
const ADDRESS_LENGTH = 18;
const BIND_LENGTH = 8 + KEY_LENGTH + CHALLENGE_LENGTH;
const ALLOCATE_LENGTH = 2 * KEY_LENGTH + 4;
const ENDPOINT_LENGTH_BEFORE_ADDRESSES = 3 * KEY_LENGTH + 8 + 4 + 8 + 8;

export function encodeDisco(message: DiscoMessage): Uint8Array {
  return concat(Uint8Array.of(Type[message.kind], VERSION), ...encodeBody(message));
}

export function decodeDisco(bytes: Uint8Array): DiscoMessage | Malformed {
  const [type, version] = bytes;
  if (type === undefined || version === undefined) return "short";
  const body = bytes.subarray(HEADER_LENGTH);
  switch (type) {
    case Type.ping:
      return decodePing(body);
    case Type.pong:
      return decodePong(body);
    case Type["call-me-maybe"]:
      return { kind: "call-me-maybe", endpoints: version === VERSION ? (decodeAddresses(body) ?? []) : [] };
    case Type["bind-relay-endpoint"]:
      return decodeBind("bind-relay-endpoint", body);
    case Type["bind-relay-challenge"]:
      return decodeBind("bind-relay-challenge", body);
    case Type["bind-relay-answer"]:
      return decodeBind("bind-relay-answer", body);
    case Type["call-me-maybe-via"]:
      return version === VERSION ? decodeVia(body) : "unknown-version";
    case Type["allocate-relay-request"]:
      return version === VERSION ? decodeAllocateRequest(body) : "unknown-version";
    case Type["allocate-relay-response"]:
      return version === VERSION ? decodeAllocateResponse(body) : "unknown-version";
    default:
      return "unknown-type";
  }
}

function encodeBody(message: DiscoMessage): readonly Uint8Array[] {
  switch (message.kind) {
    case "ping":
      return [message.txId, message.nodeKey?.bytes ?? new Uint8Array(0), new Uint8Array(message.padding)];
    case "pong":
      return [message.txId, encodeAddress(message.source)];
    case "call-me-maybe":
      return message.endpoints.map(encodeAddress);
    case "bind-relay-endpoint":
    case "bind-relay-challenge":
    case "bind-relay-answer":
      return [u32(message.vni), u32(message.generation), message.remoteKey.bytes, message.challenge];
    case "call-me-maybe-via":
      return encodeRelayEndpoint(message.endpoint);
    case "allocate-relay-request":
      return [...message.clientDisco.map((key) => key.bytes), u32(message.generation)];
    case "allocate-relay-response":
      return [u32(message.generation), ...encodeRelayEndpoint(message.endpoint)];
  }
}

function decodePing(body: Uint8Array): Ping | Malformed {
  if (body.length < TX_ID_LENGTH) return "short";
  const keyEnd = TX_ID_LENGTH + KEY_LENGTH;
  const hasKey = body.length >= keyEnd;
  return {
    kind: "ping",
    txId: body.slice(0, TX_ID_LENGTH),
    nodeKey: hasKey ? NodePublic.fromBytes(body.subarray(TX_ID_LENGTH, keyEnd)) : undefined,
    padding: body.length - (hasKey ? keyEnd : TX_ID_LENGTH),
  };
}

function decodePong(body: Uint8Array): Pong | Malformed {
  if (body.length < TX_ID_LENGTH + ADDRESS_LENGTH) return "short";
  return { kind: "pong", txId: body.slice(0, TX_ID_LENGTH), source: decodeAddress(body, TX_ID_LENGTH) };
}

function decodeBind(kind: BindRelay["kind"], body: Uint8Array): BindRelay | Malformed {
  if (body.length < BIND_LENGTH) return "short";
  const view = viewOf(body);
  return {
    kind,
    vni: view.getUint32(0),
    generation: view.getUint32(4),
    remoteKey: decodeKey(body, 8),
    challenge: body.slice(8 + KEY_LENGTH, BIND_LENGTH),
  };
}

function decodeVia(body: Uint8Array): CallMeMaybeVia | Malformed {
  const endpoint = decodeRelayEndpoint(body);
  return endpoint === undefined ? "short" : { kind: "call-me-maybe-via", endpoint };
}

function decodeAllocateRequest(body: Uint8Array): AllocateRelayRequest | Malformed {
  if (body.length < ALLOCATE_LENGTH) return "short";
  return {
    kind: "allocate-relay-request",
    clientDisco: [decodeKey(body, 0), decodeKey(body, KEY_LENGTH)],
    generation: viewOf(body).getUint32(2 * KEY_LENGTH),
  };
}

function decodeAllocateResponse(body: Uint8Array): AllocateRelayResponse | Malformed {
  const endpoint = decodeRelayEndpoint(body.subarray(4));
  if (endpoint === undefined) return "short";
  return { kind: "allocate-relay-response", generation: viewOf(body).getUint32(0), endpoint };
}

function encodeRelayEndpoint(endpoint: RelayEndpoint): readonly Uint8Array[] {
  return [
    endpoint.serverDisco.bytes,
    ...endpoint.clientDisco.map((key) => key.bytes),
    u64(endpoint.lamportId),
    u32(endpoint.vni),
    u64(endpoint.bindLifetimeNs),
    u64(endpoint.steadyStateLifetimeNs),
    ...endpoint.endpoints.map(encodeAddress),
  ];
}

function decodeRelayEndpoint(body: Uint8Array): RelayEndpoint | undefined {
  if (body.length < ENDPOINT_LENGTH_BEFORE_ADDRESSES) return undefined;
  const endpoints = decodeAddresses(body.subarray(ENDPOINT_LENGTH_BEFORE_ADDRESSES));
  if (endpoints === undefined || endpoints.length === 0) return undefined;
  const view = viewOf(body);
  return {
    serverDisco: decodeKey(body, 0),
    clientDisco: [decodeKey(body, KEY_LENGTH), decodeKey(body, 2 * KEY_LENGTH)],
    lamportId: view.getBigUint64(3 * KEY_LENGTH),
    vni: view.getUint32(3 * KEY_LENGTH + 8),
    bindLifetimeNs: view.getBigUint64(3 * KEY_LENGTH + 12),
    steadyStateLifetimeNs: view.getBigUint64(3 * KEY_LENGTH + 20),
    endpoints,
  };
}

function encodeAddress(address: IpPort): Uint8Array {
  return concat(address.ip.mapped, Uint8Array.of(address.port >> 8, address.port & 0xff));
}

function decodeAddress(bytes: Uint8Array, offset: number): IpPort {
  return new IpPort(Ip.fromBytes(bytes.subarray(offset, offset + 16)), viewOf(bytes).getUint16(offset + 16));
}

/** `undefined` when the bytes are no whole number of addresses. */
function decodeAddresses(bytes: Uint8Array): readonly IpPort[] | undefined {
  if (bytes.length % ADDRESS_LENGTH !== 0) return undefined;
  return Array.from({ length: bytes.length / ADDRESS_LENGTH }, (_, i) =>
    decodeAddress(bytes, i * ADDRESS_LENGTH),
  );
}

function decodeKey(bytes: Uint8Array, offset: number): DiscoPublic {
  return DiscoPublic.fromBytes(bytes.subarray(offset, offset + KEY_LENGTH));
}

function u32(value: number): Uint8Array {
  const out = new Uint8Array(4);
  viewOf(out).setUint32(0, value);
  return out;
}

function u64(value: bigint): Uint8Array {
  const out = new Uint8Array(8);
  viewOf(out).setBigUint64(0, value);
  return out;
}
