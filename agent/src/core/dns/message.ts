/**
 * Questions to a DNS server and its answers (RFC 1035), as far as finding the addresses of a name needs them.
 *
 *     header    id (2)  flags (2)  questions (2)  answers (2)  authorities (2)  additionals (2)
 *     question  name  type (2)  class (2)
 *     record    name  type (2)  class (2)  ttl (4)  length (2)  data
 *
 * A name is labels of a length byte and that many bytes, ended by a zero; in answers two bytes that begin with
 * 11 in bits point to where the rest of it stands.
 */
import { Ip } from "../../base/address.ts";
import { utf8, viewOf } from "../../base/bytes.ts";

/** Record types (RFC 1035, RFC 3596). */
export const recordType = { a: 1, aaaa: 28 } as const;
export type RecordType = (typeof recordType)[keyof typeof recordType];

export interface DnsAnswer {
  readonly id: number;
  readonly kind: "addresses" | "no-such-name" | "failed";
  /** Of the type that was asked for. */
  readonly addresses: readonly Ip[];
}

const HEADER_LENGTH = 12;
const CLASS_INTERNET = 1;
const RECURSION_DESIRED = 0x0100;
const RESPONSE = 0x8000;
const RCODE_MASK = 0x000f;
const NAME_ERROR = 3;
const LONGEST_LABEL = 63;
const LONGEST_NAME = 253;
const POINTER = 0xc0;

/** undefined where `name` can not be a DNS name. */
export function encodeQuestion(id: number, name: string, type: RecordType): Uint8Array | undefined {
  const labels = name.replace(/\.$/, "").split(".").map(utf8);
  const length = labels.reduce((sum, label) => sum + label.length + 1, 0);
  if (length > LONGEST_NAME + 1 || labels.some((label) => label.length === 0 || label.length > LONGEST_LABEL))
    return undefined;
  const out = new Uint8Array(HEADER_LENGTH + length + 1 + 4);
  const view = viewOf(out);
  view.setUint16(0, id);
  view.setUint16(2, RECURSION_DESIRED);
  view.setUint16(4, 1);
  let at = HEADER_LENGTH;
  for (const label of labels) {
    out[at++] = label.length;
    out.set(label, at);
    at += label.length;
  }
  view.setUint16(at + 1, type);
  view.setUint16(at + 3, CLASS_INTERNET);
  return out;
}

/** "malformed" unless it answers exactly `question`. */
export function parseAnswer(message: Uint8Array, question: Uint8Array): DnsAnswer | "malformed" {
  if (message.length < question.length || question.length < HEADER_LENGTH) return "malformed";
  const view = viewOf(message);
  const flags = view.getUint16(2);
  const asked = viewOf(question);
  if ((flags & RESPONSE) === 0 || view.getUint16(0) !== asked.getUint16(0)) return "malformed";
  if (view.getUint16(4) !== 1 || !sameQuestion(message, question)) return "malformed";
  const rcode = flags & RCODE_MASK;
  const id = view.getUint16(0);
  if (rcode !== 0) return { id, kind: rcode === NAME_ERROR ? "no-such-name" : "failed", addresses: [] };
  const type = asked.getUint16(question.length - 4);
  return { id, kind: "addresses", addresses: addressesIn(message, question.length, view.getUint16(6), type) };
}

/** Servers may answer in another case of letters. */
function sameQuestion(message: Uint8Array, question: Uint8Array): boolean {
  for (let at = HEADER_LENGTH; at < question.length; at++) {
    if (lowerCase(message[at] ?? 0) !== lowerCase(question[at] ?? 0)) return false;
  }
  return true;
}

function lowerCase(byte: number): number {
  return byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte;
}

/** The records of the type, also those behind an alias (CNAME); a message that is cut short gives what it has. */
function addressesIn(message: Uint8Array, from: number, count: number, type: number): readonly Ip[] {
  const view = viewOf(message);
  const found: Ip[] = [];
  const wanted = type === recordType.a ? 4 : 16;
  let at = from;
  for (let i = 0; i < count; i++) {
    const fields = skipName(message, at);
    if (fields === undefined || fields + 10 > message.length) break;
    const length = view.getUint16(fields + 8);
    const data = fields + 10;
    if (data + length > message.length) break;
    const isWanted = view.getUint16(fields) === type && view.getUint16(fields + 2) === CLASS_INTERNET;
    if (isWanted && length === wanted) found.push(Ip.fromBytes(message.subarray(data, data + length)));
    at = data + length;
  }
  return found;
}

/** Where the name that begins at `at` ends. */
function skipName(message: Uint8Array, at: number): number | undefined {
  for (let next = at; next < message.length;) {
    const length = message[next] ?? 0;
    if (length === 0) return next + 1;
    if ((length & POINTER) === POINTER) return next + 2;
    if (length > LONGEST_LABEL) return undefined;
    next += 1 + length;
  }
  return undefined;
}
