/** The coordination server as a role: certificate, keys, state, listener, and the administrator's socket. */
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttpsServer, type Server as HttpsServer } from "node:https";
import { join } from "node:path";
import { type Ip, Prefix } from "../base/address.ts";
import { ParseError, OperationError, UsageError } from "../base/errors.ts";
import { clampPrivateKey, formatPrivateKey, MachinePrivate, parsePrivateKey } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import { randomBytes } from "../base/random.ts";
import type { WallTime } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import { Coordination } from "../engine/coordination.ts";
import type { RouteApproval } from "../engine/coordination-view.ts";
import { type AcmeCertificate, type AcmeSettings, keepAcmeCertificate } from "../io/acme-certificate.ts";
import { systemCalendar } from "../io/calendar.ts";
import { now } from "../io/clock.ts";
import { type ControlAdmin, serveControlAdmin } from "../io/control-admin.ts";
import { attachControl } from "../io/control-server.ts";
import { CoordinationDriver } from "../io/coordination-driver.ts";
import { type CoordinationStore, fileCoordinationStore } from "../io/coordination-store.ts";
import { listenTcp, type TcpListener } from "../io/listen.ts";
import { nodeSuite } from "../io/node-suite.ts";
import { systemRandom } from "../io/random.ts";
import { readStateFile, writeFileAtomic } from "../io/state-store.ts";
import { readCertificate, selfSignedCertificate, type TlsCertificate } from "../io/tls-certificate.ts";

export interface ControlRoleOptions {
  /** A TLS server that others serve, too, listen with and close; then `listen` and `certificate` are theirs. @default its own */
  readonly shared?: SharedServer | undefined;
  readonly listen: { readonly host: string; readonly port: number };
  readonly stateDir: string;
  /** What clients call this server, for its certificate and URL. @default the address it listens on */
  readonly hostname?: string | undefined;
  /** Serve without TLS, for a proxy that adds it or for tests. Unmodified tailscaled wants TLS. @default false */
  readonly plainHttp?: boolean | undefined;
  /** PEM files. @default a self-signed certificate, kept in the state directory */
  readonly certificate?: { readonly certFile: string; readonly keyFile: string } | undefined;
  /** Gets a certificate for `hostname` from an authority. @default none is asked */
  readonly acme?: AcmeSettings | undefined;
  /** DERPMap in the wire's form; one set later through the administrator's socket wins. */
  readonly derpMap: JsonObject;
  /** The administrator's socket. @default none */
  readonly socket?: string | undefined;
  /** Keys for the first nodes, one a line. Where there is no such file, it is made and holds one reusable key. */
  readonly authKeyFile?: string | undefined;
  /** What the nodes' names end with. @default "lab" */
  readonly domain?: string | undefined;
  /** Approve offered exit nodes: all, or those with one of these tags. @default true */
  readonly autoApproveExitNodes?: boolean | readonly string[] | undefined;
  /** Networks in which offered routes count at once: "10.1.0.0/16", or "10.1.0.0/16=tag:router" for nodes with that tag. */
  readonly autoApproveRoutes?: readonly string[] | undefined;
  readonly admitWithoutKey?: boolean | undefined;
  /** @default a file in the state directory */
  readonly store?: CoordinationStore | undefined;
  readonly log: Log;
}

export interface SharedServer {
  readonly server: HttpsServer;
  readonly port: number;
  /** "sha256-raw:…"; undefined where clients need none. */
  readonly certPin: string | undefined;
}

export interface ControlRole {
  readonly url: string;
  /** "mkey:…" */
  readonly publicKey: string;
  /** "sha256-raw:…" of the certificate; `undefined` without TLS, and where an authority vouches for it. */
  readonly certPin: string | undefined;
  readonly port: number;
  readonly coordination: Coordination;
  readonly driver: CoordinationDriver;
  /** When the certificate in use ends; `undefined` without one of its own. */
  certificateEnds(): WallTime | undefined;
  close(): Promise<void>;
}

