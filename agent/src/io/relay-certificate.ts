/** What a client learns and checks from the certificates of a relay. */
import type { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";
import type { NodePublic } from "../base/keys.ts";
import type { WallTime } from "../base/time.ts";
import { coversName, metaKeyOf, pinOf } from "./tls-certificate.ts";

const PIN_PREFIX = "sha256-raw:";
/** More than any real chain has. */
const MAX_CHAIN = 16;

export function isPin(certName: string | undefined): certName is string {
  return certName?.startsWith(PIN_PREFIX) ?? false;
}

/** The certificates as sent, the leaf first. (`getPeerCertificate` leaves out those that signed nothing.) */
export function chainOf(socket: TLSSocket): readonly X509Certificate[] {
  const chain: X509Certificate[] = [];
  let next = socket.getPeerX509Certificate();
  while (next !== undefined && chain.length < MAX_CHAIN) {
    chain.push(next);
    next = next.issuerCertificate;
  }
  return chain;
}

/** The relay's key, where a meta certificate tells it. Before TLS 1.3 certificates went in clear: not used then. */
export function metaKeyIn(socket: TLSSocket, chain: readonly X509Certificate[]): NodePublic | undefined {
  if (socket.getProtocol() !== "TLSv1.3") return undefined;
  return chain.map(metaKeyOf).find((key) => key !== undefined);
}

/** Holds a chain against a pin ("sha256-raw:<hex>"). @returns what is wrong with it, if something is */
export function checkPin(
  chain: readonly X509Certificate[],
  pin: string,
  hostName: string,
  now: WallTime,
): string | undefined {
  const [leaf, ...others] = chain.filter((certificate) => metaKeyOf(certificate) === undefined);
  if (leaf === undefined) return "it showed no certificate";
  if (others.length > 0) return `it showed ${chain.length} certificates where the pin allows one`;
  const shown = pinOf(leaf.raw);
  if (shown !== pin.toLowerCase()) return `its certificate is ${shown}, but the relay map pins ${pin}`;
  if (now < Date.parse(leaf.validFrom)) return `its certificate is not valid before ${leaf.validFrom}`;
  if (now > Date.parse(leaf.validTo)) return `its certificate ended on ${leaf.validTo}`;
  if (!coversName(leaf, hostName)) return `its certificate is not for ${hostName}`;
  return undefined;
}
