/**
 * The endpoints of AWS as one place that takes a request, finds out which service of which region is meant and who asks, and
 * has it judged and answered.
 */
import { randomUUID } from "node:crypto";
import { CloudError, type LabCloud, type LabRegion } from "../cloud/cloud.ts";
import type { Credentials, Session } from "./credentials.ts";
import type { HttpAnswer, HttpRequest } from "./http.ts";
import { autoscaling } from "./autoscaling.ts";
import { ec2 } from "./ec2.ts";
import { type Context, evaluate, parsePolicy, type Policy } from "./iam.ts";
import { secretsManager } from "./secrets-manager.ts";
import { AwsError, type Call, type Resource, type Service } from "./service.ts";
import { checkSignature } from "./signature.ts";
import { s3 } from "./s3.ts";
import { ssm } from "./ssm.ts";

/** A call as the lab's log has it. Nothing of what was sent or answered. */
export interface ServiceCall {
  /** In milliseconds since 1970. */
  readonly at: number;
  /** Such as "ec2:CreateTags". */
  readonly action: string;
  readonly region: string;
  /** The instance that it comes from; undefined for a user, and where the signature is not right. */
  readonly instanceId: string | undefined;
  /** "ok", or the error's code, such as "UnauthorizedOperation". */
  readonly outcome: string;
  /** For an error: what it says. */
  readonly message: string | undefined;
}

export interface Throttle {
  /** Such as "ec2:CreateTags" or "ec2:*". */
  readonly action: string;
  /** How many calls are refused. */
  readonly calls: number;
}

const SERVICES: readonly Service[] = [ec2, autoscaling, ssm, secretsManager, s3];

export interface EndpointsOptions {
  readonly cloud: LabCloud;
  readonly credentials: Credentials;
  readonly now: () => number;
  readonly onCall: (call: ServiceCall) => void;
}

/** Which service of which region a host name is for, such as "ec2.eu-west-1.amazonaws.com". */
export function endpointOf(
  host: string,
  cloud: LabCloud,
): { readonly service: Service; readonly region: LabRegion } | undefined {
  const [, label = "", name = ""] =
    /^(?:.+\.)?([a-z0-9]+)\.([a-z]{2}(?:-[a-z]+)+-\d)\.amazonaws\.com(?:\.cn)?$/.exec(host.toLowerCase()) ??
    [];
  const service = SERVICES.find((one) => one.name === label);
  const region = cloud.regions.get(name);
  if (service === undefined || region === undefined) return undefined;
  // Only buckets have names of their own in front.
  const isPlain = host.toLowerCase().startsWith(`${label}.${name}.`);
  return isPlain || service.name === "s3" ? { service, region } : undefined;
}

export class Endpoints {
  readonly #options: EndpointsOptions;
  readonly #throttles: { action: string; calls: number }[] = [];
  readonly #policies = new Map<string, Policy>();

  constructor(options: EndpointsOptions) {
    this.#options = options;
    for (const { name, policies } of options.cloud.roles.values()) {
      for (const json of policies) this.#policy(json, name);
    }
  }

  /** The next calls of an action are refused as too many. */
  throttle({ action, calls }: Throttle): void {
    this.#throttles.push({ action, calls });
  }

