/** The settings of the roles, and the file /etc/sallyport/agent.json that may hold them. */
import * as z from "zod";
import { Ip, IpPort } from "../base/address.ts";
import { OperationError, UsageError } from "../base/errors.ts";
import { acceptingFirewalls } from "../core/exit/foreign-firewalls.ts";
import { type EgressMode, egressModes, type Ipv6Exit, ipv6Exits } from "../core/exit/facts.ts";
import { logLevels } from "./logger.ts";
import { type Setting, type Settings, problemOf } from "./settings.ts";
import { readStateFile } from "./state-store.ts";

export const DEFAULT_CONFIG_PATH = "/etc/sallyport/agent.json";
export const DEFAULT_STATE_DIR = "/var/lib/sallyport";
export const DEFAULT_SOCKET = "/run/sallyport/agent.sock";
export const DEFAULT_CONTROL_SOCKET = "/run/sallyport/control.sock";

/** Where a server listens; without a host on every address of this machine. */
export interface Listen {
  readonly host: string | undefined;
  readonly port: number;
}

/** Whether a role writes how it is to the tags of its instance. `auto`: where this is an EC2 instance. */
export type HealthTagsMode = "auto" | "on" | "off";

/** Where a secret is read from. Only a variable may hold it itself. */
export type SecretSource =
  | { readonly kind: "stdin" }
  | { readonly kind: "file"; readonly path: string }
  /** The name of a parameter of AWS Systems Manager, or the ARN of one in another region. */
  | { readonly kind: "ssm"; readonly name: string }
  /** The ARN of a secret of AWS Secrets Manager. */
  | { readonly kind: "secretsmanager"; readonly arn: string }
  | { readonly kind: "literal"; readonly secret: string };

/** A UDP datagram over IPv4 carries 65,507 bytes, of which WireGuard takes 32. */
const MAX_MTU = 65_475;
/** Of the data plane. */
const MAX_WORKERS = 16;

const INTERFACE_REMEDY = "an interface by its name, MAC address or id in the cloud (eni-…)";
const CERT_REMEDY = "a file with the certificate chain (PEM)";
const KEY_REMEDY = "a file with the certificate's private key (PEM)";

export const commonSettings = {
  stateDir: text("--state-dir", "SALLYPORT_STATE_DIR", "the directory that keeps keys and state"),
  socket: text("--socket", "SALLYPORT_SOCKET", "the path of the Unix socket for the commands"),
  logLevel: {
    flag: "--log-level",
    variable: "SALLYPORT_LOG_LEVEL",
    schema: z.enum(logLevels),
    remedy: logLevels.join(", "),
  },
} satisfies Settings;

/** How a server asks an authority for its certificate. */
export function acmeSettings(prefix: string) {
  const yesOrNo = (flagName: string, name: string) => ({
    ...{ flag: flagName, variable: `${prefix}_${name}`, schema: flag(), remedy: "true or false" },
  });
  return {
    acme: yesOrNo("--acme", "ACME"),
    acmeTermsAgreed: yesOrNo("--acme-terms-agreed", "ACME_TERMS_AGREED"),
    acmeEmail: {
      flag: "--acme-email",
      variable: `${prefix}_ACME_EMAIL`,
      schema: z.email(),
      remedy: "an e-mail address",
    },
    acmeDirectory: {
      flag: "--acme-directory",
      variable: `${prefix}_ACME_DIRECTORY`,
      schema: z.url({ protocol: /^https$/ }),
      remedy: "the address of an authority's directory, https://…",
    },
    acmeHttpPort: port("--acme-http-port", `${prefix}_ACME_HTTP_PORT`),
  } satisfies Settings;
}

