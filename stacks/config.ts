/**
 * What the stacks are made from: `sallyport.config.json`, overridden field by field by the cdktf context "sallyport".
 *
 * Everything is checked here, once, and all that is wrong is said together. The constructs check what they are given again,
 * since others use them without this file. sallyport.config.schema.json is made from this: `npm run config-schema`.
 */
import { z } from "zod";
import { checkAcmeDirectory } from "../constructs/acme.ts";
import { checkBundleFile, checkedBundleUrl } from "../constructs/agent-bundle.ts";
import { checkedArn, checkedParameterName } from "../constructs/auth-key.ts";
import { checkedCidrBlock, checkedLoginServer } from "../constructs/checked.ts";
import { CIDR_BLOCK_RULE } from "../constructs/tunnel-network.ts";
import { contradictions } from "./contradictions.ts";
import { REGIONS } from "./regions.ts";

const wholePort = "give a whole number from 1 to 65535";
const CIDR_RULE = 'give an IPv4 range such as "10.80.0.0/16"';
const PARAMETER_RULE = 'give the name of a parameter such as "/sallyport/auth-key", never the key itself';

export const STACKS = ["exit-node-stack", "relay-stack", "coordination-stack"] as const;
export type StackName = (typeof STACKS)[number];

const text = (remedy: string, pattern: RegExp) =>
  z.string({ error: remedy }).regex(pattern, { error: remedy, abort: true });
/** The constructs' own rule, which throws; it says "it" of the field. */
const rule = (check: (value: string) => unknown) => (value: string, context: z.RefinementCtx) => {
  try {
    check(value);
  } catch (error) {
    const message = (error instanceof Error ? error.message : String(error)).replace(/\.$/, "");
    context.addIssue({ code: "custom", message });
  }
};
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
    regionName: text(
      "give 1 to 64 letters, digits, spaces and simple marks",
      /^[\p{L}\p{N}][\p{L}\p{N} .,()'-]{0,63}$/u,
    ).optional(),
    hostname: text("give a DNS name", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i).optional(),
  })
  .describe("How relays appear in the relay map. Further regions count on from regionId.");

const acme = z
  .strictObject({
    termsAgreed: z.literal(true, { error: "give true once you agree to the authority's terms" }),
    email: z.email({ error: "give an e-mail address" }).optional(),
    directory: z
      .url({ protocol: /^https$/, error: "give a directory, https://…", abort: true })
      .superRefine(rule((one) => checkAcmeDirectory(one, "it")))
      .optional(),
  })
  .describe(
    "Certificates of a public authority (Let's Encrypt) for servers. Stock Tailscale clients need them.",
  );

const agent = z
  .union(
    [
      z.strictObject({
        file: z
          .string()
          .min(1, { error: "give the archive's path", abort: true })
          .superRefine(rule((one) => checkBundleFile(one, ""))),
      }),
      z.strictObject({
        url: z
          .url({ protocol: /^https$/, error: "give an address, https://…", abort: true })
          .superRefine(rule((one) => checkedBundleUrl(one, "it"))),
        sha256: z
          .string()
          .regex(/^[0-9a-f]{64}$/, "give 64 hex digits, what `sha256sum` says of the archive"),
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
    .url({
      protocol: /^https$/,
      error: 'give an address such as "https://control.example.com"',
      abort: true,
    })
    .superRefine(rule((one) => checkedLoginServer(one, "it")))
    .optional(),
  authKeyParameter: text(PARAMETER_RULE, /^(?!.*(tskey-|hskey-|spkey-))\/?[\w.-]+(\/[\w.-]+)*$/)
    .superRefine(rule((one) => checkedParameterName(one, "it")))
    .optional(),
  authKeyRegion: z.enum(REGIONS, { error: "give the region of authKeyParameter" }).optional(),
  authKeySecretArn: text("give the ARN of a secret, never the key itself", /^arn:aws[a-z-]*:secretsmanager:/)
    .superRefine(rule((one) => checkedArn(one, "secretsmanager", "it")))
    .optional(),
  hostname: text(
    "give 1 to 63 letters, digits and hyphens, a hyphen neither first nor last",
    /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i,
  ).optional(),
  domain: text("give a suffix such as mesh.example.com", /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/).optional(),
  relay: relay.optional(),
  acme: acme.optional(),
  selfHealing: yesOrNo().default(false),
  keepIdentity: yesOrNo().optional(),
  sessionManager: yesOrNo().default(false),
  cidrBlock: text(CIDR_RULE, /^\d+\.\d+\.\d+\.\d+\/\d+$/)
    .superRefine(rule((one) => checkedCidrBlock(one, { prop: "it", ...CIDR_BLOCK_RULE })))
    .optional(),
  availabilityZone: text(
    'give a zone of the region such as "us-east-1a"',
    /^[a-z]{2}(-[a-z]+)+-\d+[a-z]$/,
  ).optional(),
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
  const lines: string[] = [];
  const wrong = new Set<string>();
  let merged: Record<string, unknown> = {};
  for (const source of sources) {
    const content = withoutSchema(readSource(source, lines));
    const read = fields.partial().safeParse(content);
    for (const issue of read.error?.issues ?? []) {
      lines.push(...describe(issue, source.name));
      wrong.add(String(issue.path[0]));
    }
    merged = { ...merged, ...(typeof content === "object" ? content : {}) };
  }
  // The fields that are right, so that what is wrong with them together is said at once too.
  const right = Object.entries(merged).filter(
    ([name]) => Object.hasOwn(fields.shape, name) && !wrong.has(name),
  );
  const config = fields.parse(Object.fromEntries(right));
  lines.push(...contradictions(config, wrong));
  if (lines.length === 0) return config;
  throw new ConfigError(withoutKeys(`The configuration can not be used:\n  ${lines.join("\n  ")}`));
}

function readSource(source: ConfigSource, lines: string[]): unknown {
  if (source.content === undefined) return {};
  if (typeof source.content !== "string") return source.content;
  try {
    return JSON.parse(source.content) as unknown;
  } catch (cause) {
    lines.push(`${source.name}: not JSON${whereIn(source.content, String(cause))}`);
    return {};
  }
}

/** Where JSON.parse knows it. Its own message may quote the file, and so a key that stands in it. */
function whereIn(text: string, message: string): string {
  const [, position] = / at position (\d+)/.exec(message) ?? [];
  if (position === undefined) return ": is every name and text in double quotes?";
  const before = text.slice(0, Number(position)).split("\n");
  return `: see line ${before.length}, column ${(before.at(-1) ?? "").length + 1}`;
}

/** A key that stands where it does not belong must not get into a log, too. */
function withoutKeys(message: string): string {
  return message.replaceAll(/\b(tskey|hskey|spkey)-[\w-]+/gi, "(a key)");
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
