/**
 * STUN (RFC 8489), of which only Binding is used: "from which address do you see me?"
 *
 *      0         2         4                   8                                   20
 *     +---------+---------+-------------------+-----------------------------------+--------------
 *     | type    | length  | 21 12 A4 42       | transaction id (12)               | attributes …
 *     +---------+---------+-------------------+-----------------------------------+--------------
 *     attribute: type 2 | length 2 | value, padded to 4
 *
 *     request  (00 01): SOFTWARE "tailnode", FINGERPRINT, which a stock relay server insists on
 *     response (01 01): XOR-MAPPED-ADDRESS: 0 | family 1 | port ⊕ cookie 2 | address ⊕ (cookie ‖ id) 4 or 16
 */
import { Ip, IpPort } from "../../base/address.ts";
import { concat, fromUtf8, utf8, viewOf } from "../../base/bytes.ts";
import { looksLikeStun, STUN_COOKIE, STUN_HEADER_LENGTH } from "../path/classify.ts";
import { crc32 } from "./crc32.ts";

export const STUN_TX_ID_LENGTH = 12;

const Type = { request: 0x0001, success: 0x0101 } as const;
const Attribute = {
  mappedAddress: 0x0001,
  xorMappedAddress: 0x0020,
  /** The number before RFC 5389 settled on 0x0020; some servers still use it. */
  xorMappedAddressOld: 0x8020,
  software: 0x8022,
  fingerprint: 0x8028,
} as const;
const Family = { v4: 1, v6: 2 } as const;
const SOFTWARE = "tailnode";
/** "STUN": RFC 8489 section 14.7. */
const FINGERPRINT_XOR = 0x5354_554e;
const FINGERPRINT_LENGTH = 8;

export interface BindingRequest {
  readonly txId: Uint8Array;
  readonly software: string | undefined;
  /** A FINGERPRINT is there, and right: a wrong one makes the request malformed. */
  readonly fingerprinted: boolean;
}

export interface BindingResponse {
  readonly txId: Uint8Array;
  /** Where the server saw the request come from. */
  readonly address: IpPort;
}

/** Why a packet was dropped. Anyone can cause each of these. */
export type MalformedStun = "not-stun" | "other-type" | "bad-attributes" | "bad-fingerprint" | "no-address";

export function encodeBindingRequest(txId: Uint8Array): Uint8Array {
  const software = utf8(SOFTWARE);
  const attributes = encodeAttribute(Attribute.software, software);
  const signed = concat(encodeHeader(Type.request, attributes.length + FINGERPRINT_LENGTH, txId), attributes);
  return concat(signed, encodeAttribute(Attribute.fingerprint, fingerprint(signed)));
}

/** Takes any client's request, with and without SOFTWARE and FINGERPRINT. */
export function decodeBindingRequest(packet: Uint8Array): BindingRequest | MalformedStun {
  const message = decodeMessage(packet, Type.request);
  if (typeof message === "string") return message;
  let [software, fingerprinted]: [string | undefined, boolean] = [undefined, false];
  for (const { type, value, at } of message.attributes) {
    if (type === Attribute.software) software ??= fromUtf8(value);
    if (type !== Attribute.fingerprint) continue;
    if (value.length !== 4 || viewOf(value).getUint32(0) !== fingerprintOf(packet.subarray(0, at))) {
      return "bad-fingerprint";
    }
    fingerprinted = true;
  }
  return { txId: message.txId, software, fingerprinted };
}

export function encodeBindingResponse(txId: Uint8Array, address: IpPort): Uint8Array {
  const { ip, port } = address;
  const value = new Uint8Array(4 + ip.bytes.length);
  const view = viewOf(value);
  view.setUint16(0, ip.isV4 ? Family.v4 : Family.v6);
  view.setUint16(2, port ^ (STUN_COOKIE >>> 16));
  value.set(xorAddress(ip.bytes, txId), 4);
  const attribute = encodeAttribute(Attribute.xorMappedAddress, value);
  return concat(encodeHeader(Type.success, attribute.length, txId), attribute);
}

