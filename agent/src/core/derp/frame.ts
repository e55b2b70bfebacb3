/**
 * DERP frames: what a relay and its clients say to each other over one TCP or TLS stream.
 *
 *      0        1                                    5
 *     +--------+------------------------------------+----------- - -
 *     | type   | length of the body (u32, big end.) | body
 *     +--------+------------------------------------+----------- - -
 *
 *     01 server key      "DERP🔑" (8) | server key (32)
 *     02 client info     client key (32) | nonce (24) | box
 *     03 server info     nonce (24) | box
 *     04 send packet     destination (32) | packet
 *     05 recv packet     source (32) | packet
 *     06 keep alive
 *     07 note preferred  1 = this relay is my home, 0 = it is not
 *     08 peer gone       peer (32) | reason (1, may be missing)
 *     09 peer present    peer (32) | IP (16) | port (2) | flags (1)      later parts may be missing
 *     0a forward packet  source (32) | destination (32) | packet
 *     10 watch conns
 *     11 close peer      peer (32)
 *     12 ping, 13 pong   8 bytes, echoed
 *     14 health          text, empty when all is well
 *     15 restarting      reconnect in (u32, ms) | try for (u32, ms)
 *
 * Boxes are opened in `login.ts`, the stream is cut into frames in `frame-reader.ts`. A type
 * that is not known is skipped, and so are bytes after the fields that are.
 */
import { Ip, IpPort } from "../../base/address.ts";
import { fromUtf8, utf8, viewOf } from "../../base/bytes.ts";
import { KEY_LENGTH, NodePublic } from "../../base/keys.ts";
import { type Millis, millis } from "../../base/time.ts";
import { BOX_NONCE_LENGTH, BOX_OVERHEAD } from "../../crypto/box.ts";

export const FrameType = {
  serverKey: 0x01,
  clientInfo: 0x02,
  serverInfo: 0x03,
  sendPacket: 0x04,
  recvPacket: 0x05,
  keepAlive: 0x06,
  notePreferred: 0x07,
  peerGone: 0x08,
  peerPresent: 0x09,
  forwardPacket: 0x0a,
  watchConns: 0x10,
  closePeer: 0x11,
  ping: 0x12,
  pong: 0x13,
  health: 0x14,
  restarting: 0x15,
} as const;

export const HEADER_LENGTH = 5;
/** The largest packet a relay carries. */
export const MAX_PACKET_LENGTH = 65_536;
/** The largest frame a client takes. */
export const MAX_FRAME_LENGTH = 1 << 20;
/** The largest client info a server takes. */
export const MAX_CLIENT_INFO_LENGTH = 256 * 1024;
export const PING_LENGTH = 8;

/** Why a peer is gone: it disconnected, or this relay does not know it. Other values are from the future. */
export const GoneReason = { disconnected: 0x00, notHere: 0x01 } as const;

export type Frame =
  | { readonly kind: "server-key"; readonly serverKey: NodePublic }
  | {
      readonly kind: "client-info";
      readonly client: NodePublic;
      readonly nonce: Uint8Array;
      readonly box: Uint8Array;
    }
  | { readonly kind: "server-info"; readonly nonce: Uint8Array; readonly box: Uint8Array }
  | { readonly kind: "send-packet"; readonly to: NodePublic; readonly packet: Uint8Array }
  | { readonly kind: "recv-packet"; readonly from: NodePublic; readonly packet: Uint8Array }
  | { readonly kind: "keep-alive" }
  | { readonly kind: "note-preferred"; readonly preferred: boolean }
  | { readonly kind: "peer-gone"; readonly peer: NodePublic; readonly reason: number }
  | {
      readonly kind: "peer-present";
      readonly peer: NodePublic;
      readonly address: IpPort | undefined;
      readonly flags: number;
    }
  | {
      readonly kind: "forward-packet";
      readonly from: NodePublic;
      readonly to: NodePublic;
      readonly packet: Uint8Array;
    }
  | { readonly kind: "watch-conns" }
  | { readonly kind: "close-peer"; readonly peer: NodePublic }
  | { readonly kind: "ping"; readonly data: Uint8Array }
  | { readonly kind: "pong"; readonly data: Uint8Array }
  | { readonly kind: "health"; readonly problem: string }
  | { readonly kind: "restarting"; readonly reconnectIn: Millis; readonly tryFor: Millis };

