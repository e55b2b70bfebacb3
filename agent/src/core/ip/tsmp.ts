/**
 * TSMP: short messages between nodes inside the tunnel, in IP packets of protocol 99.
 *
 *   ping       'p'  data:64
 *   pong       'o'  data:64  port of the peer API:16 (0 = none)
 *   reject     '!'  IP protocol:8  reason:8  source port:16  destination port:16  [flags:8, 1 = maybe broken]
 *   disco key  'a'  key:256
 *
 * A ping is to be answered; the others may be ignored. The packet filter lets them all in.
 */
import { viewOf } from "../../base/bytes.ts";
import { DiscoPublic, KEY_LENGTH } from "../../base/keys.ts";
import { buildPacket } from "./build.ts";
import type { Packet } from "./packet.ts";
import { destinationIp, payloadOf, protocol, sourceIp } from "./packet.ts";

export type TsmpMessage = TsmpPing | TsmpPong | TsmpReject | TsmpDiscoKey;

export interface TsmpPing {
  readonly kind: "ping";
  /** 8 bytes. */
  readonly data: Uint8Array;
}

export interface TsmpPong {
  readonly kind: "pong";
  /** The 8 bytes of the ping. */
  readonly data: Uint8Array;
  readonly peerApiPort: number;
}

/** Sent to the side that opened a flow which the filter dropped. */
export interface TsmpReject {
  readonly kind: "reject";
  readonly protocol: number;
  readonly reason: RejectReason;
  /** Of the refused flow, as its opener sees it. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** The receiver suspects that its own side is at fault. */
  readonly maybeBroken: boolean;
}

export interface TsmpDiscoKey {
  readonly kind: "disco-key";
  readonly key: DiscoPublic;
}

export type RejectReason = "acl" | "shields-up" | "no-ip-forwarding" | "host-firewall" | "app-connector";

export type MalformedTsmp = "empty" | "unknown-type" | "too-short" | "unknown-reason";

/** The message without its IP header. */
export function encodeTsmp(message: TsmpMessage): Uint8Array {
  switch (message.kind) {
    case "ping":
      return withType(type.ping, message.data);
    case "pong": {
      const out = withType(type.pong, message.data, 2);
      viewOf(out).setUint16(1 + DATA_LENGTH, message.peerApiPort);
      return out;
    }
    case "reject":
      return encodeReject(message);
    case "disco-key":
      return withType(type.discoKey, message.key.bytes);
  }
}

export function decodeTsmp(bytes: Uint8Array): TsmpMessage | MalformedTsmp {
  switch (bytes[0]) {
    case undefined:
      return "empty";
    case type.ping:
      return bytes.length < 1 + DATA_LENGTH ? "too-short" : { kind: "ping", data: dataOf(bytes) };
    case type.pong:
      if (bytes.length < 3 + DATA_LENGTH) return "too-short";
      return { kind: "pong", data: dataOf(bytes), peerApiPort: viewOf(bytes).getUint16(1 + DATA_LENGTH) };
    case type.reject:
      return decodeReject(bytes);
    case type.discoKey:
      if (bytes.length < 1 + KEY_LENGTH) return "too-short";
      return { kind: "disco-key", key: DiscoPublic.fromBytes(bytes.subarray(1, 1 + KEY_LENGTH)) };
    default:
      return "unknown-type";
  }
}

/** The pong to send back for a packet that is a TSMP ping; undefined for any other packet. */
export function answerTsmpPing(packet: Packet): Uint8Array | undefined {
  if (packet.protocol !== protocol.tsmp || packet.fragment !== "whole") return undefined;
  const message = decodeTsmp(payloadOf(packet));
  if (typeof message === "string" || message.kind !== "ping") return undefined;
  const pong = encodeTsmp({ kind: "pong", data: message.data, peerApiPort: 0 });
  return buildPacket(destinationIp(packet), sourceIp(packet), protocol.tsmp, pong);
}

const DATA_LENGTH = 8;
const REJECT_LENGTH = 7;
const MAYBE_BROKEN = 1;

/** ASCII "p", "o", "!", "a". */
const type = { ping: 0x70, pong: 0x6f, reject: 0x21, discoKey: 0x61 } as const;

/** ASCII "A", "S", "F", "W", "T". */
const REASONS: readonly (readonly [number, RejectReason])[] = [
  [0x41, "acl"],
  [0x53, "shields-up"],
  [0x46, "no-ip-forwarding"],
  [0x57, "host-firewall"],
  [0x54, "app-connector"],
];

function encodeReject(message: TsmpReject): Uint8Array {
  const out = new Uint8Array(REJECT_LENGTH + (message.maybeBroken ? 1 : 0));
  const view = viewOf(out);
  out[0] = type.reject;
  out[1] = message.protocol;
  out[2] = REASONS.find(([, reason]) => reason === message.reason)?.[0] ?? 0;
  view.setUint16(3, message.sourcePort);
  view.setUint16(5, message.destinationPort);
  if (message.maybeBroken) out[REJECT_LENGTH] = MAYBE_BROKEN;
  return out;
}

function decodeReject(bytes: Uint8Array): TsmpReject | MalformedTsmp {
  if (bytes.length < REJECT_LENGTH) return "too-short";
  const reason = REASONS.find(([code]) => code === bytes[2])?.[1];
  if (reason === undefined) return "unknown-reason";
  const view = viewOf(bytes);
  return {
    kind: "reject",
    protocol: bytes[1] ?? 0,
    reason,
    sourcePort: view.getUint16(3),
    destinationPort: view.getUint16(5),
    maybeBroken: ((bytes[REJECT_LENGTH] ?? 0) & MAYBE_BROKEN) !== 0,
  };
}

function withType(first: number, body: Uint8Array, room = 0): Uint8Array {
  const out = new Uint8Array(1 + body.length + room);
  out[0] = first;
  out.set(body, 1);
  return out;
}

function dataOf(bytes: Uint8Array): Uint8Array {
  return bytes.slice(1, 1 + DATA_LENGTH);
}
