/**
 * The instance metadata service, version 2. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html
 */
import { randomBytes } from "node:crypto";
import type { LabCloud, LabInstance, LabInterface } from "../cloud/cloud.ts";
import type { Credentials } from "./credentials.ts";
import { decodedUri, type HttpAnswer, type HttpRequest } from "./http.ts";

export interface MetadataOptions {
  readonly cloud: LabCloud;
  readonly credentials: Credentials;
  readonly now: () => number;
}

/** A folder by names, a text, or nothing. */
type Tree = string | undefined | { readonly [name: string]: Tree };

const TOKEN_PATH = "/latest/api/token";
const TTL_HEADER = "x-aws-ec2-metadata-token-ttl-seconds";
const TOKEN_HEADER = "x-aws-ec2-metadata-token";
const MAX_TTL_S = 21_600;

export class Metadata {
  readonly #options: MetadataOptions;
  /** Tokens and whose they are; of ended ones, none. */
  readonly #tokens = new Map<string, { readonly instanceId: string; readonly expires: number }>();

  constructor(options: MetadataOptions) {
    this.#options = options;
  }

  /** @param instance who asks; undefined for somebody who is no instance */
  answer(request: HttpRequest, instance: LabInstance | undefined): HttpAnswer {
    if (instance === undefined) return plain(404, "this address belongs to no instance\n");
    const { httpEndpoint, httpTokens } = instance.metadataOptions;
    if (httpEndpoint === "disabled") return plain(403, "");
    if (request.path === TOKEN_PATH) return this.#issueToken(request, instance.id);
    if (request.method !== "GET" && request.method !== "HEAD") return plain(405, "");
    const token = request.headers[TOKEN_HEADER];
    if (token === undefined ? httpTokens === "required" : !this.#isValid(token, instance.id))
      return plain(401, "");
    return this.#look(request.path, instance);
  }

  #issueToken({ method, headers }: HttpRequest, instanceId: string): HttpAnswer {
    if (method !== "PUT") return plain(405, "");
    // A proxy that somebody can be talked into using adds this.
    if (headers["x-forwarded-for"] !== undefined) return plain(403, "");
    const ttl = Number(headers[TTL_HEADER]);
    if (!Number.isInteger(ttl) || ttl < 1 || ttl > MAX_TTL_S) return plain(400, "");
    const now = this.#options.now();
    for (const [token, { expires }] of this.#tokens) if (expires <= now) this.#tokens.delete(token);
    const token = `${randomBytes(40).toString("base64url")}==`;
    this.#tokens.set(token, { instanceId, expires: now + ttl * 1000 });
    return { status: 200, headers: { ...TEXT, [TTL_HEADER]: String(ttl) }, body: token };
  }

  #isValid(token: string, instanceId: string): boolean {
    const known = this.#tokens.get(token);
    return known?.instanceId === instanceId && this.#options.now() < known.expires;
  }

