/**
 * The Internet checksum (RFC 1071): the complement of the 16-bit ones' complement sum.
 *
 * A sum is carried as a plain number between parts, so a header, a pseudo-header and a payload
 * are added up one after the other and finished once.
 */

/** Adds `bytes` from `start` to `end` as big-endian words to `sum`; an odd last byte counts as a high byte. */
export function addWords(bytes: Uint8Array, start = 0, end = bytes.length, sum = 0): number {
  let total = sum;
  let at = start;
  for (; at + 1 < end; at += 2) total += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  if (at < end) total += (bytes[at] ?? 0) << 8;
  return total;
}

/** The checksum field for a sum (0–65535). */
export function finishChecksum(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded % 0x10000) + Math.floor(folded / 0x10000);
  return ~folded & 0xffff;
}

export function checksum(bytes: Uint8Array): number {
  return finishChecksum(addWords(bytes));
}

/**
 * The sum over the pseudo-header of TCP, UDP and ICMPv6 (RFC 793, RFC 8200 section 8.1).
 * @param addresses source and destination, next to each other as in the IP header (8 or 32 bytes)
 * @param length of the transport header and payload, in bytes
 */
export function pseudoHeaderSum(addresses: Uint8Array, protocol: number, length: number): number {
  return addWords(addresses) + protocol + (length & 0xffff) + Math.floor(length / 0x10000);
}

/** The checksum after one 16-bit word under it changed, without reading the rest (RFC 1624, equation 3). */
export function updateChecksum(field: number, oldWord: number, newWord: number): number {
  return finishChecksum((~field & 0xffff) + (~oldWord & 0xffff) + newWord);
}