export const daemonSettings = {
  ...commonSettings,
  port: port("--port", "SALLYPORT_PORT"),
  tun: text("--tun", "SALLYPORT_TUN", "the name of the TUN device, or memory for none"),
  mtu: {
    flag: "--mtu",
    variable: "SALLYPORT_MTU",
    schema: wholeNumber(1280, MAX_MTU),
    remedy: `the tunnel's packet size in bytes, from 1280 to ${MAX_MTU}`,
  },
  workers: {
    flag: "--workers",
    variable: "SALLYPORT_WORKERS",
    schema: wholeNumber(1, MAX_WORKERS),
    remedy: `how many threads move packets, from 1 to ${MAX_WORKERS}`,
  },
  loginServer: loginServer(),
  authKey: authKey(),
  authKeyWait: {
    flag: "--auth-key-wait",
    variable: "SALLYPORT_AUTH_KEY_WAIT",
    schema: wholeNumber(0, 3_600),
    remedy: "how many seconds the file of --auth-key may take to be there, up to 3600",
  },
  endpoints: endpoints(),
  healthCheckPort: port("--health-check-port", "SALLYPORT_HEALTH_CHECK_PORT"),
  certPin: {
    flag: "--cert-pin",
    variable: "SALLYPORT_CERT_PIN",
    schema: z.string().regex(/^sha256-raw:[0-9a-f]{64}$/),
    remedy: "sha256-raw: and the 64 hex digits of the SHA-256 of the server's certificate",
  },
  hostname: hostname("--hostname", "SALLYPORT_HOSTNAME"),
  advertiseExitNode: onOff("--advertise-exit-node", "SALLYPORT_ADVERTISE_EXIT_NODE"),
  advertiseRoutes: list("--advertise-routes", "SALLYPORT_ADVERTISE_ROUTES", "networks such as 10.1.0.0/16"),
  forwardAccept: list("--forward-accept", "SALLYPORT_FORWARD_ACCEPT", acceptingFirewalls.join(", ")),
  acceptRoutes: onOff("--accept-routes", "SALLYPORT_ACCEPT_ROUTES"),
  exitNode: {
    flag: "--exit-node",
    variable: "SALLYPORT_EXIT_NODE",
    schema: z.string().regex(/^[\w.:-]*$/),
    remedy: "a peer's name or IP, auto for the nearest, or nothing for none",
  },
  exitNodeAllowLanAccess: onOff("--exit-node-allow-lan-access", "SALLYPORT_EXIT_NODE_ALLOW_LAN_ACCESS"),
  exitNodeDns: list("--exit-node-dns", "SALLYPORT_EXIT_NODE_DNS", "IP addresses of DNS servers"),
  ...forwardingSettings(),
  healthTags: healthTags("SALLYPORT_HEALTH_TAGS"),
  metrics: metrics(),
  embeddedMetrics: embeddedMetrics(),
} satisfies Settings;

export const relaySettings = {
  stateDir: text("--state-dir", "SALLYPORT_RELAY_STATE_DIR", "the directory that keeps key and certificate"),
  logLevel: commonSettings.logLevel,
  listen: listen("SALLYPORT_RELAY_LISTEN"),
  stunPort: port("--stun-port", "SALLYPORT_RELAY_STUN_PORT"),
  hostname: serverName("SALLYPORT_RELAY_HOSTNAME"),
  regionId: {
    flag: "--region-id",
    variable: "SALLYPORT_RELAY_REGION_ID",
    schema: wholeNumber(1, 65_535),
    remedy: "a number from 1 to 65535; 900 to 999 are for own relays",
  },
  regionCode: {
    flag: "--region-code",
    variable: "SALLYPORT_RELAY_REGION_CODE",
    schema: z.string().regex(/^[a-z0-9][a-z0-9-]{0,31}$/),
    remedy: "a short name such as nyc: lower-case letters, digits and hyphens",
  },
  regionName: text("--region-name", "SALLYPORT_RELAY_REGION_NAME", "a name for people, such as New York"),
  ...acmeSettings("SALLYPORT_RELAY"),
  certFile: text("--cert-file", "SALLYPORT_RELAY_CERT_FILE", CERT_REMEDY),
  keyFile: text("--key-file", "SALLYPORT_RELAY_KEY_FILE", KEY_REMEDY),
  address: {
    flag: "--address",
    variable: "SALLYPORT_RELAY_ADDRESS",
    schema: z.union([z.ipv4(), z.ipv6()]),
    remedy: "the IP address by which clients reach this relay",
  },
  healthTags: healthTags("SALLYPORT_RELAY_HEALTH_TAGS"),
  coordination: {
    flag: "--coordination",
    variable: "SALLYPORT_RELAY_COORDINATION",
    schema: flag(),
    remedy: "true or false",
  },
} satisfies Settings;

