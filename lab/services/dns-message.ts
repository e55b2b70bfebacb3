/**
 * DNS messages (RFC 1035 section 4), as far as a server needs them that knows all its names.
 *
 *     header    id (2)  flags (2)  counts of questions, answers, authorities, additionals (2 each)
 *     question  name: (length (1) label)… 0   type (2)  class (2)
 *     answer    a pointer to the question's name (2)  type (2)  class (2)  TTL (4)  length (2)  data
 */
import type { Ip } from "../../agent/src/base/address.ts";
import { concat, fromUtf8, viewOf } from "../../agent/src/base/bytes.ts";

export interface Question {
  readonly id: number;
  readonly recursionDesired: boolean;
  /** In lower case, without the last dot. */
  readonly name: string;
  readonly type: number;
  /** As it stands in the message: it is sent back. */
  readonly bytes: Uint8Array;
}

export const TYPE_A = 1;
export const TYPE_AAAA = 28;
export const NO_ERROR = 0;
const FORMAT_ERROR = 1;
export const NAME_ERROR = 3;
const NOT_IMPLEMENTED = 4;

const HEADER_LENGTH = 12;
const CLASS_IN = 1;
const FLAG_RESPONSE = 0x8000;
const FLAG_AUTHORITATIVE = 0x0400;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const OPCODE_MASK = 0x7800;
const POINTER_TO_QUESTION = 0xc000 | HEADER_LENGTH;

/** The id for an answer that says why not; undefined where there is nobody to answer. */
export type Malformed = { readonly id: number; readonly malformed: number } | undefined;

export function decodeQuestion(message: Uint8Array): Question | Malformed {
  if (message.length < HEADER_LENGTH) return undefined;
  const view = viewOf(message);
  const [id, flags, questions] = [view.getUint16(0), view.getUint16(2), view.getUint16(4)];
  if ((flags & FLAG_RESPONSE) !== 0) return undefined;
  if ((flags & OPCODE_MASK) !== 0) return { id, malformed: NOT_IMPLEMENTED };
  const labels: string[] = [];
  let at = HEADER_LENGTH;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63 || labels.length > 127) return { id, malformed: FORMAT_ERROR };
    if (length === 0) break;
    labels.push(fromUtf8(message.subarray(at + 1, at + 1 + length)));
    at += 1 + length;
  }
  const end = at + 5;
  if (questions !== 1 || end > message.length || view.getUint16(at + 3) !== CLASS_IN) {
    return { id, malformed: FORMAT_ERROR };
  }
  return {
    id,
    recursionDesired: (flags & FLAG_RECURSION_DESIRED) !== 0,
    name: labels.join(".").toLowerCase(),
    type: view.getUint16(at + 1),
    bytes: message.slice(HEADER_LENGTH, end),
  };
}

/** @param addresses of the family that was asked for */
export function encodeAnswer(
  question: Question,
  code: number,
  addresses: readonly Ip[],
  ttl: number,
): Uint8Array {
  const flags =
    FLAG_RESPONSE |
    FLAG_AUTHORITATIVE |
    FLAG_RECURSION_AVAILABLE |
    (question.recursionDesired ? FLAG_RECURSION_DESIRED : 0) |
    code;
  const records = addresses.map((ip) => {
    const fixed = new Uint8Array(12);
    const view = viewOf(fixed);
    view.setUint16(0, POINTER_TO_QUESTION);
    view.setUint16(2, ip.isV4 ? TYPE_A : TYPE_AAAA);
    view.setUint16(4, CLASS_IN);
    view.setUint32(6, ttl);
    view.setUint16(10, ip.bytes.length);
    return concat(fixed, ip.bytes);
  });
  return concat(header(question.id, flags, 1, records.length), question.bytes, ...records);
}

export function encodeRefusal(id: number, code: number): Uint8Array {
  return header(id, FLAG_RESPONSE | code, 0, 0);
}

function header(id: number, flags: number, questions: number, answers: number): Uint8Array {
  const out = new Uint8Array(HEADER_LENGTH);
  const view = viewOf(out);
  view.setUint16(0, id);
  view.setUint16(2, flags);
  view.setUint16(4, questions);
  view.setUint16(6, answers);
  return out;
}
