/**
 * What the stacks are made from: `sallyport.config.json`, overridden field by field by the cdktf context "sallyport".
 *
 * Everything is checked here, once, and all that is wrong is said together. The constructs check what they are given again,
 * since others use them without this file. sallyport.config.schema.json is made from this: `npm run config-schema`.
 */
import { z } from "zod";
import { REGIONS } from "./regions.ts";

const wholePort = "give a whole number from 1 to 65535";
const CIDR_RULE = 'give an IPv4 range such as "10.80.0.0/16"';
const PARAMETER_RULE = 'give the name of a parameter such as "/sallyport/auth-key", never the key itself';

export const STACKS = ["exit-node-stack", "relay-stack", "coordination-stack"] as const;
export type StackName = (typeof STACKS)[number];

const text = (remedy: string, pattern: RegExp) => z.string({ error: remedy }).regex(pattern, remedy);
const yesOrNo = () => z.boolean({ error: "give true or false" });

const network = z
  .strictObject({
    vpcId: text('give a VPC such as "vpc-0123456789abcdef0"', /^vpc-[0-9a-f]+$/),
    publicSubnetId: text('give a subnet such as "subnet-0123456789abcdef0"', /^subnet-[0-9a-f]+$/),
    privateSubnetId: text(
      'give a subnet such as "subnet-0123456789abcdef0"',
      /^subnet-[0-9a-f]+$/,
    ).optional(),
    privateRouteTableId: text('give a table such as "rtb-0123456789abcdef0"', /^rtb-[0-9a-f]+$/).optional(),
  })
  .describe("A network that exists. Without it, each stack makes one.");

const relay = z
  .strictObject({
    regionId: z.int({ error: wholePort }).min(1, wholePort).max(65535, wholePort).optional(),
    regionCode: text("give lower-case letters, digits and hyphens", /^[a-z0-9][a-z0-9-]{0,31}$/).optional(),
    regionName: z.string().min(1).max(64).optional(),
    hostname: text("give a DNS name", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i).optional(),
  })
  .describe("How relays appear in the relay map. Further regions count on from regionId.");

const acme = z
  .strictObject({
    termsAgreed: z.literal(true, { error: "give true once you agree to the authority's terms" }),
    email: z.email({ error: "give an e-mail address" }).optional(),
    directory: z.url({ protocol: /^https$/, error: "give a directory, https://…" }).optional(),
  })
  .describe(
    "Certificates of a public authority (Let's Encrypt) for servers. Stock Tailscale clients need them.",
  );

const agent = z
  .union(
    [
      z.strictObject({ file: z.string().min(1) }),
      z.strictObject({
        url: z.url({ protocol: /^https$/ }),
        sha256: z.string().regex(/^[0-9a-f]{64}$/),
      }),
      z.literal("image"),
    ],
    { error: 'give { "file": … }, { "url": …, "sha256": … } or "image" for one that is on machineImageId' },
  )
  .describe("The agent's archive. Without it, the one that `npm run bundle` makes.");

const backend = z
  .discriminatedUnion(
    "kind",
    [
      z.strictObject({ kind: z.literal("local") }),
      z.strictObject({
        kind: z.literal("s3"),
        bucket: text("give a bucket's name", /^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/),
        region: z.enum(REGIONS, { error: "give a region of AWS" }),
        prefix: text("give letters, digits, slashes and hyphens", /^[\w/-]+$/).default("sallyport"),
      }),
    ],
    { error: 'give { "kind": "local" } or { "kind": "s3", "bucket": …, "region": … }' },
  )
  .describe("Where Terraform keeps its state; in S3 it is locked while it is used.");

