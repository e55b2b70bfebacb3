/**
 * X.509 certificates in DER (RFC 5280), as far as a self-signed one or a small authority needs them.
 *
 *     Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature BIT STRING }
 *     TBSCertificate ::= SEQUENCE {
 *         [0] version 2 (that is v3), serialNumber, signature algorithm,
 *         issuer, validity { notBefore, notAfter }, subject, subjectPublicKeyInfo,
 *         [3] extensions }
 *
 * Node can read certificates and sign, but not make certificates; and the name of a relay's meta
 * certificate is longer than X.509 allows, so that openssl refuses to make it.
 */
import { concat, fromHex, utf8 } from "../base/bytes.ts";
import type { Ip } from "../base/address.ts";
import type { WallTime } from "../base/time.ts";

export interface CertificateFields {
  readonly commonName: string;
  /** @default commonName: the certificate is signed by its own key */
  readonly issuer?: string;
  /** Big-endian, without a sign. */
  readonly serial: Uint8Array;
  readonly notBefore: WallTime;
  readonly notAfter: WallTime;
  /** SubjectPublicKeyInfo. */
  readonly publicKey: Uint8Array;
  readonly algorithm: SignatureAlgorithm;
  readonly extensions: readonly Uint8Array[];
}

export type SignatureAlgorithm = "ed25519" | "ecdsa-p256-sha256";

/** @returns the certificate in DER. `sign` signs the bytes of the TBSCertificate */
export function encodeCertificate(
  fields: CertificateFields,
  sign: (tbs: Uint8Array) => Uint8Array,
): Uint8Array {
  const algorithm = sequence(oid(ALGORITHM_OID[fields.algorithm]));
  const tbs = sequence(
    der(Tag.version, integer(Uint8Array.of(2))),
    integer(fields.serial),
    algorithm,
    name(fields.issuer ?? fields.commonName),
    sequence(time(fields.notBefore), time(fields.notAfter)),
    name(fields.commonName),
    fields.publicKey,
    der(Tag.extensions, sequence(...fields.extensions)),
  );
  return sequence(tbs, algorithm, bitString(sign(tbs)));
}

/** Says that the key signs no other certificates. */
export function basicConstraints(): Uint8Array {
  return extension(Oid.basicConstraints, true, sequence());
}

/** What makes it a certificate that signs others: their chain ends here. */
export function certificateAuthority(): readonly Uint8Array[] {
  const isAuthority = der(Tag.boolean, Uint8Array.of(0xff));
  // keyCertSign, the sixth bit.
  const usage = der(Tag.bitString, Uint8Array.of(2, 0x04));
  return [extension(Oid.basicConstraints, true, sequence(isAuthority)), extension(Oid.keyUsage, true, usage)];
}

/** The key signs handshakes: all that TLS 1.3 asks of it. */
export function keyUsageSignature(): Uint8Array {
  return extension(Oid.keyUsage, true, der(Tag.bitString, Uint8Array.of(7, 0x80)));
}

export function extendedKeyUsageServer(): Uint8Array {
  return extension(Oid.extendedKeyUsage, false, sequence(oid(Oid.serverAuth)));
}

export function subjectAlternativeNames(hostNames: readonly string[], addresses: readonly Ip[]): Uint8Array {
  return extension(
    Oid.subjectAlternativeName,
    false,
    sequence(
      ...hostNames.map((name) => der(Tag.dnsName, utf8(name))),
      ...addresses.map((ip) => der(Tag.ipAddress, ip.bytes)),
    ),
  );
}

export function toPem(label: string, bytes: Uint8Array): string {
  const base64 = Buffer.from(bytes).toString("base64").replace(/.{64}/g, "$&\n").trimEnd();
  return `-----BEGIN ${label}-----\n${base64}\n-----END ${label}-----\n`;
}

const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  dnsName: 0x82,
  ipAddress: 0x87,
  version: 0xa0,
  extensions: 0xa3,
} as const;

/** Encoded object identifiers, without tag and length. */
const Oid = {
  commonName: "550403",
  keyUsage: "551d0f",
  subjectAlternativeName: "551d11",
  basicConstraints: "551d13",
  extendedKeyUsage: "551d25",
  serverAuth: "2b06010505070301",
} as const;

const ALGORITHM_OID: Readonly<Record<SignatureAlgorithm, string>> = {
  ed25519: "2b6570",
  "ecdsa-p256-sha256": "2a8648ce3d040302",
};

function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const body = concat(...parts);
  return concat(Uint8Array.of(tag, ...lengthBytes(body.length)), body);
}

function lengthBytes(length: number): readonly number[] {
  if (length < 0x80) return [length];
  if (length < 0x100) return [0x81, length];
  return [0x82, length >> 8, length & 0xff];
}

function name(commonName: string): Uint8Array {
  return sequence(der(Tag.set, sequence(oid(Oid.commonName), directoryString(commonName))));
}

/** PrintableString where the characters allow it (X.680 section 41.4), else UTF8String. */
function directoryString(text: string): Uint8Array {
  const isPrintable = /^[A-Za-z0-9 '()+,\-./:=?]*$/.test(text);
  return der(isPrintable ? Tag.printableString : Tag.utf8String, utf8(text));
}

function sequence(...parts: readonly Uint8Array[]): Uint8Array {
  return der(Tag.sequence, ...parts);
}

function oid(hex: string): Uint8Array {
  return der(Tag.oid, fromHex(hex));
}

/** A positive INTEGER: no leading zeroes, save one before a set high bit. */
function integer(bigEndian: Uint8Array): Uint8Array {
  const first = bigEndian.findIndex((byte) => byte !== 0);
  const digits = first < 0 ? Uint8Array.of(0) : bigEndian.subarray(first);
  const sign = (digits[0] ?? 0) >= 0x80 ? Uint8Array.of(0) : new Uint8Array(0);
  return der(Tag.integer, sign, digits);
}

function bitString(bytes: Uint8Array): Uint8Array {
  return der(Tag.bitString, Uint8Array.of(0), bytes);
}

function extension(id: string, critical: boolean, value: Uint8Array): Uint8Array {
  const flag = critical ? der(Tag.boolean, Uint8Array.of(0xff)) : new Uint8Array(0);
  return sequence(oid(id), flag, der(Tag.octetString, value));
}

/** RFC 5280 section 4.1.2.5: two digits for the year until 2049, four from then on. */
function time(at: WallTime): Uint8Array {
  const digits = new Date(at).toISOString().replace(/[-:T]|\.\d+/g, "");
  const isGeneralized = digits >= "2050";
  return der(
    isGeneralized ? Tag.generalizedTime : Tag.utcTime,
    utf8(isGeneralized ? digits : digits.slice(2)),
  );
}