  async answer(request: HttpRequest): Promise<HttpAnswer> {
    const endpoint = this.#endpoint(request);
    if (endpoint === undefined) {
      return { status: 404, headers: {}, body: `the lab has no endpoint ${request.headers["host"] ?? ""}\n` };
    }
    const { service, region } = endpoint;
    const requestId = randomUUID();
    const name = service.actionOf(request) ?? "?";
    const now = this.#options.now();
    const session = checkSignature(request, {
      ...{ service: service.name, region: region.name, now },
      sessionOf: (id) => this.#options.credentials.find(id),
    });
    const log = (error?: AwsError): void => {
      const principal = typeof session === "string" ? undefined : session.principal;
      this.#options.onCall({
        at: now,
        action: `${service.name}:${name}`,
        region: region.name,
        instanceId: principal?.kind === "instance" ? principal.instanceId : undefined,
        outcome: error?.code ?? "ok",
        message: error?.message,
      });
    };
    try {
      if (typeof session === "string") throw service.faults[session];
      if (this.#isThrottled(`${service.name}:${name}`)) throw service.faults.throttled;
      const answer = await service.run(
        this.#call(service, { request, region, requestId, now, session, action: name }),
      );
      log();
      return withId(answer, requestId);
    } catch (error) {
      const told = asAwsError(error);
      log(told);
      return withId(service.refuse(told, requestId), requestId);
    }
  }

  /** By host name; by what the signature is for where a test comes by an address. */
  #endpoint(request: HttpRequest) {
    const { cloud } = this.#options;
    const host = (request.headers["host"] ?? "").replace(/:\d+$/, "");
    const named = endpointOf(host, cloud);
    if (named !== undefined || !/^[\d.]+$|^localhost$/.test(host)) return named;
    const [, scoped, serviceName] =
      /Credential=[^/]+\/\d{8}\/([^/]+)\/([^/]+)\//.exec(request.headers["authorization"] ?? "") ?? [];
    const service = SERVICES.find((one) => one.name === serviceName);
    const region = cloud.regions.get(scoped ?? "");
    return service === undefined || region === undefined ? undefined : { service, region };
  }

  #call(service: Service, asked: Omit<Call, "cloud" | "authorize" | "may">): Call {
    const { cloud } = this.#options;
    const judge = (action: string, resource: Resource, context: Context = {}) =>
      this.#judge(asked.session, action, resource.arn, {
        ...this.#globalContext(asked),
        ...context,
        ...resource.context,
      });
    return {
      ...asked,
      cloud,
      may: (action, resource, context) => judge(action, resource, context) === "allowed",
      authorize(action, resources, context) {
        for (const resource of resources) {
          const answer = judge(action, resource, context);
          if (answer === "allowed") continue;
          const explicit = answer === "explicitly denied";
          throw service.denied({
            caller: callerArn(cloud, asked.session),
            action,
            resource: resource.arn,
            explicit,
          });
        }
      },
    };
  }

  #judge({ principal }: Session, action: string, resource: string, context: Context) {
    if (principal.kind === "user") return "allowed";
    const role = this.#options.cloud.roles.get(principal.role);
    const policies = (role?.policies ?? []).map((json) => this.#policy(json, principal.role));
    return evaluate(policies, { action, resource, context });
  }

  /** https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html */
  #globalContext({ session, region, request, now }: Omit<Call, "cloud" | "authorize" | "may">): Context {
    const { cloud } = this.#options;
    const { accountId, partition } = cloud;
    const { principal } = session;
    return {
      "aws:CurrentTime": new Date(now).toISOString(),
      "aws:EpochTime": String(Math.floor(now / 1000)),
      "aws:PrincipalAccount": accountId,
      "aws:PrincipalArn":
        principal.kind === "instance" ? cloud.roles.get(principal.role)?.arn : callerArn(cloud, session),
      "aws:PrincipalType": principal.kind === "instance" ? "AssumedRole" : "User",
      "aws:RequestedRegion": region.name,
      "aws:SecureTransport": "true",
      "aws:SourceIp": request.from,
      "aws:UserAgent": request.headers["user-agent"],
      ...(principal.kind === "user"
        ? {}
        : {
            "ec2:SourceInstanceARN": `arn:${partition}:ec2:${principal.region}:${accountId}:instance/${principal.instanceId}`,
            "aws:userid": `AROALAB:${principal.instanceId}`,
          }),
    };
  }

  #policy(json: string, owner: string): Policy {
    const known = this.#policies.get(json) ?? parsePolicy(json, owner);
    this.#policies.set(json, known);
    return known;
  }

  #isThrottled(action: string): boolean {
    const [service] = action.split(":");
    const fitting = this.#throttles.find(
      (one) => one.calls > 0 && (one.action === action || one.action === `${service}:*`),
    );
    if (fitting !== undefined) fitting.calls--;
    return fitting !== undefined;
  }
}

function callerArn({ partition, accountId }: LabCloud, { principal }: Session): string {
  return principal.kind === "user"
    ? `arn:${partition}:iam::${accountId}:user/${principal.name}`
    : `arn:${partition}:sts::${accountId}:assumed-role/${principal.role}/${principal.instanceId}`;
}

function asAwsError(error: unknown): AwsError {
  if (error instanceof AwsError) return error;
  if (error instanceof CloudError) return new AwsError(error.code, error.message);
  const said = error instanceof Error ? error.message : String(error);
  return new AwsError("InternalError", `the lab failed: ${said}`, 500);
}

function withId(answer: HttpAnswer, requestId: string): HttpAnswer {
  return { ...answer, headers: { "x-amzn-requestid": requestId, ...answer.headers } };
}