export const controlSettings = {
  stateDir: text(
    "--state-dir",
    "SALLYPORT_CONTROL_STATE_DIR",
    "the directory that keeps the network's state",
  ),
  socket: text(
    "--socket",
    "SALLYPORT_CONTROL_SOCKET",
    "the path of the Unix socket for `sallyport control` commands",
  ),
  logLevel: commonSettings.logLevel,
  listen: listen("SALLYPORT_CONTROL_LISTEN"),
  hostname: serverName("SALLYPORT_CONTROL_HOSTNAME"),
  derpMap: text("--derp-map", "SALLYPORT_CONTROL_DERP_MAP", "a JSON file with the relay map"),
  autoApproveRoutes: list(
    "--auto-approve-routes",
    "SALLYPORT_CONTROL_AUTO_APPROVE_ROUTES",
    "networks such as 10.1.0.0/16, or 10.1.0.0/16=tag:router",
  ),
  authKeyFile: text("--auth-key-file", "SALLYPORT_CONTROL_AUTH_KEY_FILE", "a file for the first auth key"),
  joinTokenFile: text("--join-token-file", "SALLYPORT_CONTROL_JOIN_TOKEN_FILE", "a file for the join token"),
  healthTags: healthTags("SALLYPORT_CONTROL_HEALTH_TAGS"),
  joinToken: {
    flag: "--join-token",
    variable: "SALLYPORT_CONTROL_JOIN_TOKEN",
    schema: z
      .string()
      .regex(/^ssm:\/?[\w.-]+(\/[\w.-]+)*$/)
      .transform((value) => ({ parameter: value.slice("ssm:".length) })),
    remedy: "ssm: and the name of a parameter of AWS Systems Manager",
  },
  ...acmeSettings("SALLYPORT_CONTROL"),
  certFile: text("--cert-file", "SALLYPORT_CONTROL_CERT_FILE", CERT_REMEDY),
  keyFile: text("--key-file", "SALLYPORT_CONTROL_KEY_FILE", KEY_REMEDY),
  domain: {
    flag: "--domain",
    variable: "SALLYPORT_CONTROL_DOMAIN",
    schema: z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/),
    remedy: "the suffix of the nodes' names, such as mesh.example.com",
  },
} satisfies Settings;

/** The file as a whole; the daemon's settings are its top level. Unknown keys are refused. */
export const agentConfigSchema = z.strictObject({
  ...schemasOf(daemonSettings),
  relay: z.strictObject(schemasOf(relaySettings)).optional(),
  control: z.strictObject(schemasOf(controlSettings)).optional(),
});

export interface ConfigFile {
  readonly path: string;
  readonly daemon: Readonly<Record<string, unknown>>;
  readonly relay: Readonly<Record<string, unknown>>;
  readonly control: Readonly<Record<string, unknown>>;
}

/**
 * Reads the file; mistakes in it are added to `problems`.
 * @param path the default file may be missing, one that was asked for may not
 * @throws OperationError when it can not be read
 */
export async function readConfigFile(path: string | undefined, problems: string[]): Promise<ConfigFile> {
  const at = path ?? DEFAULT_CONFIG_PATH;
  const found = await readStateFile(at);
  if (found === undefined && path !== undefined) {
    throw new OperationError("config-missing", `${at} is not there: create it or leave --config out`);
  }
  const json = found === undefined ? {} : parseJson(at, found);
  const checked = agentConfigSchema.safeParse(json);
  if (!checked.success) problems.push(...checked.error.issues.flatMap((issue) => explain(issue, at, json)));
  const { relay, control, ...daemon } = isRecord(json) ? json : {};
  return { path: at, daemon, relay: isRecord(relay) ? relay : {}, control: isRecord(control) ? control : {} };
}

function parseJson(path: string, text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new UsageError("config-not-json", `${path} is not JSON: correct it, for example with jq . ${path}`);
  }
}

function explain(issue: z.core.$ZodIssue, path: string, json: unknown): readonly string[] {
  const place = issue.path.map(String);
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => {
      const known = Object.keys(sectionAt(place)).join(", ");
      return `"${[...place, key].join(".")}" in ${path} is no setting: remove it; there are ${known}`;
    });
  }
  const name = place.at(-1) ?? "";
  const setting = sectionAt(place.slice(0, -1))[name];
  if (setting === undefined)
    return [`${name === "" ? path : `"${name}" in ${path}`} is not an object: write {…}`];
  return [problemOf(`"${place.join(".")}" in ${path}`, valueAt(json, place), setting)];
}

