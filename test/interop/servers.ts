/** Relays and coordination servers, ours and headscale, each on its own machine of the world. */
import { X509Certificate } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { systemCalendar } from "../../agent/src/io/calendar.ts";
import { pinOf, selfSignedCertificate } from "../../agent/src/io/tls-certificate.ts";
import { CONTROL, RELAY, type World } from "./world.ts";

/** What a device needs to join. */
export interface Server {
  readonly url: string;
  /** PEM; for programs that trust certificates. */
  readonly certFile: string;
  /** "sha256-raw:…"; for programs that trust this one certificate. */
  readonly certPin: string;
  /** Holds a reusable key. */
  readonly authKeyFile: string;
}

export const RELAY_CODE = "nyc";
const REGION = 900;
const START_TIMEOUT_MS = 15_000;

/** @returns the file with the relay map that has this relay */
export async function startRelay(world: World): Promise<string> {
  const [folder, ip] = [world.folderOf(RELAY), world.addressOf(RELAY)];
  const relay = world.start(RELAY, {
    name: "relay",
    command: world.sallyport(
      ...["relay", "--state-dir", folder, "--listen", "0.0.0.0:443", "--stun-port", "3478"],
      ...["--hostname", ip, "--address", ip, "--region-id", String(REGION), "--region-code", RELAY_CODE],
    ),
  });
  const map = join(folder, "derp-map.json");
  await relay.readyFile(map, START_TIMEOUT_MS);
  return map;
}

/** An unmodified derper. @returns the file with the relay map that has it */
export async function startDerper(world: World, program: string): Promise<string> {
  const [folder, ip] = [world.folderOf(RELAY), world.addressOf(RELAY)];
  const derper = world.start(RELAY, {
    name: "derper",
    command: [
      ...[program, "-a", ":443", "-http-port", "-1", "-stun-port", "3478", "-hostname", ip],
      ...["-certmode", "manual", "-certdir", folder, "-c", join(folder, "key.json")],
    ],
  });
  // For an address it makes a certificate, and says how a relay map pins it.
  const line = await derper.readyLine(/sha256-raw:[0-9a-f]{64}/, START_TIMEOUT_MS);
  await derper.readyLine(/serving on/, START_TIMEOUT_MS);
  const [certName] = /sha256-raw:[0-9a-f]{64}/.exec(line) ?? [];
  const node = {
    Name: `${REGION}a`,
    RegionID: REGION,
    HostName: ip,
    IPv4: ip,
    IPv6: "none",
    CertName: certName,
  };
  const region = { RegionID: REGION, RegionCode: RELAY_CODE, RegionName: RELAY_CODE, Nodes: [node] };
  const map = join(folder, "derp-map.json");
  writeFileSync(map, JSON.stringify({ Regions: { [REGION]: region } }));
  return map;
}

export async function startControl(world: World, relayMap: string): Promise<Server> {
  const [folder, ip] = [world.folderOf(CONTROL), world.addressOf(CONTROL)];
  const [authKeyFile, socket] = [join(folder, "auth-key"), join(folder, "sock")];
  const control = world.start(CONTROL, {
    name: "control",
    command: world.sallyport(
      ...["control", "--state-dir", folder, "--listen", "0.0.0.0:443", "--hostname", ip],
      ...["--socket", socket, "--derp-map", relayMap, "--auth-key-file", authKeyFile],
    ),
  });
  await control.readyFile(socket, START_TIMEOUT_MS);
  const certificate = new X509Certificate(readFileSync(join(folder, "tls.pem")));
  const certFile = join(folder, "certificate.pem");
  writeFileSync(certFile, certificate.toString());
  return { url: `https://${ip}`, certFile, certPin: pinOf(certificate.raw), authKeyFile };
}

/** headscale with our relay as its only one. */
export async function startHeadscale(world: World, program: string, relayMap: string): Promise<Server> {
  const [folder, ip] = [world.folderOf(CONTROL), world.addressOf(CONTROL)];
  const certificate = await selfSignedCertificate({
    stateDir: folder,
    names: [ip],
    calendar: systemCalendar,
  });
  const certFile = join(folder, "certificate.pem");
  writeFileSync(certFile, certificate.certPem);
  writeFileSync(join(folder, "key.pem"), certificate.keyPem, { mode: 0o600 });
  const relays = join(folder, "relays.yaml");
  writeFileSync(relays, relayMapYaml(readFileSync(relayMap, "utf8")));
  const config = join(folder, "config.yaml");
  writeFileSync(config, JSON.stringify(headscaleConfig(folder, ip, relays)));
  const start = (name: string, ...args: readonly string[]) => ({
    name,
    command: [program, "--config", config, ...args],
  });
  const server = world.start(CONTROL, start("headscale", "serve"));
  await server.readyFile(join(folder, "sock"), START_TIMEOUT_MS);
  const say = async (...args: readonly string[]): Promise<string> => {
    const { code, lines } = await world.run(CONTROL, start("headscale-command", ...args));
    if (code === 0) return lines.join("\n");
    throw new Error(`headscale ${args.join(" ")} failed: ${lines.join("\n")}`);
  };
  await say("users", "create", "lab");
  const made = await say(
    "preauthkeys",
    "create",
    "--user",
    "1",
    "--reusable",
    "--expiration",
    "24h",
    "-o",
    "json",
  );
  const key = /"key":\s*"([^"]+)"/.exec(made)?.[1];
  if (key === undefined) throw new Error(`headscale gave no key: ${made}`);
  const authKeyFile = join(folder, "auth-key");
  writeFileSync(authKeyFile, `${key}\n`, { mode: 0o600 });
  return { url: `https://${ip}`, certFile, certPin: certificate.pin, authKeyFile };
}

/** JSON is YAML. */
function headscaleConfig(folder: string, ip: string, relays: string): object {
  return {
    server_url: `https://${ip}`,
    listen_addr: "0.0.0.0:443",
    metrics_listen_addr: "",
    grpc_listen_addr: "127.0.0.1:50443",
    tls_cert_path: join(folder, "certificate.pem"),
    tls_key_path: join(folder, "key.pem"),
    noise: { private_key_path: join(folder, "noise.key") },
    prefixes: { v4: "100.64.0.0/10", v6: "fd7a:115c:a1e0::/48", allocation: "sequential" },
    derp: { server: { enabled: false }, urls: [], paths: [relays], auto_update_enabled: false },
    database: { type: "sqlite", sqlite: { path: join(folder, "db.sqlite"), write_ahead_log: true } },
    dns: {
      magic_dns: true,
      base_domain: "mesh.test",
      override_local_dns: false,
      nameservers: { global: [] },
    },
    unix_socket: join(folder, "sock"),
    unix_socket_permission: "0700",
    disable_check_updates: true,
    logtail: { enabled: false },
  };
}

/** A relay map as headscale reads it: YAML, the wire's names in lower case, regions by number. */
function relayMapYaml(json: string): string {
  return JSON.stringify(lowerCaseKeys(JSON.parse(json))).replace(/"(\d+)":/g, "$1: ");
}

function lowerCaseKeys(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(lowerCaseKeys);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, inner]) => [name.toLowerCase(), lowerCaseKeys(inner)]),
  );
}
