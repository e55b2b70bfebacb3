/** Requests to the ACME directory: JSON Web Signatures with the account's key (RFC 8555, 6.2), and how it says no (6.7). */
import { createHash, createPublicKey, type KeyObject, verify } from "node:crypto";
import { fromUtf8 } from "../../agent/src/base/bytes.ts";

export interface AccountKey {
  readonly key: KeyObject;
  /** RFC 7638. */
  readonly thumbprint: string;
}

export interface Signed {
  readonly nonce: string;
  readonly url: string;
  /** The account's URL; undefined where the key itself is given. */
  readonly account: string | undefined;
  readonly key: AccountKey;
  /** Undefined for a POST that stands for a GET. */
  readonly payload: Readonly<Record<string, unknown>> | undefined;
}

export class AcmeProblem extends Error {
  override readonly name = "AcmeProblem";
  readonly status: number;
  readonly body: object;

  constructor(type: string, detail: string, status = 400) {
    super(detail);
    this.status = status;
    this.body = { type: `urn:ietf:params:acme:error:${type}`, detail, status };
  }
}

/** @throws AcmeProblem where it isn't signed with ES256 by the key that it names */
export function readJws(body: Uint8Array, keyOf: (account: string) => AccountKey | undefined): Signed {
  const { protected: head, payload, signature } = objectOf(fromUtf8(body));
  if (typeof head !== "string" || typeof payload !== "string" || typeof signature !== "string") {
    throw malformed();
  }
  const { alg, nonce, url, kid, jwk } = objectOf(decoded(head));
  if (alg !== "ES256") throw new AcmeProblem("badSignatureAlgorithm", "the lab reads ES256");
  if (typeof nonce !== "string" || typeof url !== "string") throw malformed();
  const account = typeof kid === "string" ? kid : undefined;
  const key = account === undefined ? readKey(jwk) : keyOf(account);
  if (key === undefined) throw new AcmeProblem("accountDoesNotExist", `there is no account ${account ?? ""}`);
  const right = verify(
    "sha256",
    Buffer.from(`${head}.${payload}`),
    { key: key.key, dsaEncoding: "ieee-p1363" },
    Buffer.from(signature, "base64url"),
  );
  if (!right) throw new AcmeProblem("unauthorized", "the signature is not right", 403);
  return { nonce, url, account, key, payload: payload === "" ? undefined : objectOf(decoded(payload)) };
}

function readKey(jwk: unknown): AccountKey {
  const { kty, crv, x, y } = (typeof jwk === "object" && jwk !== null ? jwk : {}) as Record<string, unknown>;
  if (kty !== "EC" || crv !== "P-256" || typeof x !== "string" || typeof y !== "string") {
    throw new AcmeProblem("badPublicKey", "the lab reads keys on P-256");
  }
  const known = { crv, kty, x, y };
  try {
    const key = createPublicKey({ key: known, format: "jwk" });
    const thumbprint = createHash("sha256").update(JSON.stringify(known)).digest("base64url");
    return { key, thumbprint };
  } catch {
    throw new AcmeProblem("badPublicKey", "the key is no point of P-256");
  }
}

const malformed = (): AcmeProblem => new AcmeProblem("malformed", "not a JSON Web Signature");
const decoded = (text: string): string => Buffer.from(text, "base64url").toString("utf8");

function objectOf(text: string): Readonly<Record<string, unknown>> {
  try {
    const read = JSON.parse(text) as unknown;
    if (typeof read === "object" && read !== null) return read as Readonly<Record<string, unknown>>;
  } catch {
    // As any other that is no object.
  }
  throw malformed();
}
