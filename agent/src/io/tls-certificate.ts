/**
 * The certificates of a TLS listener: given by files, or made here and trusted by their hash.
 *
 * A self-signed certificate is named in the relay map by the SHA-256 of its bytes, so it lives long:
 * a new one is a new pin, and whoever has only the old map is locked out.
 */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomBytes,
  sign,
  X509Certificate,
} from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Ip } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import { OperationError } from "../base/errors.ts";
import { NodePublic } from "../base/keys.ts";
import { type Calendar, type WallTime, wallTime } from "../base/time.ts";
import { readStateFile, writeFileAtomic } from "./state-store.ts";
import { codeOf } from "./system-error.ts";
import {
  basicConstraints,
  encodeCertificate,
  extendedKeyUsageServer,
  keyUsageSignature,
  subjectAlternativeNames,
  toPem,
} from "./x509.ts";

export interface TlsCertificate {
  readonly keyPem: string;
  /** The leaf, and what else is to be sent behind it. */
  readonly certPem: string;
  /** "sha256-raw:<hex>" of the leaf. */
  readonly pin: string;
  readonly notAfter: WallTime;
}

export interface SelfSignedOptions {
  readonly stateDir: string;
  /** Host names and IP addresses that clients connect to. */
  readonly names: readonly string[];
  readonly calendar: Calendar;
  /** Key and certificate. Roles with other names need another. @default "tls.pem" */
  readonly fileName?: string;
}

const DAY = 86_400_000;
/** The trust comes from the pin and not from the date, and renewing means a new pin. */
const LIFETIME = 3650 * DAY;
const RENEW_BEFORE_END = 30 * DAY;
/** For clients whose clock is behind. */
const BACKDATED = DAY;

/** The certificate kept in the state directory; a new one with the same key where it is about to end or lacks a name. */
export async function selfSignedCertificate(options: SelfSignedOptions): Promise<TlsCertificate> {
  const path = join(options.stateDir, options.fileName ?? "tls.pem");
  const stored = await readStateFile(path);
  const former = stored === undefined ? undefined : parseStored(path, stored);
  const now = options.calendar.now();
  if (former !== undefined && isGood(former.leaf, options.names, now)) {
    return describe(former.leaf, pemOfKey(former.key));
  }
  const key = former?.key ?? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
  const certPem = toPem("CERTIFICATE", issue(key, options.names, now));
  await writeFileAtomic(path, pemOfKey(key) + certPem);
  return describe(new X509Certificate(certPem), pemOfKey(key));
}

/** @throws OperationError that says which file can not be used, and why */
export async function readCertificate(certFile: string, keyFile: string): Promise<TlsCertificate> {
  const [certPem, keyPem] = [await readPem(certFile), await readPem(keyFile)];
  const leaf = parsed(() => new X509Certificate(certPem), certFile, "no certificate in PEM form");
  const key = parsed(
    () => createPrivateKey(keyPem),
    keyFile,
    "no private key in PEM form without a password",
  );
  if (!leaf.checkPrivateKey(key)) {
    throw unusable(certFile, `the private key in ${keyFile} belongs to another certificate`);
  }
  return { ...describe(leaf, pemOfKey(key)), certPem };
}

/** "sha256-raw:<hex>": how a relay map pins a certificate. */
export function pinOf(der: Uint8Array): string {
  return `sha256-raw:${createHash("sha256").update(der).digest("hex")}`;
}

/** Whether the certificate's names cover `host`, a name or an IP address. */
export function coversName(certificate: X509Certificate, host: string): boolean {
  const ip = Ip.tryParse(host);
  if (ip === undefined) return certificate.checkHost(host, { subject: "never" }) !== undefined;
  return certificate.checkIP(ip.text) !== undefined;
}

/**
 * A certificate that tells a relay's key: the last one in its chain, so that a client can log in with its first
 * bytes. Valid for 30 days before and after `now`; in PEM.
 */