/** Why a frame was not understood. A peer can cause each of these, so none of them is an exception. */
export type MalformedFrame = "unknown-type" | "short" | "bad-magic" | "bad-length" | "too-large";

export function encodeFrame(frame: Frame): Uint8Array {
  switch (frame.kind) {
    case "server-key":
      return build(FrameType.serverKey, SERVER_KEY_MAGIC, frame.serverKey);
    case "client-info":
      return build(FrameType.clientInfo, frame.client, frame.nonce, frame.box);
    case "server-info":
      return build(FrameType.serverInfo, frame.nonce, frame.box);
    case "send-packet":
      return build(FrameType.sendPacket, frame.to, frame.packet);
    case "recv-packet":
      return build(FrameType.recvPacket, frame.from, frame.packet);
    case "keep-alive":
      return build(FrameType.keepAlive);
    case "note-preferred":
      return build(FrameType.notePreferred, Uint8Array.of(frame.preferred ? 1 : 0));
    case "peer-gone":
      return build(FrameType.peerGone, frame.peer, Uint8Array.of(frame.reason));
    case "peer-present":
      return build(FrameType.peerPresent, frame.peer, ...presentFields(frame.address, frame.flags));
    case "forward-packet":
      return build(FrameType.forwardPacket, frame.from, frame.to, frame.packet);
    case "watch-conns":
      return build(FrameType.watchConns);
    case "close-peer":
      return build(FrameType.closePeer, frame.peer);
    case "ping":
      return build(FrameType.ping, frame.data);
    case "pong":
      return build(FrameType.pong, frame.data);
    case "health":
      return build(FrameType.health, utf8(frame.problem));
    case "restarting":
      return build(FrameType.restarting, u32(frame.reconnectIn), u32(frame.tryFor));
  }
}

/** Reads one frame. The packets and boxes in it are views of `body`. */
export function decodeFrame(type: number, body: Uint8Array): Frame | MalformedFrame {
  switch (type) {
    case FrameType.serverKey:
      if (body.length < SERVER_KEY_LENGTH) return "short";
      if (!SERVER_KEY_MAGIC.every((byte, i) => body[i] === byte)) return "bad-magic";
      return { kind: "server-key", serverKey: keyAt(body, SERVER_KEY_MAGIC.length) };
    case FrameType.clientInfo:
      return decodeClientInfo(body);
    case FrameType.serverInfo:
      if (body.length < BOX_NONCE_LENGTH + BOX_OVERHEAD) return "short";
      return {
        kind: "server-info",
        nonce: body.subarray(0, BOX_NONCE_LENGTH),
        box: body.subarray(BOX_NONCE_LENGTH),
      };
    case FrameType.sendPacket:
    case FrameType.recvPacket:
    case FrameType.forwardPacket:
      return decodePacket(type, body);
    case FrameType.keepAlive:
      return { kind: "keep-alive" };
    case FrameType.notePreferred:
      return body.length === 1 ? { kind: "note-preferred", preferred: body[0] !== 0 } : "bad-length";
    case FrameType.peerGone:
      if (body.length < KEY_LENGTH) return "short";
      return {
        kind: "peer-gone",
        peer: keyAt(body, 0),
        reason: body[KEY_LENGTH] ?? GoneReason.disconnected,
      };
    case FrameType.peerPresent:
      return decodePresent(body);
    case FrameType.watchConns:
      return { kind: "watch-conns" };
    case FrameType.closePeer:
      return body.length < KEY_LENGTH ? "short" : { kind: "close-peer", peer: keyAt(body, 0) };
    case FrameType.ping:
      return decodeEcho("ping", body);
    case FrameType.pong:
      return decodeEcho("pong", body);
    case FrameType.health:
      return { kind: "health", problem: fromUtf8(body) };
    case FrameType.restarting:
      if (body.length < 8) return "short";
      return {
        kind: "restarting",
        reconnectIn: millis(viewOf(body).getUint32(0)),
        tryFor: millis(viewOf(body).getUint32(4)),
      };
    default:
      return "unknown-type";
  }
}

export function isKnownType(type: number): boolean {
  return KNOWN_TYPES.has(type);
}

/** The sealed packets that a relay itself may look at: enough to tell path discovery from data. */
export function looksLikeDisco(packet: Uint8Array): boolean {
  return packet.length >= DISCO_MIN_LENGTH && DISCO_MAGIC.every((byte, i) => packet[i] === byte);
}