export function decodeBindingResponse(packet: Uint8Array): BindingResponse | MalformedStun {
  const message = decodeMessage(packet, Type.success);
  if (typeof message === "string") return message;
  const { txId } = message;
  let [xored, plain]: (IpPort | undefined)[] = [];
  for (const { type, value } of message.attributes) {
    if (type === Attribute.xorMappedAddress || type === Attribute.xorMappedAddressOld) {
      xored ??= decodeAddress(value, txId);
    } else if (type === Attribute.mappedAddress) {
      plain ??= decodeAddress(value, undefined);
    }
  }
  const address = xored ?? plain;
  return address === undefined ? "no-address" : { txId, address };
}

/** What a STUN server answers to a datagram; `undefined` is silence. */
export function answerBindingRequest(packet: Uint8Array, from: IpPort): Uint8Array | undefined {
  const request = decodeBindingRequest(packet);
  return typeof request === "string" ? undefined : encodeBindingResponse(request.txId, from);
}

interface AttributeAt {
  readonly type: number;
  readonly value: Uint8Array;
  /** Offset of the attribute in the packet. */
  readonly at: number;
}

interface Message {
  readonly txId: Uint8Array;
  readonly attributes: readonly AttributeAt[];
}

function decodeMessage(packet: Uint8Array, type: number): Message | MalformedStun {
  if (!looksLikeStun(packet)) return "not-stun";
  const view = viewOf(packet);
  if (view.getUint16(0) !== type) return "other-type";
  const end = STUN_HEADER_LENGTH + view.getUint16(2);
  if (end > packet.length) return "bad-attributes";
  const attributes: AttributeAt[] = [];
  for (let at = STUN_HEADER_LENGTH; at < end;) {
    if (at + 4 > end) return "bad-attributes";
    const length = view.getUint16(at + 2);
    const valueEnd = at + 4 + length;
    if (valueEnd > end) return "bad-attributes";
    attributes.push({ type: view.getUint16(at), value: packet.subarray(at + 4, valueEnd), at });
    at = valueEnd + (-length & 3);
  }
  return { txId: packet.slice(8, STUN_HEADER_LENGTH), attributes };
}

function encodeHeader(type: number, length: number, txId: Uint8Array): Uint8Array {
  const out = new Uint8Array(STUN_HEADER_LENGTH);
  const view = viewOf(out);
  view.setUint16(0, type);
  view.setUint16(2, length);
  view.setUint32(4, STUN_COOKIE);
  out.set(txId, 8);
  return out;
}

/** `value` is a multiple of 4 long: so are all that we send. */
function encodeAttribute(type: number, value: Uint8Array): Uint8Array {
  const out = new Uint8Array(4 + value.length);
  viewOf(out).setUint16(0, type);
  viewOf(out).setUint16(2, value.length);
  out.set(value, 4);
  return out;
}

/** Reads an address, XORed where `txId` is given; `undefined` for an unknown family or length. */
function decodeAddress(value: Uint8Array, txId: Uint8Array | undefined): IpPort | undefined {
  if (value.length < 4) return undefined;
  const expected = { [Family.v4]: 8, [Family.v6]: 20 }[value[1] ?? 0];
  if (expected === undefined || value.length < expected) return undefined;
  const port = viewOf(value).getUint16(2);
  const bytes = value.subarray(4, expected);
  if (txId === undefined) return new IpPort(Ip.fromBytes(bytes), port);
  return new IpPort(Ip.fromBytes(xorAddress(bytes, txId)), port ^ (STUN_COOKIE >>> 16));
}

function xorAddress(address: Uint8Array, txId: Uint8Array): Uint8Array {
  const mask = encodeHeader(0, 0, txId).subarray(4);
  return address.map((byte, i) => byte ^ (mask[i] ?? 0));
}

function fingerprint(signed: Uint8Array): Uint8Array {
  const out = new Uint8Array(4);
  viewOf(out).setUint32(0, fingerprintOf(signed));
  return out;
}

function fingerprintOf(signed: Uint8Array): number {
  return (crc32(signed) ^ FINGERPRINT_XOR) >>> 0;
}
