/** What the services have in common: a call by somebody known, judged by policies, and an answer or a refusal. */
import { createHash } from "node:crypto";
import type { LabCloud, LabRegion } from "../cloud/cloud.ts";
import type { Session } from "./credentials.ts";
import type { HttpAnswer, HttpRequest } from "./http.ts";
import type { Context } from "./iam.ts";
import type { SignatureFault } from "./signature.ts";

/** How its hosts, its signatures and its actions in policies are called. */
export type ServiceName = "ec2" | "autoscaling" | "ssm" | "secretsmanager" | "s3";

export interface Service {
  readonly name: ServiceName;
  /** Such as "CreateTags"; undefined where the request names none. */
  actionOf(request: HttpRequest): string | undefined;
  /** @throws AwsError; CloudError by what is behind */
  run(call: Call): Promise<HttpAnswer>;
  /** An error in the service's own form. */
  refuse(error: AwsError, requestId: string): HttpAnswer;
  readonly faults: Readonly<Record<SignatureFault | "throttled", AwsError>>;
  /** Who may not do what he asked for. */
  denied(denial: Denial): AwsError;
}

export interface Call {
  readonly cloud: LabCloud;
  readonly region: LabRegion;
  readonly request: HttpRequest;
  readonly requestId: string;
  readonly action: string;
  readonly session: Session;
  /** In milliseconds since 1970. */
  readonly now: number;
  /** @throws AwsError unless the caller may do `action` to every one of these resources */
  authorize(action: string, resources: readonly Resource[], context?: Context): void;
  may(action: string, resource: Resource, context?: Context): boolean;
}

/** What an action is done to, and what conditions may ask of it. */
export interface Resource {
  readonly arn: string;
  readonly context?: Context;
}

export interface Denial {
  /** The caller's ARN. */
  readonly caller: string;
  /** With its service, such as "ec2:CreateTags". */
  readonly action: string;
  readonly resource: string;
  readonly explicit: boolean;
}

/** An error as the API tells it. */
export class AwsError extends Error {
  override readonly name = "AwsError";
  readonly code: string;
  readonly status: number;

  constructor(code: string, message: string, status = 400) {
    super(message);
    this.code = code;
    this.status = status;
  }
}

export function denialText({ caller, action, resource, explicit }: Denial): string {
  const why = explicit
    ? "with an explicit deny in an identity-based policy"
    : `because no identity-based policy allows the ${action} action`;
  return `User: ${caller} is not authorized to perform: ${action} on resource: ${resource} ${why}`;
}

/** AWS encodes why it refused, for those who may decode it. The lab's says it in plain base64. */
export function encodedDenial(denial: Denial): string {
  const text = JSON.stringify({ allowed: false, explicitDeny: denial.explicit, context: denial });
  const check = createHash("sha256").update(text).digest("hex").slice(0, 16);
  return `lab-${check}-${Buffer.from(text).toString("base64url")}`;
}

/** A page of a list. The token is the number of what came before. @throws AwsError */
export function page<T>(
  all: readonly T[],
  {
    max,
    token,
    limit,
  }: { readonly max: number | undefined; readonly token: string | undefined; readonly limit: number },
): { readonly items: readonly T[]; readonly next: string | undefined } {
  const from = token === undefined ? 0 : Number(Buffer.from(token, "base64url").toString("utf8"));
  if (!Number.isInteger(from) || from < 0) {
    throw new AwsError("InvalidNextToken", "The token 'NextToken' is invalid");
  }
  const to = from + Math.min(max ?? limit, limit);
  const next = to < all.length ? Buffer.from(String(to)).toString("base64url") : undefined;
  return { items: all.slice(from, to), next };
}