const KNOWN_TYPES: ReadonlySet<number> = new Set(Object.values(FrameType));
/** "DERP" and U+1F511, the key. */
const SERVER_KEY_MAGIC = Uint8Array.of(0x44, 0x45, 0x52, 0x50, 0xf0, 0x9f, 0x94, 0x91);
const SERVER_KEY_LENGTH = SERVER_KEY_MAGIC.length + KEY_LENGTH;
/** A ping may carry this much; 8 bytes of it are echoed. */
const MAX_PING_LENGTH = 1000;
/** "TS" and U+1F4AC, the speech balloon: the first bytes of every disco packet. */
const DISCO_MAGIC = Uint8Array.of(0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac);
const DISCO_MIN_LENGTH = DISCO_MAGIC.length + KEY_LENGTH + BOX_NONCE_LENGTH;

function build(type: number, ...parts: readonly (Uint8Array | NodePublic)[]): Uint8Array {
  let length = 0;
  for (const part of parts) length += part instanceof NodePublic ? KEY_LENGTH : part.length;
  const out = new Uint8Array(HEADER_LENGTH + length);
  out[0] = type;
  viewOf(out).setUint32(1, length);
  let offset = HEADER_LENGTH;
  for (const part of parts) {
    if (part instanceof NodePublic) {
      offset = part.writeTo(out, offset);
    } else {
      out.set(part, offset);
      offset += part.length;
    }
  }
  return out;
}

function keyAt(body: Uint8Array, offset: number): NodePublic {
  return NodePublic.fromBytes(body.subarray(offset, offset + KEY_LENGTH));
}

function decodeClientInfo(body: Uint8Array): Frame | MalformedFrame {
  if (body.length > MAX_CLIENT_INFO_LENGTH) return "too-large";
  const boxAt = KEY_LENGTH + BOX_NONCE_LENGTH;
  if (body.length < boxAt + BOX_OVERHEAD) return "short";
  return {
    kind: "client-info",
    client: keyAt(body, 0),
    nonce: body.subarray(KEY_LENGTH, boxAt),
    box: body.subarray(boxAt),
  };
}

function decodePacket(
  type: typeof FrameType.sendPacket | typeof FrameType.recvPacket | typeof FrameType.forwardPacket,
  body: Uint8Array,
): Frame | MalformedFrame {
  const packetAt = type === FrameType.forwardPacket ? 2 * KEY_LENGTH : KEY_LENGTH;
  if (body.length < packetAt) return "short";
  if (body.length > packetAt + MAX_PACKET_LENGTH) return "too-large";
  const packet = body.subarray(packetAt);
  switch (type) {
    case FrameType.sendPacket:
      return { kind: "send-packet", to: keyAt(body, 0), packet };
    case FrameType.recvPacket:
      return { kind: "recv-packet", from: keyAt(body, 0), packet };
    case FrameType.forwardPacket:
      return { kind: "forward-packet", from: keyAt(body, 0), to: keyAt(body, KEY_LENGTH), packet };
  }
}

function presentFields(address: IpPort | undefined, flags: number): Uint8Array[] {
  if (address === undefined) return [];
  return [address.ip.mapped, Uint8Array.of(address.port >> 8, address.port & 0xff, flags)];
}

function decodePresent(body: Uint8Array): Frame | MalformedFrame {
  if (body.length < KEY_LENGTH) return "short";
  const [ipAt, portAt, flagsAt] = [KEY_LENGTH, KEY_LENGTH + 16, KEY_LENGTH + 18];
  const address =
    body.length < flagsAt
      ? undefined
      : new IpPort(Ip.fromBytes(body.subarray(ipAt, portAt)), viewOf(body).getUint16(portAt));
  return { kind: "peer-present", peer: keyAt(body, 0), address, flags: body[flagsAt] ?? 0 };
}

function decodeEcho(kind: "ping" | "pong", body: Uint8Array): Frame | MalformedFrame {
  if (body.length < PING_LENGTH) return "short";
  if (body.length > MAX_PING_LENGTH) return "too-large";
  return { kind, data: body.slice(0, PING_LENGTH) };
}

function u32(value: number): Uint8Array {
  const out = new Uint8Array(4);
  viewOf(out).setUint32(0, value);
  return out;
}
