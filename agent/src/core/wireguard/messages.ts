/**
 * The four messages of WireGuard (the paper, section 5.4). Integers are little-endian.
 *
 *     initiation, 148 bytes                        response, 92 bytes
 *       0  type 1, three zero bytes                  0  type 2, three zero bytes
 *       4  sender      u32                           4  sender      u32
 *       8  ephemeral   32                            8  receiver    u32
 *      40  static      32 + 16 (sealed)             12  ephemeral   32
 *      88  timestamp   12 + 16 (sealed)             44  empty       0 + 16 (sealed)
 *     116  mac1        16                           60  mac1        16
 *     132  mac2        16                           76  mac2        16
 *
 *     cookie reply, 64 bytes                       transport, 32 bytes and more
 *       0  type 3, three zero bytes                  0  type 4, three zero bytes
 *       4  receiver    u32                           4  receiver    u32
 *       8  nonce       24                            8  counter     u64
 *      32  cookie      16 + 16 (sealed)             16  packet      n + 16 (sealed)
 *
 * Both handshake messages end with mac1 ‖ mac2: `cookie.ts` writes and checks them, so the
 * encoders here leave 32 zero bytes. A decoded message lends parts of the bytes it was read from.
 */
import { viewOf } from "../../base/bytes.ts";

const INITIATION_LENGTH = 148;
const RESPONSE_LENGTH = 92;
const COOKIE_REPLY_LENGTH = 64;
const TRANSPORT_HEADER_LENGTH = 16;
/** A transport message around nothing: a keepalive. */
const KEEPALIVE_LENGTH = 32;
export const MAC_LENGTH = 16;

const Type = { initiation: 1, response: 2, cookieReply: 3, transport: 4 } as const;

export interface Initiation {
  readonly kind: "initiation";
  readonly sender: number;
  readonly ephemeral: Uint8Array;
  readonly sealedStatic: Uint8Array;
  readonly sealedTimestamp: Uint8Array;
}

export interface Response {
  readonly kind: "response";
  readonly sender: number;
  readonly receiver: number;
  readonly ephemeral: Uint8Array;
  readonly sealedNothing: Uint8Array;
}

export interface CookieReply {
  readonly kind: "cookie-reply";
  readonly receiver: number;
  readonly nonce: Uint8Array;
  readonly sealedCookie: Uint8Array;
}

export interface Transport {
  readonly kind: "transport";
  readonly receiver: number;
  readonly counter: bigint;
  readonly sealed: Uint8Array;
}

export type WireGuardMessage = Initiation | Response | CookieReply | Transport;

/** Why bytes are no WireGuard message. */
export type Malformed = "unknown-type" | "bad-length";

export function decodeMessage(bytes: Uint8Array): WireGuardMessage | Malformed {
  if (bytes.length < 4) return "bad-length";
  const view = viewOf(bytes);
  switch (view.getUint32(0, true)) {
    case Type.initiation:
      return bytes.length === INITIATION_LENGTH ? decodeInitiation(bytes, view) : "bad-length";
    case Type.response:
      return bytes.length === RESPONSE_LENGTH ? decodeResponse(bytes, view) : "bad-length";
    case Type.cookieReply:
      return bytes.length === COOKIE_REPLY_LENGTH ? decodeCookieReply(bytes, view) : "bad-length";
    case Type.transport:
      return bytes.length >= KEEPALIVE_LENGTH ? decodeTransport(bytes, view) : "bad-length";
    default:
      return "unknown-type";
  }
}

export function encodeInitiation(message: Omit<Initiation, "kind">): Uint8Array {
  const out = new Uint8Array(INITIATION_LENGTH);
  const view = viewOf(out);
  view.setUint32(0, Type.initiation, true);
  view.setUint32(4, message.sender, true);
  out.set(message.ephemeral, 8);
  out.set(message.sealedStatic, 40);
  out.set(message.sealedTimestamp, 88);
  return out;
}

export function encodeResponse(message: Omit<Response, "kind">): Uint8Array {
  const out = new Uint8Array(RESPONSE_LENGTH);
  const view = viewOf(out);
  view.setUint32(0, Type.response, true);
  view.setUint32(4, message.sender, true);
  view.setUint32(8, message.receiver, true);
  out.set(message.ephemeral, 12);
  out.set(message.sealedNothing, 44);
  return out;
}

export function encodeCookieReply(message: Omit<CookieReply, "kind">): Uint8Array {
  const out = new Uint8Array(COOKIE_REPLY_LENGTH);
  const view = viewOf(out);
  view.setUint32(0, Type.cookieReply, true);
  view.setUint32(4, message.receiver, true);
  out.set(message.nonce, 8);
  out.set(message.sealedCookie, 32);
  return out;
}

export function encodeTransport(message: Omit<Transport, "kind">): Uint8Array {
  const out = new Uint8Array(TRANSPORT_HEADER_LENGTH + message.sealed.length);
  const view = viewOf(out);
  view.setUint32(0, Type.transport, true);
  view.setUint32(4, message.receiver, true);
  view.setBigUint64(8, message.counter, true);
  out.set(message.sealed, TRANSPORT_HEADER_LENGTH);
  return out;
}

function decodeInitiation(bytes: Uint8Array, view: DataView): Initiation {
  return {
    kind: "initiation",
    sender: view.getUint32(4, true),
    ephemeral: bytes.subarray(8, 40),
    sealedStatic: bytes.subarray(40, 88),
    sealedTimestamp: bytes.subarray(88, 116),
  };
}

function decodeResponse(bytes: Uint8Array, view: DataView): Response {
  return {
    kind: "response",
    sender: view.getUint32(4, true),
    receiver: view.getUint32(8, true),
    ephemeral: bytes.subarray(12, 44),
    sealedNothing: bytes.subarray(44, 60),
  };
}

function decodeCookieReply(bytes: Uint8Array, view: DataView): CookieReply {
  return {
    kind: "cookie-reply",
    receiver: view.getUint32(4, true),
    nonce: bytes.subarray(8, 32),
    sealedCookie: bytes.subarray(32, 64),
  };
}

function decodeTransport(bytes: Uint8Array, view: DataView): Transport {
  return {
    kind: "transport",
    receiver: view.getUint32(4, true),
    counter: view.getBigUint64(8, true),
    sealed: bytes.subarray(TRANSPORT_HEADER_LENGTH),
  };
}