  #look(path: string, instance: LabInstance): HttpAnswer {
    const names = path
      .split("/")
      .filter((name) => name !== "")
      .map(decodedUri);
    let at: Tree = this.#tree(instance);
    for (const name of names) at = typeof at === "object" && Object.hasOwn(at, name) ? at[name] : undefined;
    if (at === undefined) return { status: 404, headers: { "content-type": "text/html" }, body: NOT_FOUND };
    return plain(200, typeof at === "string" ? at : listing(at));
  }

  #tree(instance: LabInstance): Tree {
    const [primary] = instance.interfaces;
    const latest: Tree = {
      dynamic: { "instance-identity": { document: this.#identity(instance) } },
      "meta-data": {
        "ami-id": instance.imageId,
        "ami-launch-index": "0",
        autoscaling: mapped(instance.lifecycle, ({ target }) => ({ "target-lifecycle-state": target })),
        hostname: mapped(primary?.privateIps[0], (ip) => privateName(ip, instance.region)),
        iam: this.#iam(instance),
        "instance-id": instance.id,
        "instance-life-cycle": "on-demand",
        "instance-type": instance.instanceType,
        "local-hostname": mapped(primary?.privateIps[0], (ip) => privateName(ip, instance.region)),
        "local-ipv4": primary?.privateIps[0],
        mac: primary?.mac,
        network: {
          interfaces: {
            macs: Object.fromEntries(
              instance.interfaces.map((one) => [one.mac, this.#interface(one, instance)]),
            ),
          },
        },
        placement: {
          "availability-zone": instance.zone,
          region: instance.region,
        },
        "public-hostname": mapped(primary?.publicIp, (ip) => publicName(ip, instance.region)),
        "public-ipv4": primary?.publicIp,
        "reservation-id": instance.id.replace(/^i-/, "r-"),
        "security-groups": primary?.securityGroups.map(({ name }) => name).join("\n"),
        services: { domain: "amazonaws.com", partition: this.#options.cloud.partition },
        tags:
          instance.metadataOptions.instanceMetadataTags === "enabled"
            ? { instance: { ...instance.tags } }
            : undefined,
      },
      "user-data": instance.userData === "" ? undefined : instance.userData,
    };
    return { latest, "2021-07-15": latest, "2024-04-11": latest };
  }

  #iam(instance: LabInstance): Tree {
    const { cloud, now } = this.#options;
    const session = this.#options.credentials.of(instance, now());
    if (session === undefined || instance.role === undefined) return undefined;
    const { accountId, partition } = cloud;
    const profile = `arn:${partition}:iam::${accountId}:instance-profile/${instance.instanceProfile ?? instance.role}`;
    const updated = { Code: "Success", LastUpdated: seconds(session.made) };
    return {
      info: json({ ...updated, InstanceProfileArn: profile, InstanceProfileId: "AIPALAB" }),
      "security-credentials": {
        [instance.role]: json({
          ...updated,
          Type: "AWS-HMAC",
          AccessKeyId: session.accessKeyId,
          SecretAccessKey: session.secretAccessKey,
          Token: session.sessionToken,
          Expiration: seconds(session.expires),
        }),
      },
    };
  }

  #interface(eni: LabInterface, instance: LabInstance): Tree {
    const region = this.#options.cloud.regions.get(instance.region);
    const [subnet, vpc] = [region?.subnets.get(eni.subnetId), region?.vpcs.get(eni.vpcId)];
    const { publicIp } = eni;
    return {
      "device-number": String(eni.attachment?.deviceIndex ?? 0),
      "interface-id": eni.id,
      "ipv4-associations": mapped(publicIp, (ip) => ({ [ip]: eni.privateIps[0] })),
      ipv6s: eni.ipv6s.length === 0 ? undefined : eni.ipv6s.join("\n"),
      "local-hostname": mapped(eni.privateIps[0], (ip) => privateName(ip, instance.region)),
      "local-ipv4s": eni.privateIps.join("\n"),
      mac: eni.mac,
      "network-card": "0",
      "owner-id": this.#options.cloud.accountId,
      "public-hostname": mapped(publicIp, (ip) => publicName(ip, instance.region)),
      "public-ipv4s": publicIp,
      "security-group-ids": eni.securityGroups.map(({ id }) => id).join("\n"),
      "security-groups": eni.securityGroups.map(({ name }) => name).join("\n"),
      "subnet-id": eni.subnetId,
      "subnet-ipv4-cidr-block": subnet?.cidrBlock,
      "subnet-ipv6-cidr-blocks": subnet?.ipv6CidrBlock,
      "vpc-id": eni.vpcId,
      "vpc-ipv4-cidr-block": vpc?.cidrBlock,
      "vpc-ipv4-cidr-blocks": vpc?.cidrBlock,
      "vpc-ipv6-cidr-blocks": vpc?.ipv6CidrBlock,
    };
  }

  #identity(instance: LabInstance): string {
    return json({
      accountId: this.#options.cloud.accountId,
      availabilityZone: instance.zone,
      imageId: instance.imageId,
      instanceId: instance.id,
      instanceType: instance.instanceType,
      pendingTime: seconds(instance.launchTime),
      privateIp: instance.interfaces[0]?.privateIps[0],
      region: instance.region,
      version: "2017-09-30",
    });
  }
}

/** The names that an address has in Amazon's DNS. */
export function privateName(ip: string, region: string): string {
  return `ip-${ip.replaceAll(".", "-")}.${region === "us-east-1" ? "ec2" : `${region}.compute`}.internal`;
}

export function publicName(ip: string, region: string): string {
  return `ec2-${ip.replaceAll(".", "-")}.${region === "us-east-1" ? "compute-1" : `${region}.compute`}.amazonaws.com`;
}

const TEXT = { "content-type": "text/plain", server: "EC2ws" };
const NOT_FOUND =
  '<?xml version="1.0" encoding="iso-8859-1"?>\n<html xmlns="http://www.w3.org/1999/xhtml"><head><title>404 - Not Found</title></head><body><h1>404 - Not Found</h1></body></html>\n';

function plain(status: number, body: string): HttpAnswer {
  return { status, headers: TEXT, body };
}

/** Names of folders end with a slash, but for those of a role or a tag, which are texts. */
function listing(folder: Readonly<Record<string, Tree>>): string {
  return Object.entries(folder)
    .filter(([, inside]) => inside !== undefined)
    .map(([name, inside]) => (typeof inside === "string" ? name : `${name}/`))
    .sort()
    .join("\n");
}

function mapped<T, U>(value: T | undefined, map: (value: T) => U): U | undefined {
  return value === undefined ? undefined : map(value);
}

const json = (value: object): string => JSON.stringify(value, undefined, 2);
const seconds = (at: number): string => new Date(at).toISOString().replace(/\.\d+/, "");
