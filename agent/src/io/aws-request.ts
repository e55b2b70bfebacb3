/**
 * Signed requests to AWS, as the instance that we run on: credentials and region from its metadata service (version 2), or
 * from the usual variables. Signature Version 4: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
 */
import { createHash, createHmac } from "node:crypto";
import { OperationError } from "../base/errors.ts";
import type { Calendar } from "../base/time.ts";
import { formatRfc3339 } from "../base/rfc3339.ts";
import { systemCalendar } from "./calendar.ts";

export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string | undefined;
}

export interface AwsOptions {
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly calendar?: Calendar;
}

const TIMEOUT_MS = 10_000;

/** Calls an action of a service that speaks JSON 1.1. @throws OperationError without the request's body or its answer's */
export async function awsJson(
  service: "ssm" | "secretsmanager",
  target: string,
  body: object,
  options: AwsOptions = {},
): Promise<Readonly<Record<string, unknown>>> {
  const env = options.env ?? process.env;
  const region = env["AWS_REGION"] ?? (await metadata("placement/region", env));
  const url = new URL(
    env["AWS_ENDPOINT_URL"] ??
      `https://${service}.${region}.amazonaws.com${region.startsWith("cn-") ? ".cn" : ""}`,
  );
  const text = JSON.stringify(body);
  const headers = signedHeaders({
    ...{ service, region, url, body: text, credentials: await credentialsOf(env) },
    headers: { "content-type": "application/x-amz-json-1.1", "x-amz-target": target },
    time: amzTime(options.calendar ?? systemCalendar),
  });
  const response = await request(url, { method: "POST", headers, body: text }, target);
  const answer = (await response.json().catch(() => ({}))) as Readonly<Record<string, unknown>>;
  if (response.ok) return answer;
  const type = typeof answer["__type"] === "string" ? answer["__type"].split("#").at(-1) : undefined;
  throw new OperationError(
    "aws-refused",
    `AWS refuses ${target} (${type ?? response.status}): see that it exists and that the instance's role may use it`,
  );
}

export interface SigningRequest {
  readonly service: string;
  readonly region: string;
  readonly url: URL;
  readonly body: string;
  readonly credentials: AwsCredentials;
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string>>;
  /** Such as "20150830T123600Z". */
  readonly time: string;
}

/** The headers of a POST, with its Authorization. */
export function signedHeaders(from: SigningRequest): Readonly<Record<string, string>> {
  const { credentials, time, region, service, url } = from;
  const headers: Record<string, string> = {
    ...from.headers,
    host: url.host,
    "x-amz-date": time,
    ...(credentials.sessionToken === undefined ? {} : { "x-amz-security-token": credentials.sessionToken }),
  };
  const names = Object.keys(headers).sort();
  const signed = names.join(";");
  const canonical = [
    ...["POST", url.pathname, url.searchParams.toString()],
    ...names.map((name) => `${name}:${(headers[name] ?? "").trim()}`),
    ...["", signed, sha256(from.body)],
  ].join("\n");
  const day = time.slice(0, 8);
  const scope = `${day}/${region}/${service}/aws4_request`;
  const key = [day, region, service, "aws4_request"].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part),
    `AWS4${credentials.secretAccessKey}`,
  );
  const signature = hmac(key, ["AWS4-HMAC-SHA256", time, scope, sha256(canonical)].join("\n")).toString(
    "hex",
  );
  const authorization = `AWS4-HMAC-SHA256 Credential=${credentials.accessKeyId}/${scope}, SignedHeaders=${signed}, Signature=${signature}`;
  return { ...headers, authorization };
}

async function credentialsOf(env: Readonly<Record<string, string | undefined>>): Promise<AwsCredentials> {
  const { AWS_ACCESS_KEY_ID: id, AWS_SECRET_ACCESS_KEY: secret, AWS_SESSION_TOKEN: session } = env;
  if (id !== undefined && secret !== undefined) {
    return { accessKeyId: id, secretAccessKey: secret, sessionToken: session };
  }
  const role = (await metadata("iam/security-credentials/", env)).trim();
  const text = await metadata(`iam/security-credentials/${role}`, env);
  // No cause: a JSON error quotes the text around the fault.
  const bad = new OperationError("aws-credentials", "the instance's role gives no usable credentials");
  let json: Readonly<Record<string, unknown>>;
  try {
    json = JSON.parse(text) as Readonly<Record<string, unknown>>;
  } catch {
    throw bad;
  }
  const { AccessKeyId, SecretAccessKey, Token } = json;
  if (typeof AccessKeyId !== "string" || typeof SecretAccessKey !== "string") throw bad;
  const sessionToken = typeof Token === "string" ? Token : undefined;
  return { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey, sessionToken };
}

async function metadata(path: string, env: Readonly<Record<string, string | undefined>>): Promise<string> {
  const base = env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] ?? "http://169.254.169.254";
  const ttl = { "x-aws-ec2-metadata-token-ttl-seconds": "300" };
  const what = "the instance's metadata";
  const token = await request(new URL("/latest/api/token", base), { method: "PUT", headers: ttl }, what);
  const headers = { "x-aws-ec2-metadata-token": await token.text() };
  const answer = await request(new URL(`/latest/meta-data/${path}`, base), { method: "GET", headers }, what);
  if (answer.ok) return await answer.text();
  throw new OperationError(
    "aws-metadata",
    `the instance's metadata has no ${path} (${answer.status}): give the instance a role`,
  );
}

async function request(url: URL, init: RequestInit, what: string): Promise<Response> {
  try {
    return await fetch(url, { ...init, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch (cause) {
    throw new OperationError(
      "aws-unreachable",
      `${what}: ${url.host} can not be reached: this works on an EC2 instance that reaches AWS`,
      { cause },
    );
  }
}

function amzTime(calendar: Calendar): string {
  return formatRfc3339(calendar.now()).replace(/\.\d+/, "").replaceAll(/[-:]/g, "");
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac("sha256", key).update(text).digest();
}
