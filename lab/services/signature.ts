/**
 * Whether a request bears a right Signature Version 4 in its Authorization header, as each endpoint of AWS checks it.
 * https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
 */
import { createHash, createHmac, timingSafeEqual } from "node:crypto";
import { decodedUri, type HttpRequest } from "./http.ts";
import type { Session } from "./credentials.ts";

export interface Expected {
  /** Such as "s3", of the credential's scope. */
  readonly service: string;
  readonly region: string;
  /** In milliseconds since 1970. */
  readonly now: number;
  sessionOf(accessKeyId: string): Session | undefined;
}

/** Why it is refused. */
export type SignatureFault =
  "missing" | "malformed" | "unknown-key" | "wrong-token" | "expired" | "skewed" | "wrong-scope" | "mismatch";

/** Everybody refuses a clock that is further off; S3 takes 15 minutes. */
const SKEW_MS = 5 * 60_000;
const S3_SKEW_MS = 15 * 60_000;

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 +Credential=([^/,]+)\/(\d{8})\/([^/,]+)\/([^/,]+)\/aws4_request, *SignedHeaders=([^,]+), *Signature=([0-9a-f]{64})$/;

export function checkSignature(request: HttpRequest, expected: Expected): Session | SignatureFault {
  const { authorization, "x-amz-date": time, "x-amz-security-token": token } = request.headers;
  if (authorization === undefined) return "missing";
  const [, keyId = "", day = "", region = "", service = "", list = "", signature = ""] =
    AUTHORIZATION.exec(authorization) ?? [];
  const at = parseTime(time);
  if (signature === "" || time === undefined || at === undefined) return "malformed";
  const signed = list.split(";");
  if (!mustBeSigned(request).every((name) => signed.includes(name))) return "malformed";
  const session = expected.sessionOf(keyId);
  if (session === undefined) return "unknown-key";
  if (token !== session.sessionToken) return "wrong-token";
  if (session.expires <= expected.now) return "expired";
  const skew = service === "s3" ? S3_SKEW_MS : SKEW_MS;
  if (Math.abs(expected.now - at) > skew || !time.startsWith(day)) return "skewed";
  if (service !== expected.service || region !== expected.region) return "wrong-scope";
  const payload = payloadHash(request, service);
  if (payload === undefined) return "mismatch";
  const scope = `${day}/${region}/${service}/aws4_request`;
  const canonical = canonicalRequest(request, signed, payload, service);
  const text = ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n");
  const key = [day, region, service, "aws4_request"].reduce(
    hmac,
    Buffer.from(`AWS4${session.secretAccessKey}`),
  );
  return timingSafeEqual(hmac(key, text), Buffer.from(signature, "hex")) ? session : "mismatch";
}

/** The host, and all of x-amz-* that is sent. */
function mustBeSigned({ headers }: HttpRequest): readonly string[] {
  return ["host", ...Object.keys(headers).filter((name) => name.startsWith("x-amz-"))].filter(
    // S3 says which hash was signed; others hash the body themselves.
    (name) => name !== "x-amz-content-sha256",
  );
}

/** S3 signs what the header says, which must be true of the body or say that it is unsigned. */
function payloadHash({ headers, body }: HttpRequest, service: string): string | undefined {
  const hash = sha256(body);
  if (service !== "s3") return hash;
  const said = headers["x-amz-content-sha256"];
  return said === hash || said === "UNSIGNED-PAYLOAD" ? said : undefined;
}

function canonicalRequest(request: HttpRequest, signed: readonly string[], payload: string, service: string) {
  const path = service === "s3" ? request.path : request.path.split("/").map(encode).join("/");
  return [
    ...[request.method, path, canonicalQuery(request.query)],
    ...signed.map((name) => `${name}:${(request.headers[name] ?? "").trim().replaceAll(/ +/g, " ")}`),
    ...["", signed.join(";"), payload],
  ].join("\n");
}

function canonicalQuery(query: string): string {
  if (query === "") return "";
  const pairs = query.split("&").map((pair) => {
    const [name = "", value = ""] = pair.split(/=(.*)/s);
    return [encode(decodedUri(name)), encode(decodedUri(value))] as const;
  });
  const inOrder = pairs.map(([name, value]) => `${name}=${value}`).sort();
  return inOrder.join("&");
}

const encode = (text: string): string =>
  encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );

/** "20260102T030405Z" */
function parseTime(text: string | undefined): number | undefined {
  const [, ...parts] = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(text ?? "") ?? [];
  const [year, month, day, hour, minute, second] = parts.map(Number);
  if (year === undefined || month === undefined) return undefined;
  return Date.UTC(year, month - 1, day, hour, minute, second);
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}

function hmac(key: Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
