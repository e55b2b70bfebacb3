/**
 * A scenario: stacks, the hosts around them, and what must come true. Files are YAML; scenario.schema.json beside this tells
 * editors what they may hold.
 */
import { readFileSync } from "node:fs";
import { basename, dirname } from "node:path";
import { parse } from "yaml";
import * as z from "zod";
import { UsageError } from "../../agent/src/base/errors.ts";
import type { World } from "../world.ts";

const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$/i);
const port = z.int().min(1).max(65535);
const delay = z.number().min(0).max(2000);
const text = z.string().min(1);
const within = z
  .string()
  .regex(/^\d{1,4}s$/)
  .describe('Such as "20s".');

const stacks = z.union([
  z.strictObject({
    app: text.describe("An app of stacks, as a path from the scenario's file."),
    config: z.record(z.string(), z.unknown()).optional().describe("As in sallyport.config.json."),
    only: z.array(text).min(1).optional().describe("The stacks to build. Without it all."),
  }),
  z.strictObject({
    files: z
      .array(text)
      .min(1)
      .describe("What `cdktf synth` or `terraform show -json` wrote, as paths from the scenario's file."),
  }),
]);

const host = z.strictObject({
  role: z.enum(["client", "relay", "control", "web", "plain"]).default("client"),
  nat: z.enum(["easy", "hard", "udp-blocked", "none"]).optional(),
  network: name.optional().describe("One of networks, which it shares with others."),
  delayMs: delay.optional().describe("One way, to the middle of the internet."),
  port: port.optional().describe("The client's UDP port."),
});

const network = z.strictObject({
  nat: z.enum(["easy", "hard", "udp-blocked"]),
  forward: z.record(z.string().regex(/^\d+$/), name).optional().describe("UDP ports of the router → hosts."),
});

const existing = z.strictObject({
  vpc: z.strictObject({ id: text, cidr: text }),
  subnets: z.array(z.strictObject({ id: text, cidr: text, zone: text, public: z.boolean() })).min(1),
  natGateway: z.strictObject({ id: text.optional(), publicIp: text }).optional(),
});

/** What is looked at, from where. */
const target = { from: name, to: name.optional(), by: name.optional(), within: within.optional() };

const step = z.union([
  z.strictObject({
    ...target,
    expect: z
      .string()
      .regex(/^(direct|relay|blocked|reachable|same node|(relay|exit address|tag [a-z:]+) = .+)$/)
      .describe(
        "direct, relay (or “relay = CODE” of the region that has to carry it), reachable (a ping of ICMP through the tunnel is answered), blocked (exit traffic gets nowhere), same node, “exit address = ADDRESS”, where ADDRESS may be nat-gateway or ingress, or “tag KEY = VALUE” of the instance “to”, while “from” sends packets to it",
      ),
    sourcePort: port.optional().describe("Of the exit traffic: it is UDP then."),
    mustFail: z
      .boolean()
      .optional()
      .describe("A test of the test: what was broken on purpose before must show, and stay so."),
  }),
  z.strictObject({ run: text.describe("A line for sh."), on: name }),
  z.strictObject({ terminate: name.describe("An instance: it fails, as its host would.") }),
  z.strictObject({ refresh: name.describe("The group of an instance is renewed.") }),
  z.strictObject({
    cut: name.describe("A host or router of the lab loses its way to the internet."),
    only: z.literal("udp").optional().describe("Everything else still passes."),
  }),
  z.strictObject({ mend: name }),
]);

const fields = z.strictObject({
  about: text.describe("One line for people."),
  stacks,
  leaveOut: z.array(text).optional().describe("Types or addresses of resources that are not built."),
  existing: existing.optional().describe("The network that is there before the stacks."),
  hosts: z.record(name, host).default({}),
  networks: z.record(name, network).default({}),
  latency: z.record(z.string(), delay).default({}).describe("One way, by region."),
  store: z
    .record(text, text)
    .default({})
    .describe("Parameters and secrets that people write by hand; join-token is what devices join with."),
  names: z.record(text, name).default({}).describe("Names in DNS → hosts."),
  steps: z.array(step).min(1),
});

export type Step = z.infer<typeof step>;

export interface Scenario extends z.infer<typeof fields> {
  /** Of the file, without its ending. */
  readonly name: string;
  /** What its paths start from. */
  readonly folder: string;
}

/** @throws UsageError that names all that is wrong in it */
export function readScenario(file: string): Scenario {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch {
    throw new UsageError("lab-scenario", `${file} can not be read: name a scenario's YAML file`);
  }
  return parseScenario(content, file);
}

/** @param file for its name, its paths and messages. @throws UsageError */
export function parseScenario(content: string, file: string): Scenario {
  let json: unknown;
  try {
    json = parse(content);
  } catch (cause) {
    const said = cause instanceof Error ? (cause.message.split("\n")[0] ?? "") : String(cause);
    throw new UsageError("lab-scenario", `${file} is not YAML: ${said}`);
  }
  const read = fields.safeParse(json);
  if (!read.success) {
    const lines = read.error.issues.map((issue) => `${issue.path.join(".") || "it"}: ${issue.message}`);
    throw new UsageError("lab-scenario", `${file} is no scenario:\n  ${lines.join("\n  ")}`);
  }
  return { ...read.data, name: basename(file).replace(/(\.lab)?\.ya?ml$/, ""), folder: dirname(file) };
}

export function worldOf({
  hosts,
  networks,
  latency,
}: Pick<Scenario, "hosts" | "networks" | "latency">): World {
  return {
    hosts: Object.entries(hosts).map(([hostName, { nat, network: shared, delayMs, port: own, role }]) => ({
      name: hostName,
      role,
      ...(nat === undefined ? {} : { nat }),
      ...(shared === undefined ? {} : { network: shared }),
      ...(delayMs === undefined ? {} : { delayMs }),
      ...(own === undefined ? {} : { port: own }),
    })),
    networks: Object.fromEntries(
      Object.entries(networks).map(([key, { nat, forward }]) => [
        key,
        { nat, ...(forward === undefined ? {} : { forward }) },
      ]),
    ),
    regionDelayMs: latency,
  };
}

/** For editors. */
export function scenarioJsonSchema(): object {
  return { ...z.toJSONSchema(fields, { io: "input" }), title: "A scenario of Sallyport's lab" };
}