/** @throws OperationError, UsageError */
export async function startControl(options: ControlRoleOptions): Promise<ControlRole> {
  const { log, stateDir } = options;
  const driver = await loadDriver(options);
  const noiseKey = await loadNoiseKey(join(stateDir, "control-key.json"));
  const { shared } = options;
  const isPlain = options.plainHttp === true || shared !== undefined;
  let tls: HttpsServer | undefined;
  const acme = isPlain
    ? undefined
    : await startAcme(options, ({ keyPem, certPem }) =>
        tls?.setSecureContext({ key: keyPem, cert: certPem, minVersion: "TLSv1.2" }),
      );
  const own = isPlain ? undefined : (acme?.current ?? (await loadCertificate(options)));
  if (own !== undefined) tls = createTlsServer(own);
  const server = shared?.server ?? tls ?? createHttpServer();
  const certPin = shared === undefined && acme === undefined ? own?.pin : shared?.certPin;
  const attached = attachControl({
    ...{ server, driver, noiseKey, log, shared: shared !== undefined },
    ...{ suite: nodeSuite, random: systemRandom },
  });
  let [admin, listener]: [ControlAdmin | undefined, TcpListener | undefined] = [undefined, undefined];
  const close = async (): Promise<void> => {
    acme?.close();
    await admin?.close();
    await driver.close();
    attached.close();
    await listener?.close();
  };
  try {
    if (options.authKeyFile !== undefined) await firstKeys(driver, options.authKeyFile);
    if (shared === undefined) listener = await listenTcp(server, options.listen.host, options.listen.port);
    const bound = listener?.address;
    const port = shared?.port ?? bound?.port ?? options.listen.port;
    if (options.socket !== undefined) admin = await serveControlAdmin({ path: options.socket, driver, log });
    const host = options.hostname ?? (bound === undefined ? "localhost" : hostOf(bound.ip));
    const url = `${options.plainHttp === true ? "http" : "https"}://${host}:${port}`;
    if (certPin !== undefined) await writeFileAtomic(join(stateDir, "cert-pin"), `${certPin}\n`);
    log.info("control-listening", { url, publicKey: attached.publicKey.text, certPin });
    return {
      ...{ url, publicKey: attached.publicKey.text, certPin, port },
      ...{ coordination: driver.coordination, driver, close },
      certificateEnds: () => (acme?.current ?? own)?.notAfter,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function hostOf(ip: Ip): string {
  return ip.isV4 ? ip.text : `[${ip.text}]`;
}

function parseRouteApproval(text: string): RouteApproval {
  const [network = "", tag, ...rest] = text.split("=");
  if (rest.length > 0 || (tag !== undefined && !tag.startsWith("tag:")) || !network.includes("/")) {
    throw new UsageError(
      "auto-approve-routes",
      `"${text}" says not which routes to approve: write 10.1.0.0/16, or 10.1.0.0/16=tag:router`,
    );
  }
  return { network: Prefix.parse(network), tag };
}

const STATE_FILE = "control-state.json";

async function loadDriver(options: ControlRoleOptions): Promise<CoordinationDriver> {
  const path = join(options.stateDir, STATE_FILE);
  const store = options.store ?? fileCoordinationStore(path);
  const coordination = new Coordination({
    random: systemRandom,
    calendar: systemCalendar,
    domain: options.domain ?? "lab",
    derpMap: options.derpMap,
    autoApproveExitNodes: options.autoApproveExitNodes ?? true,
    autoApproveRoutes: (options.autoApproveRoutes ?? []).map(parseRouteApproval),
    admitWithoutKey: options.admitWithoutKey,
  });
  const state = await store.load();
  try {
    if (state !== undefined) coordination.importState(state, now());
  } catch (error) {
    if (!(error instanceof ParseError)) throw error;
    throw new OperationError(
      "state-corrupt",
      `${path} is damaged and was left as it is (${error.message}): restore it from a backup, ` +
        "or move it away to start an empty network",
    );
  }
  return new CoordinationDriver(coordination, store, options.log);
}

/** The key by which clients know this server; a new one would be taken for an impostor by those that pin it. */
async function loadNoiseKey(path: string): Promise<MachinePrivate> {
  const text = await readStateFile(path);
  if (text === undefined) {
    const key = new MachinePrivate(clampPrivateKey(randomBytes(systemRandom, 32)));
    await writeFileAtomic(path, `${JSON.stringify({ PrivateKey: formatPrivateKey(key) })}\n`);
    return key;
  }
  try {
    const json = JSON.parse(text) as { readonly PrivateKey?: unknown } | null;
    return new MachinePrivate(parsePrivateKey(String(json?.PrivateKey)));
  } catch {
    // No cause: a JSON error quotes the text around the fault, which may be the key.
    throw new OperationError(
      "state-corrupt",
      `${path} holds no key and was left as it is: restore it from a backup, or remove it to get a new key`,
    );
  }
}

async function startAcme(
  { acme, hostname, listen: { host }, stateDir, log }: ControlRoleOptions,
  onCertificate: (certificate: TlsCertificate) => void,
): Promise<AcmeCertificate | undefined> {
  if (acme === undefined) return undefined;
  if (hostname === undefined) {
    throw new UsageError("acme-name", "--acme proves what clients connect to: give --hostname");
  }
  const calendar = systemCalendar;
  return await keepAcmeCertificate({ ...acme, name: hostname, host, stateDir, calendar, log, onCertificate });
}

function loadCertificate(options: ControlRoleOptions): Promise<TlsCertificate> {
  if (options.certificate !== undefined) {
    return readCertificate(options.certificate.certFile, options.certificate.keyFile);
  }
  const names = options.hostname === undefined ? ["localhost", "127.0.0.1", "::1"] : [options.hostname];
  return selfSignedCertificate({ stateDir: options.stateDir, names, calendar: systemCalendar });
}

function createTlsServer(certificate: TlsCertificate): HttpsServer {
  return createHttpsServer({
    key: certificate.keyPem,
    cert: certificate.certPem,
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
  });
}

async function firstKeys(driver: CoordinationDriver, path: string): Promise<void> {
  const text = await readStateFile(path);
  if (text === undefined) {
    const { text: key } = await driver.change(() => driver.coordination.createAuthKey({ reusable: true }));
    await writeFileAtomic(path, `${key}\n`);
    return;
  }
  const keys = text.split(/\s+/).filter((key) => key !== "");
  if (keys.length === 0 || keys.some((key) => key.length < SHORTEST_KEY)) {
    throw new UsageError(
      "auth-key-file",
      `${path} must hold auth keys of at least ${SHORTEST_KEY} characters, one a line; or remove it to have one made`,
    );
  }
  await driver.change(() => {
    for (const key of keys) driver.coordination.adoptAuthKey(key, { reusable: true });
  });
}

/** Shorter ones could be guessed. */
const SHORTEST_KEY = 20;
