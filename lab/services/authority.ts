/** The lab's own certificate authority: a certificate for each name, made when somebody first asks for it. */
import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign } from "node:crypto";
import { isIP } from "node:net";
import { createSecureContext, type SecureContext } from "node:tls";
import { Ip } from "../../agent/src/base/address.ts";
import { wallTime } from "../../agent/src/base/time.ts";
import {
  basicConstraints,
  certificateAuthority,
  encodeCertificate,
  extendedKeyUsageServer,
  keyUsageSignature,
  subjectAlternativeNames,
  toPem,
} from "../../agent/src/io/x509.ts";

const NAME = "Sallyport lab";
const DAY = 86_400_000;

export class Authority {
  readonly certPem: string;
  readonly #key = newKey();
  readonly #now: number;
  readonly #contexts = new Map<string, SecureContext>();

  constructor(now: number) {
    this.#now = now;
    this.certPem = toPem(
      "CERTIFICATE",
      this.#issue(NAME, createPublicKey(this.#key), certificateAuthority()),
    );
  }

  /** For `SNICallback`. */
  contextFor(host: string): SecureContext {
    const known = this.#contexts.get(host);
    if (known !== undefined) return known;
    const made = createSecureContext(this.certificateFor(host));
    this.#contexts.set(host, made);
    return made;
  }

  certificateFor(host: string): { readonly key: string; readonly cert: string } {
    const key = newKey();
    return {
      key: key.export({ format: "pem", type: "pkcs8" }).toString(),
      cert: this.certify(host, createPublicKey(key)),
    };
  }

  /** A server's certificate for another's key, as PEM. @param host a DNS name or an IP address */
  certify(host: string, publicKey: KeyObject, lifetimeMs = 30 * DAY): string {
    const names =
      isIP(host) === 0 ? subjectAlternativeNames([host], []) : subjectAlternativeNames([], [Ip.parse(host)]);
    const extensions = [basicConstraints(), keyUsageSignature(), extendedKeyUsageServer(), names];
    return toPem("CERTIFICATE", this.#issue(host, publicKey, extensions, lifetimeMs));
  }

  #issue(
    subject: string,
    publicKey: KeyObject,
    extensions: readonly Uint8Array[],
    lifetimeMs = 30 * DAY,
  ): Uint8Array {
    const serial = randomBytes(16);
    serial[0] = ((serial[0] ?? 0) & 0x7f) | 0x40;
    return encodeCertificate(
      {
        commonName: subject.slice(0, 64),
        issuer: NAME,
        serial,
        notBefore: wallTime(this.#now - DAY),
        notAfter: wallTime(this.#now + lifetimeMs),
        publicKey: publicKey.export({ format: "der", type: "spki" }),
        algorithm: "ecdsa-p256-sha256",
        extensions,
      },
      (tbs) => sign("sha256", tbs, this.#key),
    );
  }
}

function newKey(): KeyObject {
  return generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
}
