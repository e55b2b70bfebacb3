/**
 * The box around a disco message, which shows who sent it and that only the receiver can read it.
 *
 *      0        6                       38              62         78
 *     +--------+-----------------------+---------------+----------+------------+
 *     | magic  | sender's disco key    | nonce, random | tag      | ciphertext |
 *     +--------+-----------------------+---------------+----------+------------+
 *
 * Whoever has no shared key for the sender drops the packet: `discoSender` is the cheap look that tells.
 */
import { concat } from "../../base/bytes.ts";
import { DiscoPublic, KEY_LENGTH } from "../../base/keys.ts";
import { BOX_NONCE_LENGTH, BOX_OVERHEAD, type BoxKey } from "../../crypto/box.ts";
import { DISCO_MAGIC, looksLikeDisco } from "../path/classify.ts";

const NONCE_AT = DISCO_MAGIC.length + KEY_LENGTH;
const BOX_AT = NONCE_AT + BOX_NONCE_LENGTH;

/** What sealing adds to a message, in bytes. */
export const DISCO_OVERHEAD = BOX_AT + BOX_OVERHEAD;

/** Why a packet was not opened. Anyone can cause each of these. */
export type NotOpened = "short" | "not-disco" | "not-sealed-for-us";

/** The disco key that the packet says it is from, which is not proven before it opens. */
export function discoSender(packet: Uint8Array): DiscoPublic | undefined {
  if (packet.length < DISCO_OVERHEAD || !looksLikeDisco(packet)) return undefined;
  return DiscoPublic.fromBytes(packet.subarray(DISCO_MAGIC.length, NONCE_AT));
}

/** `nonce` is 24 random bytes, new for every packet. */
export function sealDisco(box: BoxKey, own: DiscoPublic, nonce: Uint8Array, payload: Uint8Array): Uint8Array {
  return concat(DISCO_MAGIC, own.bytes, nonce, box.seal(nonce, payload));
}

/** Returns the message's bytes. `box` is the key shared with `discoSender(packet)`. */
export function openDisco(box: BoxKey, packet: Uint8Array): Uint8Array | NotOpened {
  if (packet.length < DISCO_OVERHEAD) return "short";
  if (!looksLikeDisco(packet)) return "not-disco";
  return box.open(packet.subarray(NONCE_AT, BOX_AT), packet.subarray(BOX_AT)) ?? "not-sealed-for-us";
}
