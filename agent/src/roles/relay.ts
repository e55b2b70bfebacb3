/**
 * The relay role: DERP over TLS on one TCP port and STUN on one UDP port, in one process.
 *
 * Without certificate files it makes a self-signed certificate; the entry for the relay map then
 * pins it by its hash. Another role may serve other paths of the same TLS port.
 */
import { createServer, type Server as HttpsServer } from "node:https";
import { join } from "node:path";
import { Ip, IpPort } from "../base/address.ts";
import { UsageError } from "../base/errors.ts";
import type { NodePublic } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import { type Calendar, millis, type WallTime } from "../base/time.ts";
import type { DerpCounters } from "../core/derp/server-counters.ts";
import { DerpServer } from "../core/derp/server.ts";
import { type DerpRegion, derpRegionToJson, type DerpRegionJson } from "../core/path/derp-map.ts";
import { regionId } from "../core/path/path.ts";
import { type AcmeCertificate, type AcmeSettings, keepAcmeCertificate } from "../io/acme-certificate.ts";
import { systemCalendar } from "../io/calendar.ts";
import { listenTcp } from "../io/listen.ts";
import { nodeSuite } from "../io/node-suite.ts";
import { systemRandom } from "../io/random.ts";
import { loadRelayKey } from "../io/relay-key.ts";
import { attachRelay, relaySecureContext } from "../io/relay-server.ts";
import { startStunServer, type StunServer } from "../io/stun-server.ts";
import { readCertificate, selfSignedCertificate, type TlsCertificate } from "../io/tls-certificate.ts";

export interface RelayOptions {
  /** Where to listen on TCP; "::" takes both families, port 0 is any that is free. */
  readonly listen: { readonly host: string; readonly port: number };
  /** UDP. 0 is any that is free, -1 is no STUN. */
  readonly stunPort: number;
  /** The name or address by which clients know the relay. */
  readonly hostname: string;
  /** The addresses to put into the relay map. @default none: clients ask DNS for the host name */
  readonly addresses?: readonly Ip[];
  readonly stateDir: string;
  /** PEM. Both or none. @default a self-signed certificate, kept in the state directory */
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  /** Gets a certificate for `hostname` from an authority. @default none is asked */
  readonly acme?: AcmeSettings | undefined;
  /** 900–999 are free for private relays. */
  readonly regionId: number;
  /** Short, such as "nyc". */
  readonly regionCode: string;
  /** @default the code */
  readonly regionName?: string | undefined;
  /** Whether a key may use this relay. @default everybody may */
  readonly allow?: (key: NodePublic, remote: IpPort) => boolean;
  /** Serves what is not the relay's on the same port: adds its own listeners, and answers every other path. */
  readonly share?: (server: HttpsServer) => void;
  readonly log: Log;
  readonly calendar?: Calendar;
}

export interface Relay {
  readonly address: IpPort;
  readonly stunAddress: IpPort | undefined;
  readonly serverKey: NodePublic;
  /** "sha256-raw:<hex>" of a self-signed certificate; undefined where an authority vouches for it. */
  readonly certName: string | undefined;
  /** Whether an authority vouches for the certificate, so that clients need no pin. */
  readonly isPublic: boolean;
  /** The pin of whatever certificate it began with. */
  readonly certPin: string;
  readonly region: DerpRegion;
  /** The same as it stands in a DERPMap. */
  readonly derpMapRegion: DerpRegionJson;
  readonly counters: DerpCounters;
  /** When the certificate in use ends. */
  certificateEnds(): WallTime;
  close(): Promise<void>;
}

const KEY_FILE = "relay-key.json";
const CERTIFICATE_FILE = "relay-tls.pem";
/** The meta certificate holds for 30 days, and certificate files change when they are renewed. */
const RENEW_EVERY = millis(86_400_000);

