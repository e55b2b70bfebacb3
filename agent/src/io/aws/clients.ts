/**
 * Clients of AWS that live long or ask many regions, and why a request of theirs failed.
 *
 * Credentials come by the SDK's standard chain: variables, profile, web identity, container, the instance's role. Tests and
 * the lab lead the clients elsewhere with the SDK's own variables (AWS_ENDPOINT_URL, AWS_EC2_METADATA_SERVICE_ENDPOINT).
 */
import { OperationError } from "../../base/errors.ts";
import type * as Ec2 from "../apart/ec2.ts";
import { prepareSdk } from "../aws-client.ts";
import type { Imds } from "./imds.ts";

/** @throws never, unless a file of the bundle is missing */
export async function loadEc2(): Promise<typeof Ec2> {
  prepareSdk();
  return await import("../apart/ec2.ts");
}

export interface ClientOptions {
  /** @default AWS_REGION, or the profile's */
  readonly region?: string | undefined;
  /** Of one request and its repetitions. @default 3 */
  readonly attempts?: number;
  /** @default AWS_ENDPOINT_URL, or AWS's own */
  readonly endpoint?: string | undefined;
  /** @default the standard chain */
  readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string } | undefined;
}

/** What every client is made with: an answer is awaited for seconds, never for minutes. */
export function clientConfig({ region, attempts = 3, endpoint, credentials }: ClientOptions = {}) {
  return {
    maxAttempts: attempts,
    requestHandler: { connectionTimeout: CONNECT_MS, requestTimeout: ANSWER_MS, throwOnRequestTimeout: true },
    ...(region === undefined ? {} : { region }),
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(credentials === undefined ? {} : { credentials }),
  };
}

const CONNECT_MS = 5_000;
const ANSWER_MS = 15_000;

/** The region of this instance, unless a variable names another. @throws OperationError where neither says */
export async function ownRegion(
  imds: Imds,
  env: Readonly<Record<string, string | undefined>> = process.env,
): Promise<string> {
  return env["AWS_REGION"] ?? env["AWS_DEFAULT_REGION"] ?? (await imds.region());
}

/**
 * Why a request failed, as far as what to do about it differs:
 * `throttled` and `unreachable` pass, `denied` needs a permission, `no-credentials` a role, `region-off` another region.
 */
export type AwsFault = "throttled" | "denied" | "no-credentials" | "region-off" | "unreachable" | "refused";

export function faultOf(error: unknown): AwsFault {
  const { name, code, status } = errorFields(error);
  if (THROTTLED.has(name) || status === 429 || status === 503) return "throttled";
  if (DENIED.has(name)) return "denied";
  if (NO_CREDENTIALS.has(name)) return "no-credentials";
  if (REGION_OFF.has(name) || code === "ENOTFOUND") return "region-off";
  if (status === undefined || status >= 500) return "unreachable";
  return "refused";
}

/** One sentence: what was asked for, why not, and what to do. Never the answer's body: it may quote the request. */
export function awsError(error: unknown, action: string, resource: string): OperationError {
  const fault = faultOf(error);
  const { name, code } = errorFields(error);
  const reason = code ?? name;
  const sentence: Readonly<Record<AwsFault, string>> = {
    throttled: `AWS throttles ${action} (${reason}): it will work again when fewer requests are made`,
    denied: `${action} on ${resource} is not permitted (${reason}): allow it to the role or user that this runs as`,
    "no-credentials": `there are no AWS credentials for ${action}: give the instance a role, or set AWS_PROFILE`,
    "region-off": `${action} on ${resource}: ${regionOffText(reason)} (${reason})`,
    unreachable: `${action}: AWS can not be reached (${reason}): see that tcp/443 to its endpoint is open`,
    refused: `AWS refuses ${action} on ${resource} (${reason}): see that it exists`,
  };
  return new OperationError(`aws-${fault}`, sentence[fault], { cause: error });
}

/** AWS and DNS say the same of two causes. */
function regionOffText(reason: string): string {
  switch (reason) {
    case "AuthFailure":
      return "the region is not enabled for this account, or the credentials are not valid";
    case "ENOTFOUND":
      return "the region does not exist, or the name of its endpoint can not be resolved here";
    default:
      return "the region is not enabled for this account or does not exist";
  }
}

// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
const THROTTLED = new Set([
  ...["RequestLimitExceeded", "Throttling", "ThrottlingException", "TooManyRequestsException"],
  ...["EC2ThrottledException", "RequestThrottled", "BandwidthLimitExceeded", "PriorRequestNotComplete"],
]);
const DENIED = new Set([
  ...["UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation"],
]);
const NO_CREDENTIALS = new Set([
  ...["CredentialsProviderError", "ProviderError", "TokenProviderError", "ExpiredToken", "RequestExpired"],
  ...["ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException"],
]);
/** EC2 says AuthFailure of good credentials in a region that the account has not enabled, and of bad ones anywhere. */
const REGION_OFF = new Set(["AuthFailure", "OptInRequired", "InvalidRegion"]);

interface ErrorFields {
  readonly name: string;
  /** Of the operating system. */
  readonly code: string | undefined;
  /** Of HTTP; undefined when there was no answer. */
  readonly status: number | undefined;
}

function errorFields(error: unknown): ErrorFields {
  if (!(error instanceof Error)) return { name: "unknown", code: undefined, status: undefined };
  const { code, $metadata } = error as { code?: unknown; $metadata?: { httpStatusCode?: number } };
  return {
    name: error.name,
    code: typeof code === "string" ? code : undefined,
    status: $metadata?.httpStatusCode,
  };
}