export const fields = z.strictObject({
  stacks: z
    .array(z.enum(STACKS, { error: `give ${STACKS.join(", ")}` }))
    .min(1, "name at least one stack")
    .refine((stacks) => new Set(stacks).size === stacks.length, "a stack stands there twice")
    .default(["exit-node-stack"]),
  regions: z
    .array(z.enum(REGIONS, { error: (issue) => `${shown(issue.input)} is not a region of AWS` }))
    .min(1, "name at least one region")
    .refine((regions) => new Set(regions).size === regions.length, "a region stands there twice")
    .default(["us-east-1"]),
  port: z
    .number({ error: wholePort })
    .int({ error: wholePort })
    .min(1, { error: wholePort })
    .max(65535, { error: wholePort })
    .default(41641),
  openTunnelPort: yesOrNo().default(true),
  address: z.enum(["dynamic", "elastic"], { error: 'give "dynamic" or "elastic"' }).optional(),
  egress: z
    .enum(["direct", "nat-gateway", "existing-nat"], {
      error: 'give "direct", "nat-gateway" or "existing-nat"',
    })
    .default("nat-gateway"),
  natGatewayId: text('give a gateway such as "nat-0123456789abcdef0"', /^nat-[0-9a-f]+$/).optional(),
  exitTraffic: z.enum(["any", "web"], { error: 'give "any" or "web"' }).default("any"),
  architecture: z.enum(["arm64", "x86_64"], { error: 'give "arm64" or "x86_64"' }).default("arm64"),
  instanceType: text('give a type such as "t4g.nano"', /^[a-z0-9-]+\.[a-z0-9-]+$/).optional(),
  machineImageId: text('give an image such as "ami-0123456789abcdef0"', /^ami-[0-9a-f]{8,17}$/).optional(),
  agent: agent.optional(),
  loginServer: z
    .url({ protocol: /^https$/, error: 'give an address such as "https://control.example.com"' })
    .optional(),
  authKeyParameter: text(PARAMETER_RULE, /^(?!.*(tskey-|hskey-|spkey-))\/?[\w.-]+(\/[\w.-]+)*$/).optional(),
  authKeyRegion: z.enum(REGIONS, { error: "give the region of authKeyParameter" }).optional(),
  authKeySecretArn: text(
    "give the ARN of a secret, never the key itself",
    /^arn:aws[a-z-]*:secretsmanager:/,
  ).optional(),
  hostname: text(
    "give 1 to 63 letters, digits and hyphens, a hyphen neither first nor last",
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i,
  ).optional(),
  domain: text("give a suffix such as mesh.example.com", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/).optional(),
  relay: relay.optional(),
  acme: acme.optional(),
  selfHealing: yesOrNo().default(false),
  sessionManager: yesOrNo().default(false),
  cidrBlock: text(CIDR_RULE, /^\d+\.\d+\.\d+\.\d+\/\d+$/).optional(),
  network: network.optional(),
  backend: backend.optional(),
});

export type StackConfig = Readonly<z.infer<typeof fields>>;

/** Configuration that can not be used. The message lists all that is wrong, one line each. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export interface ConfigSource {
  /** What a person calls it: a file's name, "context sallyport". */
  readonly name: string;
  /** Text of JSON, or what was read from it. Nothing for a source that is not there. */
  readonly content: unknown;
}

/** Later sources override earlier ones, field by field. Throws `ConfigError`. */
export function parseConfig(sources: readonly ConfigSource[]): StackConfig {
  const wrong: string[] = [];
  let merged: Record<string, unknown> = {};
  for (const source of sources) {
    const content = withoutSchema(readSource(source, wrong));
    const read = fields.partial().safeParse(content);
    if (!read.success) wrong.push(...read.error.issues.flatMap((issue) => describe(issue, source.name)));
    merged = { ...merged, ...(typeof content === "object" ? content : {}) };
  }
  if (wrong.length === 0) wrong.push(...contradictions(fields.parse(merged)));
  if (wrong.length > 0) throw new ConfigError(`The configuration can not be used:\n  ${wrong.join("\n  ")}`);
  return fields.parse(merged);
}