function sectionAt(place: readonly string[]): Settings {
  if (place.length === 0) return daemonSettings;
  return place[0] === "relay" ? relaySettings : controlSettings;
}

function valueAt(json: unknown, place: readonly string[]): unknown {
  return place.reduce<unknown>((value, key) => (isRecord(value) ? value[key] : undefined), json);
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function schemasOf<S extends Settings>(settings: S): Readonly<Record<keyof S & string, z.ZodOptional>> {
  const schemas = Object.entries(settings).map(([name, { schema }]) => [name, schema.optional()]);
  return Object.fromEntries(schemas) as Record<keyof S & string, z.ZodOptional>;
}

/** How the traffic of others leaves this node. */
function forwardingSettings() {
  const mode: Setting<EgressMode> = {
    flag: "--egress-mode",
    variable: "SALLYPORT_EGRESS_MODE",
    schema: z.enum(egressModes),
    remedy: egressModes.join(", "),
  };
  const addresses: Setting<readonly Ip[]> = {
    flag: "--egress-addresses",
    variable: "SALLYPORT_EGRESS_ADDRESSES",
    schema: listOf((text) => Ip.tryParse(text)),
    remedy: "the IP addresses that exit traffic may be seen from, with commas between them",
  };
  const ipv6: Setting<Ipv6Exit> = {
    flag: "--ipv6-exit",
    variable: "SALLYPORT_IPV6_EXIT",
    schema: z.enum(ipv6Exits),
    remedy: "block, or snat to let IPv6 out by the ingress interface's address",
  };
  return {
    egressMode: mode,
    egressAddresses: addresses,
    ipv6Exit: ipv6,
    ingressInterface: text("--ingress-interface", "SALLYPORT_INGRESS_INTERFACE", INTERFACE_REMEDY),
    egressInterface: text("--egress-interface", "SALLYPORT_EGRESS_INTERFACE", INTERFACE_REMEDY),
    controlByIngress: {
      flag: "--control-by-ingress",
      variable: "SALLYPORT_CONTROL_BY_INGRESS",
      schema: flag(),
      remedy: "true or false",
    },
    nftTable: {
      flag: "--nft-table",
      variable: "SALLYPORT_NFT_TABLE",
      schema: z.string().regex(/^[a-z][a-z0-9_-]{0,62}$/),
      remedy: "a name for the table of nftables, such as sallyport: lower-case letters, digits and hyphens",
    },
  };
}

/** A list in the file, or a text with commas. */
function listOf<T>(parse: (text: string) => T | undefined): z.ZodType<readonly T[]> {
  const split = z
    .string()
    .min(1)
    .transform((text) => text.split(",").map((part) => part.trim()));
  return z.union([z.array(z.string()), split]).transform((texts, context) => {
    const parsed = texts.map(parse);
    if (parsed.includes(undefined)) context.addIssue({ code: "custom", message: "malformed" });
    return parsed.filter((one) => one !== undefined);
  });
}

function flag(): z.ZodType<boolean> {
  return z.union([z.boolean(), z.enum(["true", "false"]).transform((value) => value === "true")]);
}

function onOff(name: string, variable: string): Setting<boolean> {
  return { flag: name, variable, schema: flag(), remedy: "true or false" };
}

/** Separated by commas; in the file an array, too. */
function list(flag: string, variable: string, what: string): Setting<readonly string[]> {
  const split = z.string().transform((value) =>
    value
      .split(",")
      .map((item) => item.trim())
      .filter((item) => item !== ""),
  );
  return {
    flag,
    variable,
    schema: z.union([z.array(z.string()), split]),
    remedy: `${what}, separated by commas`,
  };
}

function healthTags(variable: string): Setting<HealthTagsMode> {
  return {
    flag: "--health-tags",
    variable,
    schema: z.enum(["auto", "on", "off"]),
    remedy: "auto (on where this is an EC2 instance), on or off",
  };
}

function text(flag: string, variable: string, remedy: string): Setting<string> {
  return { flag, variable, schema: z.string().min(1), remedy };
}

function port(flag: string, variable: string): Setting<number> {
  return { flag, variable, schema: wholeNumber(1, 65_535), remedy: "a port from 1 to 65535" };
}

function endpoints(): Setting<readonly IpPort[]> {
  return {
    flag: "--endpoint",
    variable: "SALLYPORT_ENDPOINTS",
    schema: listOf((text) => {
      const parsed = IpPort.tryParse(text);
      return parsed?.port === 0 ? undefined : parsed;
    }),
    remedy: "ADDRESS:PORT, by which peers reach this node from outside",
  };
}

function wholeNumber(min: number, max: number): z.ZodType<number> {
  const digits = z
    .string()
    .regex(/^\d{1,9}$/)
    .transform(Number);
  return z.union([z.number(), digits]).pipe(z.int().min(min).max(max));
}

function listen(variable: string): Setting<Listen> {
  const schema = z.string().transform((value, context): Listen => {
    const found = parseListen(value);
    if (found !== undefined) return found;
    context.addIssue("no address and port");
    return z.NEVER;
  });
  return { flag: "--listen", variable, schema, remedy: "ADDRESS:PORT or :PORT, with a port from 1 to 65535" };
}

function metrics(): Setting<Listen | "off"> {
  const schema = z.string().transform((value, context): Listen | "off" => {
    const found = value === "off" ? value : parseListen(value);
    if (found !== undefined) return found;
    context.addIssue("no address and port");
    return z.NEVER;
  });
  const remedy = "ADDRESS:PORT or :PORT, where Prometheus finds /metrics, or off";
  return { flag: "--metrics", variable: "SALLYPORT_METRICS", schema, remedy };
}

function embeddedMetrics(): Setting<number | "stdout" | "off"> {
  const udp = z
    .string()
    .regex(/^udp:\d{1,5}$/)
    .transform((value) => Number(value.slice("udp:".length)))
    .refine((value) => value >= 1 && value <= 65_535);
  return {
    flag: "--embedded-metrics",
    variable: "SALLYPORT_EMBEDDED_METRICS",
    schema: z.union([z.literal("off"), z.literal("stdout"), udp]),
    remedy: "udp:25888 for CloudWatch's agent on this machine, stdout or off",
  };
}

/** "ADDRESS:PORT", "[ADDRESS]:PORT" or ":PORT"; undefined where it is none of them. */
export function parseListen(text: string): Listen | undefined {
  if (!/^(\[[0-9a-fA-F:.]+\]|[\w.-]*):\d{1,5}$/.test(text)) return undefined;
  const colon = text.lastIndexOf(":");
  const host = text.slice(0, colon).replace(/^\[|\]$/g, "");
  const port = Number(text.slice(colon + 1));
  if (port < 1 || port > 65_535) return undefined;
  return { host: host === "" ? undefined : host, port };
}

function hostname(flag: string, variable: string): Setting<string> {
  const schema = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/i);
  return {
    flag,
    variable,
    schema,
    remedy: "1 to 63 letters, digits and hyphens, a hyphen neither first nor last",
  };
}

