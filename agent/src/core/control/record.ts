/**
 * Records: the stream of bytes that follows the handshake, sealed piece by piece.
 *
 *      0      1        3                                  4096 at most
 *     +------+--------+-----------------------------------+
 *     | 0x04 | length | ciphertext ‖ tag                  |
 *     +------+--------+-----------------------------------+
 *
 * The nonce is 4 zero bytes and a 64-bit counter, both it and `length` BIG-endian (plain Noise counts little-endian),
 * from 0 in each direction. A record that does not open ends the connection.
 *
 * A server may begin with an early payload, which HTTP/2 must not see. Its first byte can not begin an HTTP/2 frame.
 *
 *      0                5        9
 *     +----------------+--------+---------------------------+
 *     | FF FF FF 54 53 | length | JSON                      |
 *     +----------------+--------+---------------------------+
 */
import { concat, viewOf } from "../../base/bytes.ts";
import { type Suite, TAG_LENGTH } from "../../crypto/suite.ts";
import { FrameType } from "./noise.ts";

const MAX_FRAME_LENGTH = 4096;
const HEADER_LENGTH = 3;
export const MAX_PLAINTEXT = MAX_FRAME_LENGTH - HEADER_LENGTH - TAG_LENGTH;

const EARLY_MAGIC = [0xff, 0xff, 0xff, 0x54, 0x53];
const EARLY_HEADER_LENGTH = 9;
/** The stock client's limit. */
const MAX_EARLY_LENGTH = 10 * 1024 * 1024;
const NOTHING = new Uint8Array(0);

export class RecordSealer {
  readonly #suite: Suite;
  readonly #key: Uint8Array;
  #counter = 0;

  constructor(suite: Suite, key: Uint8Array) {
    this.#suite = suite;
    this.#key = key;
  }

  /** Seals bytes of any length into as many records as they need; no bytes make one empty record. */
  seal(plaintext: Uint8Array): Uint8Array {
    const records: Uint8Array[] = [];
    let at = 0;
    do {
      records.push(this.#sealOne(plaintext.subarray(at, at + MAX_PLAINTEXT)));
      at += MAX_PLAINTEXT;
    } while (at < plaintext.length);
    return records.length === 1 ? (records[0] ?? NOTHING) : concat(...records);
  }

  #sealOne(plaintext: Uint8Array): Uint8Array {
    const sealed = this.#suite.aeadSeal(this.#key, recordNonce(this.#counter++), plaintext);
    return concat(Uint8Array.of(FrameType.record, sealed.length >> 8, sealed.length & 0xff), sealed);
  }
}

/** Why a stream of records ended. */
export type RecordFailure = "not-a-record" | "too-long" | "not-authentic";

/** Turns the bytes of a connection, however they are cut, back into plaintext. */
export class RecordOpener {
  readonly #suite: Suite;
  readonly #key: Uint8Array;
  readonly #frames = new FrameReader();
  #counter = 0;
  #failure: RecordFailure | undefined;

  constructor(suite: Suite, key: Uint8Array) {
    this.#suite = suite;
    this.#key = key;
  }

  push(bytes: Uint8Array): void {
    this.#frames.push(bytes);
  }

  /** The next plaintext (which may be empty), a failure that ends the connection, or nothing yet. */
  poll(): Uint8Array | RecordFailure | undefined {
    if (this.#failure !== undefined) return this.#failure;
    const frame = this.#frames.poll();
    if (frame === undefined) return undefined;
    const plaintext = frame === "too-long" ? frame : this.#open(frame);
    if (typeof plaintext === "string") this.#failure = plaintext;
    return plaintext;
  }

  #open(frame: Uint8Array): Uint8Array | RecordFailure {
    if (frame[0] !== FrameType.record) return "not-a-record";
    const sealed = frame.subarray(HEADER_LENGTH);
    if (sealed.length < TAG_LENGTH) return "not-authentic";
    return this.#suite.aeadOpen(this.#key, recordNonce(this.#counter++), sealed) ?? "not-authentic";
  }
}

/** Cuts a stream into frames of `type, length, body`: records, and the server's answer to the handshake. */
export class FrameReader {
  #pending: Uint8Array = NOTHING;
  #tooLong = false;

  push(bytes: Uint8Array): void {
    if (this.#tooLong) return;
    this.#pending = this.#pending.length === 0 ? bytes.slice() : concat(this.#pending, bytes);
  }

  /** The next whole frame with its header. */
  poll(): Uint8Array | "too-long" | undefined {
    if (this.#tooLong) return "too-long";
    if (this.#pending.length < HEADER_LENGTH) return undefined;
    const length = HEADER_LENGTH + viewOf(this.#pending).getUint16(1);
    if (length > MAX_FRAME_LENGTH) {
      this.#tooLong = true;
      this.#pending = NOTHING;
      return "too-long";
    }
    if (this.#pending.length < length) return undefined;
    const frame = this.#pending.subarray(0, length);
    this.#pending = this.#pending.subarray(length);
    return frame;
  }

  /** Everything that was pushed and not yet polled. */
  rest(): Uint8Array {
    const rest = this.#pending;
    this.#pending = NOTHING;
    return rest;
  }
}

/** Takes the early payload, if there is one, off the front of the plaintext. */
export class EarlyPayloadReader {
  #pending: Uint8Array = NOTHING;
  #done = false;
  #payload: Uint8Array | undefined;

  /** The JSON bytes of the early payload, once it has come. */
  get payload(): Uint8Array | undefined {
    return this.#payload;
  }

  /** Returns what belongs to HTTP/2 (perhaps nothing yet), or "too-long" which ends the connection. */
  push(plaintext: Uint8Array): Uint8Array | "too-long" {
    if (this.#done) return plaintext;
    this.#pending = concat(this.#pending, plaintext);
    const looksEarly = EARLY_MAGIC.every((byte, i) => i >= this.#pending.length || this.#pending[i] === byte);
    if (!looksEarly) return this.#finish(0);
    if (this.#pending.length < EARLY_HEADER_LENGTH) return NOTHING;
    const length = viewOf(this.#pending).getUint32(5);
    if (length > MAX_EARLY_LENGTH) return "too-long";
    const end = EARLY_HEADER_LENGTH + length;
    if (this.#pending.length < end) return NOTHING;
    this.#payload = this.#pending.slice(EARLY_HEADER_LENGTH, end);
    return this.#finish(end);
  }

  #finish(at: number): Uint8Array {
    this.#done = true;
    const rest = this.#pending.subarray(at);
    this.#pending = NOTHING;
    return rest;
  }
}

function recordNonce(counter: number): Uint8Array {
  const nonce = new Uint8Array(12);
  const view = viewOf(nonce);
  view.setUint32(4, Math.floor(counter / 0x1_0000_0000));
  view.setUint32(8, counter >>> 0);
  return nonce;
}