/** What is wrong only together. */
function contradictions(config: StackConfig): readonly string[] {
  const { loginServer, authKeyParameter, authKeySecretArn, network: placed, egress } = config;
  const hasKey = authKeyParameter !== undefined || authKeySecretArn !== undefined;
  const found: (string | false)[] = [
    hasKey && loginServer === undefined && "authKeyParameter: it is for a loginServer: name that too",
    authKeyParameter !== undefined &&
      authKeySecretArn !== undefined &&
      "authKeySecretArn: there is authKeyParameter already: give one",
    config.authKeyRegion !== undefined &&
      authKeyParameter === undefined &&
      "authKeyRegion: it is for an authKeyParameter: name that too",
    config.acme !== undefined &&
      loginServer !== undefined &&
      config.stacks.every((stack) => stack === "exit-node-stack") &&
      "acme: no server is made here that could use it: leave it or loginServer out",
    placed !== undefined &&
      config.cidrBlock !== undefined &&
      "cidrBlock: it is for a network that is made: leave out network, or this",
    placed !== undefined &&
      config.regions.length > 1 &&
      "network: it lies in one region: name one in regions",
    egress === "nat-gateway" &&
      placed !== undefined &&
      placed.privateRouteTableId === undefined &&
      "network.privateRouteTableId: egress nat-gateway adds a route to it: give it, or set egress to direct or existing-nat",
    egress !== "direct" &&
      placed !== undefined &&
      placed.privateSubnetId === undefined &&
      `network.privateSubnetId: egress ${egress} needs a private subnet: give it, or set egress to direct`,
    egress === "existing-nat" &&
      placed === undefined &&
      "egress: existing-nat is for a network that exists: give network, or set nat-gateway",
    config.agent === "image" &&
      config.machineImageId === undefined &&
      'machineImageId: agent is "image": name the image that has it',
    config.agent === "image" &&
      loginServer === undefined &&
      'loginServer: agent is "image": name the server to join',
    config.address === "dynamic" &&
      egress !== "direct" &&
      "address: EC2 gives dynamic ones only to instances with one interface: set egress to direct, or address to elastic",
    config.selfHealing &&
      egress === "direct" &&
      "selfHealing: a replaced instance would have another address, which no output tells; one that stays is on an interface of its own: set egress to nat-gateway or existing-nat",
  ];
  return found.filter((line) => line !== false);
}

function readSource(source: ConfigSource, wrong: string[]): unknown {
  if (source.content === undefined) return {};
  if (typeof source.content !== "string") return source.content;
  try {
    return JSON.parse(source.content) as unknown;
  } catch (cause) {
    wrong.push(`${source.name}: not JSON: ${cause instanceof Error ? cause.message : String(cause)}`);
    return {};
  }
}

/** Editors read it, we don't. */
function withoutSchema(content: unknown): unknown {
  if (typeof content !== "object" || content === null || !("$schema" in content)) return content;
  const { $schema: _, ...others } = content;
  return others;
}

function describe(issue: z.core.$ZodIssue, source: string): readonly string[] {
  if (issue.code === "unrecognized_keys") {
    const known = Object.keys(fields.shape).join(", ");
    const at = issue.path.length === 0 ? "" : `${issue.path.join(".")}.`;
    const hint = issue.path.length === 0 ? `; there are ${known}` : "";
    return issue.keys.map((key) => `${source}: ${at}${key}: no such field${hint}`);
  }
  const field = issue.path.join(".");
  return [`${source}: ${field === "" ? "" : `${field}: `}${issue.message}`];
}

function shown(input: unknown): string {
  return typeof input === "string" ? `"${input}"` : String(input);
}

/** For editors: the fields as a JSON schema, all of them optional. */
export function configJsonSchema(): object {
  const schema = z.toJSONSchema(fields, { io: "input" });
  return {
    ...schema,
    title: "sallyport.config.json",
    properties: { $schema: { type: "string" }, ...schema.properties },
  };
}