function serverName(variable: string): Setting<string> {
  const schema = z.string().regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i);
  return { flag: "--hostname", variable, schema, remedy: "the DNS name by which clients reach this server" };
}

function loginServer(): Setting<string> {
  const schema = z.string().regex(/^https?:\/\/[^\s'"`\\@?#]+$/);
  return {
    flag: "--login-server",
    variable: "SALLYPORT_LOGIN_SERVER",
    schema,
    remedy: "the coordination server as https://ADDRESS, without user, password or query",
  };
}

function authKey(): Setting<SecretSource> {
  const elsewhere = z
    .string()
    .regex(
      /^(-|file:.+|ssm:(arn:aws[a-z-]*:ssm:[a-z0-9-]+:\d{12}:parameter)?\/?[\w.-]+(\/[\w.-]+)*|secretsmanager:arn:[\w/+=.@:-]+)$/,
    )
    .transform(secretSource);
  const literal = z
    .string()
    .min(1)
    .transform((secret): SecretSource => ({ kind: "literal", secret }));
  return {
    flag: "--auth-key",
    variable: "SALLYPORT_AUTH_KEY",
    schema: elsewhere,
    variableSchema: z.union([elsewhere, literal]),
    remedy: "- for standard input, file:PATH or ssm:NAME, so that no list of processes shows the key",
    secret: true,
  };
}

function secretSource(value: string): SecretSource {
  const rest = value.slice(value.indexOf(":") + 1);
  if (value.startsWith("file:")) return { kind: "file", path: rest };
  if (value.startsWith("ssm:")) return { kind: "ssm", name: rest };
  return value === "-" ? { kind: "stdin" } : { kind: "secretsmanager", arn: rest };
}
