/**
 * What the stacks are made from: `sallyport.config.json`, overridden field by field by the cdktf context "sallyport".
 *
 * Everything is checked here, once, and all that is wrong is said together. The constructs check what they are given again,
 * since others use them without this file.
 */
import { z } from "zod";
import { REGIONS } from "./regions.ts";

const wholePort = "give a whole number from 1 to 65535";

const fields = z.strictObject({
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
  openTunnelPort: z.boolean({ error: "give true or false" }).default(true),
  architecture: z.enum(["arm64", "x86_64"], { error: 'give "arm64" or "x86_64"' }).default("arm64"),
  instanceType: z
    .string({ error: 'give a type such as "t4g.nano"' })
    .regex(/^[a-z0-9-]+\.[a-z0-9-]+$/, 'give a type such as "t4g.nano"')
    .optional(),
  machineImageId: z
    .string({ error: 'give an image such as "ami-0123456789abcdef0"' })
    .regex(/^ami-[0-9a-f]{8,17}$/, 'give an image such as "ami-0123456789abcdef0"')
    .optional(),
  loginServer: z
    .url({ protocol: /^https$/, error: 'give an address such as "https://control.example.com"' })
    .optional(),
  hostname: z
    .string({ error: "give a name" })
    .regex(
      /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i,
      "give 1 to 63 letters, digits and hyphens, a hyphen neither first nor last",
    )
    .optional(),
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
    const content = readSource(source, wrong);
    const read = fields.partial().safeParse(content);
    if (!read.success) wrong.push(...read.error.issues.flatMap((issue) => describe(issue, source.name)));
    merged = { ...merged, ...(typeof content === "object" ? content : {}) };
  }
  if (wrong.length > 0) throw new ConfigError(`The configuration can not be used:\n  ${wrong.join("\n  ")}`);
  return fields.parse(merged);
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

function describe(issue: z.core.$ZodIssue, source: string): readonly string[] {
  if (issue.code === "unrecognized_keys") {
    const known = Object.keys(fields.shape).join(", ");
    return issue.keys.map((key) => `${source}: ${key}: no such field; there are ${known}`);
  }
  const field = issue.path.join(".");
  return [`${source}: ${field === "" ? "" : `${field}: `}${issue.message}`];
}

function shown(input: unknown): string {
  return typeof input === "string" ? `"${input}"` : String(input);
}
