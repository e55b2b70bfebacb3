/**
 * A request for a certificate (PKCS #10, RFC 2986), as far as an authority needs it that knows the names from elsewhere.
 *
 *     CertificationRequest ::= SEQUENCE { info, signatureAlgorithm, signature BIT STRING }
 *     CertificationRequestInfo ::= SEQUENCE { version INTEGER, subject, subjectPublicKeyInfo, [0] attributes }
 */
import { createPublicKey, type KeyObject, verify } from "node:crypto";

/** The key that it is for; undefined where it isn't signed by that one with SHA-256, or is no request. */
export function readSigningRequest(der: Uint8Array): KeyObject | undefined {
  const [info, , signature] = elements(elements(der)[0]?.content);
  const spki = elements(info?.content)[2];
  if (info === undefined || spki === undefined || signature === undefined) return undefined;
  try {
    const key = createPublicKey({ key: Buffer.from(spki.whole), format: "der", type: "spki" });
    // The first byte of a bit string counts the bits that are not used.
    return verify("sha256", info.whole, key, signature.content.subarray(1)) ? key : undefined;
  } catch {
    return undefined;
  }
}

interface Element {
  readonly whole: Uint8Array;
  readonly content: Uint8Array;
}

/** What stands one after the other; nothing where a length doesn't fit. */
function elements(bytes: Uint8Array = new Uint8Array(0)): readonly Element[] {
  const found: Element[] = [];
  for (let at = 0; at < bytes.length;) {
    const first = bytes[at + 1] ?? 0;
    const more = first < 0x80 ? 0 : first & 0x7f;
    if (more > 3) return [];
    const length =
      more === 0 ? first : bytes.subarray(at + 2, at + 2 + more).reduce((sum, byte) => sum * 256 + byte, 0);
    const [start, end] = [at + 2 + more, at + 2 + more + length];
    if (end > bytes.length) return [];
    found.push({ whole: bytes.subarray(at, end), content: bytes.subarray(start, end) });
    at = end;
  }
  return found;
}