export function metaCertificate(serverKey: NodePublic, now: WallTime): string {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519");
  const certificate = encodeCertificate(
    {
      commonName: META_PREFIX + toHex(serverKey.bytes),
      serial: Uint8Array.of(META_VERSION),
      notBefore: wallTime(now - META_SPAN),
      notAfter: wallTime(now + META_SPAN),
      publicKey: publicKey.export({ format: "der", type: "spki" }),
      algorithm: "ed25519",
      extensions: [basicConstraints()],
    },
    (tbs) => sign(undefined, tbs, privateKey),
  );
  return toPem("CERTIFICATE", certificate);
}

/** The relay's key, where this is a meta certificate. */
export function metaKeyOf(certificate: X509Certificate): NodePublic | undefined {
  const [, hex] = /(?:^|\n)CN=derpkey([0-9a-f]{64})(?:\n|$)/.exec(certificate.subject) ?? [];
  if (hex === undefined || !/^[0-9A-F]{1,2}$/.test(certificate.serialNumber)) return undefined;
  return NodePublic.parse(NodePublic.prefix + hex);
}

/** ts: derphttp's meta certificate: the prefix, and the protocol version as serial number. */
const META_PREFIX = "derpkey";
const META_VERSION = 2;
const META_SPAN = 30 * DAY;

interface Stored {
  readonly key: KeyObject;
  readonly leaf: X509Certificate;
}

function parseStored(path: string, text: string): Stored {
  try {
    const [key, leaf] = [createPrivateKey(text), new X509Certificate(text)];
    if (!leaf.checkPrivateKey(key)) throw new Error("key and certificate do not belong together");
    return { key, leaf };
  } catch {
    throw new OperationError(
      "state-corrupt",
      `${path} is damaged and was left as it is: restore it from a backup, or remove it to get a new ` +
        `certificate, and then give the clients the new pin`,
    );
  }
}

function isGood(leaf: X509Certificate, names: readonly string[], now: WallTime): boolean {
  const end = Date.parse(leaf.validTo);
  return now < end - RENEW_BEFORE_END && names.every((name) => coversName(leaf, name));
}

function issue(key: KeyObject, names: readonly string[], now: WallTime): Uint8Array {
  const addresses = names.map((name) => Ip.tryParse(name)).filter((ip) => ip !== undefined);
  const hostNames = names.filter((name) => Ip.tryParse(name) === undefined);
  const serial = randomBytes(16);
  serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
  return encodeCertificate(
    {
      commonName: (names[0] ?? "sallyport").slice(0, MAX_COMMON_NAME),
      serial,
      notBefore: wallTime(now - BACKDATED),
      notAfter: wallTime(now + LIFETIME),
      publicKey: createPublicKey(key).export({ format: "der", type: "spki" }),
      algorithm: "ecdsa-p256-sha256",
      extensions: [
        basicConstraints(),
        keyUsageSignature(),
        extendedKeyUsageServer(),
        subjectAlternativeNames(hostNames, addresses),
      ],
    },
    (tbs) => sign("sha256", tbs, key),
  );
}

/** RFC 5280 appendix A: ub-common-name. */
const MAX_COMMON_NAME = 64;

function describe(leaf: X509Certificate, keyPem: string): TlsCertificate {
  return {
    keyPem,
    certPem: leaf.toString(),
    pin: pinOf(leaf.raw),
    notAfter: wallTime(Date.parse(leaf.validTo)),
  };
}

function pemOfKey(key: KeyObject): string {
  return key.export({ format: "pem", type: "pkcs8" }).toString();
}

async function readPem(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    throw unusable(path, `it can not be read (${codeOf(error)})`, error);
  }
}

/** The cause is left out: it may quote the file. */
function parsed<T>(parse: () => T, path: string, fault: string): T {
  try {
    return parse();
  } catch {
    throw unusable(path, `it holds ${fault}`);
  }
}

function unusable(path: string, fault: string, cause?: unknown): OperationError {
  return new OperationError(
    "tls-certificate",
    `${path} can not be used for TLS: ${fault}. Give a certificate and its key as PEM files that this user may ` +
      `read, or neither, to have a self-signed certificate made`,
    { cause },
  );
}