/** @throws OperationError where a port, file or certificate can not be used, UsageError for options that make no sense */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  checkOptions(options);
  const { log, listen, calendar = systemCalendar, allow, share } = options;
  const serverKey = await loadRelayKey(join(options.stateDir, KEY_FILE));
  const derp = new DerpServer({
    suite: nodeSuite,
    random: systemRandom,
    serverKey,
    ...(allow === undefined ? {} : { allow }),
  });
  let server: HttpsServer | undefined;
  let inUse: TlsCertificate | undefined;
  const serve = (certificate: TlsCertificate): void => {
    inUse = certificate;
    server?.setSecureContext(relaySecureContext(certificate, derp.publicKey, calendar.now()));
  };
  const acme = await startAcme(options, calendar, serve);
  const load = async () => acme?.current ?? (await loadCertificate(options, calendar));
  const certificate = await load();
  if (certificate.notAfter < calendar.now()) {
    log.warn("certificate-ended", {
      file: options.certFile,
      ended: new Date(certificate.notAfter).toISOString(),
    });
  }
  server = createServer(relaySecureContext(certificate, derp.publicKey, calendar.now()));
  server.on("tlsClientError", (error) => log.debug("tls-client", { error: error.message }));
  const attached = attachRelay({ server, derp, log, shared: share !== undefined });
  share?.(server);
  const listener = await listenTcp(server, listen.host, listen.port).catch((error: unknown) => {
    acme?.close();
    throw error;
  });
  const { address } = listener;
  const stun = await startStun(options).catch(async (error: unknown) => {
    await listener.close();
    throw error;
  });
  const renewal = setInterval(() => void renew(load, serve, log), RENEW_EVERY);
  renewal.unref();
  const certName = options.certFile === undefined && acme === undefined ? certificate.pin : undefined;
  const region = regionOf(options, address.port, stun?.port, certName);
  log.info("relay-listening", { port: address.port, stun: stun?.port, key: derp.publicKey.short });
  return {
    address,
    stunAddress: stun === undefined ? undefined : new IpPort(address.ip, stun.port),
    serverKey: derp.publicKey,
    certName,
    isPublic: acme !== undefined,
    certPin: certificate.pin,
    region,
    derpMapRegion: derpRegionToJson(region),
    counters: derp.counters,
    certificateEnds: () => (inUse ?? certificate).notAfter,
    async close() {
      clearInterval(renewal);
      acme?.close();
      attached.close();
      await Promise.all([listener.close(), stun?.close()]);
    },
  };
}

function checkOptions(options: RelayOptions): void {
  if ((options.certFile === undefined) !== (options.keyFile === undefined)) {
    throw new UsageError("relay-certificate", "give --cert-file and --key-file together, or neither of them");
  }
}

function loadCertificate(options: RelayOptions, calendar: Calendar): Promise<TlsCertificate> {
  const { certFile, keyFile, stateDir, hostname, addresses = [] } = options;
  if (certFile !== undefined && keyFile !== undefined) return readCertificate(certFile, keyFile);
  const names = [...new Set([hostname, ...addresses.map((ip) => ip.text)])];
  return selfSignedCertificate({ stateDir, names, calendar, fileName: CERTIFICATE_FILE });
}

async function startAcme(
  { acme, hostname, listen, stateDir, log }: RelayOptions,
  calendar: Calendar,
  onCertificate: (certificate: TlsCertificate) => void,
): Promise<AcmeCertificate | undefined> {
  if (acme === undefined) return undefined;
  const { host } = listen;
  return await keepAcmeCertificate({ ...acme, name: hostname, host, stateDir, calendar, log, onCertificate });
}

async function renew(
  load: () => Promise<TlsCertificate>,
  serve: (certificate: TlsCertificate) => void,
  log: Log,
): Promise<void> {
  try {
    serve(await load());
  } catch (error) {
    // What was loaded before goes on serving.
    log.warn("certificate-renewal", {
      error: error instanceof Error ? error.message : String(error),
    });
  }
}

async function startStun(options: RelayOptions): Promise<StunServer | undefined> {
  if (options.stunPort < 0) return undefined;
  return await startStunServer({ host: options.listen.host, port: options.stunPort });
}

function regionOf(
  options: RelayOptions,
  derpPort: number,
  stunPort: number | undefined,
  certName: string | undefined,
): DerpRegion {
  const { hostname, addresses = [], regionCode } = options;
  const id = regionId(options.regionId);
  const literal = Ip.tryParse(hostname);
  const given = addresses.length === 0 && literal !== undefined ? [literal] : addresses;
  const familyOf = (isV4: boolean): string | undefined =>
    given.find((ip) => ip.isV4 === isV4)?.text ?? (given.length > 0 ? "none" : undefined);
  return {
    id,
    code: regionCode,
    name: options.regionName ?? regionCode,
    avoid: false,
    noMeasureNoHome: false,
    nodes: [
      {
        name: `${id}a`,
        regionId: id,
        hostName: hostname,
        certName,
        ipv4: familyOf(true),
        ipv6: familyOf(false),
        stunPort: stunPort ?? -1,
        derpPort,
        stunOnly: false,
        canPort80: false,
        insecureForTests: false,
      },
    ],
  };
}
