/**
 * The way to a relay: TCP, TLS and the HTTP upgrade, up to the stream that carries DERP frames.
 *
 * Where the relay's certificates tell its key, the first frames leave together with the request
 * and no HTTP answer comes: one round trip less.
 */
import type { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { checkServerIdentity, connect as connectTls, type ConnectionOptions, type TLSSocket } from "node:tls";
import { Ip, IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { type Calendar, type Millis, millis, seconds, since } from "../base/time.ts";
import { DEFAULT_DERP_PORT, type DerpNode, type DerpRegion } from "../core/path/derp-map.ts";
import { systemCalendar } from "./calendar.ts";
import { now } from "./clock.ts";
import { type OwnNetwork, plainNetwork } from "./own-network.ts";
import { chainOf, checkPin, isPin, metaKeyIn } from "./relay-certificate.ts";
import { readHead, type RelayConnection, RelayStream } from "./relay-stream.ts";
import { codeOf } from "./system-error.ts";
import { raceTcp } from "./tcp-race.ts";

export interface DialOptions {
  readonly region: DerpRegion;
  /** Gives up when it fires. */
  readonly signal?: AbortSignal;
  /** Authorities that are trusted instead of the system's, in PEM. A pin in the relay map goes before. */
  readonly ca?: string;
  /** The local address to connect from. */
  readonly from?: Ip;
  /** @default plainNetwork */
  readonly network?: OwnNetwork;
  /** @default the machine's */
  readonly calendar?: Calendar;
  /** Whether the relay's key is taken from its certificates. @default true */
  readonly fastStart?: boolean;
}

/** ts: derphttp: 1.5 s for the TCP connection to one node, 10 s for all. */
const NODE_LIMIT: Millis = millis(1500);
const WHOLE_LIMIT: Millis = seconds(10);

/** Connects to the first node of a region that answers. @throws OperationError that says for each why it did not */
export function dialRelay(options: DialOptions): Promise<RelayConnection> {
  return onFirstNode(options, async (node, { socket, chain }, signal) => {
    const serverKey = options.fastStart === false ? undefined : metaKeyIn(socket, chain);
    const request = upgradeRequest(node, options.region, serverKey !== undefined);
    if (serverKey !== undefined) return new RelayStream(socket, serverKey, request);
    socket.write(request);
    const refused = refusalIn(await readHead(socket, signal), 101);
    if (refused !== undefined) throw new Refused(refused);
    return new RelayStream(socket, undefined, undefined);
  });
}

/**
 * Measures the way to a region without UDP: the time from an HTTPS request, on a connection made for it, to its answer.
 * @throws OperationError that says for each node why it did not answer
 */
export function measureRelay(options: DialOptions): Promise<Millis> {
  return onFirstNode(options, async (node, { socket }, signal) => {
    const asked = now();
    socket.write(requestText("/derp/latency-check", node, ["Connection: close"]));
    const refused = refusalIn(await readHead(socket, signal), 200);
    socket.destroy();
    if (refused !== undefined) throw new Refused(refused);
    return since(asked, now());
  });
}

interface Connected {
  readonly socket: TLSSocket;
  /** The certificates as they were sent. They have been checked. */
  readonly chain: readonly X509Certificate[];
}

/** Tries the nodes of a region one after the other. */
async function onFirstNode<T>(
  options: DialOptions,
  use: (node: DerpNode, connected: Connected, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { region } = options;
  const limit = AbortSignal.timeout(WHOLE_LIMIT);
  const signal = options.signal === undefined ? limit : AbortSignal.any([options.signal, limit]);
  const failures: string[] = [];
  for (const node of region.nodes.filter((each) => !each.stunOnly)) {
    if (signal.aborted) break;
    try {
      return await useNode(node, options, signal, use);
    } catch (error) {
      const reason = limit.aborted ? "no answer within 10 s" : reasonOf(error);
      failures.push(`${node.hostName} port ${node.derpPort}: ${reason}`);
    }
  }
  if (options.signal?.aborted === true) {
    throw new OperationError("relay-given-up", `connecting to the relay ${region.code} was given up`);
  }
  throw new OperationError(
    "relay-unreachable",
    failures.length === 0
      ? `the relay region ${region.code} has no node to connect to: check the relay map`
      : `the relay ${region.code} can not be reached (${failures.join("; ")})`,
  );
}

async function useNode<T>(
  node: DerpNode,
  options: DialOptions,
  signal: AbortSignal,
  use: (node: DerpNode, connected: Connected, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const { network = plainNetwork } = options;
  const addresses = await addressesOf(node, network);
  if (addresses.length === 0) throw new Refused("the relay map gives it no address");
  const tcp = await raceTcp({ addresses, from: options.from, limit: NODE_LIMIT, signal, network });
  const socket = connectTls({ ...tlsOptions(node, options), socket: tcp });
  socket.on("error", () => {}); // also told by `close`, and by `once` while we wait
  try {
    await once(socket, "secureConnect", { signal });
    const chain = chainOf(socket);
    const wrong = wrongWith(chain, node, options);
    if (wrong !== undefined) throw new Refused(wrong);
    return await use(node, { socket, chain }, signal);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** Those the map gives, else those of the name; IPv4 first. What is no address switches its family off. */
async function addressesOf(node: DerpNode, network: OwnNetwork): Promise<readonly IpPort[]> {
  const { ipv4, ipv6, hostName, derpPort } = node;
  const asksName = ipv4 === undefined || ipv6 === undefined;
  const given = [ipv4, ipv6].flatMap((text) => (text === undefined ? [] : (Ip.tryParse(text) ?? [])));
  const known = given.map((ip) => new IpPort(ip, derpPort));
  if (!asksName || known.length > 0) return known;
  const found = await network.resolve(hostName, derpPort);
  const isWanted = ({ ip }: IpPort): boolean => (ip.isV4 ? ipv4 : ipv6) === undefined;
  return found.filter(isWanted).toSorted((a, b) => Number(b.ip.isV4) - Number(a.ip.isV4));
}

function tlsOptions(node: DerpNode, options: DialOptions): ConnectionOptions {
  const isName = Ip.tryParse(node.hostName) === undefined;
  const { certName, insecureForTests } = node;
  return {
    ...(isName ? { servername: node.hostName } : {}),
    ...(options.ca === undefined ? {} : { ca: options.ca }),
    ALPNProtocols: ["http/1.1"],
    minVersion: "TLSv1.2",
    // A pin is checked in `wrongWith`, on the certificates as they were sent.
    rejectUnauthorized: !isPin(certName) && !insecureForTests,
    checkServerIdentity: (_, certificate) => checkServerIdentity(certName ?? node.hostName, certificate),
  };
}

function wrongWith(
  chain: readonly X509Certificate[],
  node: DerpNode,
  options: DialOptions,
): string | undefined {
  if (node.insecureForTests || !isPin(node.certName)) return undefined;
  const date = (options.calendar ?? systemCalendar).now();
  const wrong = checkPin(chain, node.certName, node.hostName, date);
  return wrong === undefined
    ? undefined
    : `${wrong}: correct CertName in the relay map, or find out who answers there`;
}

function upgradeRequest(node: DerpNode, region: DerpRegion, fastStart: boolean): string {
  const ideal = region.nodes[0]?.name;
  return requestText("/derp", node, [
    "Connection: Upgrade",
    "Upgrade: DERP",
    ...(fastStart ? ["Derp-Fast-Start: 1"] : []),
    ...(ideal === undefined || ideal === node.name ? [] : [`Ideal-Node: ${ideal}`]),
  ]);
}

function requestText(path: string, node: DerpNode, headers: readonly string[]): string {
  const host = node.hostName.includes(":") ? `[${node.hostName}]` : node.hostName;
  const authority = node.derpPort === DEFAULT_DERP_PORT ? host : `${host}:${node.derpPort}`;
  return [`GET ${path} HTTP/1.1`, `Host: ${authority}`, ...headers, "", ""].join("\r\n");
}

/** What an answer's head says instead of the wanted status. */
function refusalIn(head: string, wanted: 101 | 200): string | undefined {
  const [statusLine = ""] = head.split("\r\n", 1);
  if (new RegExp(`^HTTP/1\\.1 ${wanted}(?: |$)`).test(statusLine)) return undefined;
  const answer = statusLine === "" ? "ended the connection" : `answered "${statusLine.slice(0, 80)}"`;
  return `it ${answer}: check that a relay runs there`;
}

/** The relay answered, and not as one that we may use. */
class Refused extends Error {}

/** OpenSSL's and Node's names for a certificate that no authority vouches for, or for another name. */
const UNTRUSTED = /CERT|ISSUER|SIGNATURE|ALTNAME/;

function reasonOf(error: unknown): string {
  if (error instanceof Refused || error instanceof OperationError) return error.message;
  const code = codeOf(error);
  if (UNTRUSTED.test(code)) {
    return `its certificate is not trusted (${code}): pin it with CertName "sha256-raw:…" in the relay map, or give its authority`;
  }
  switch (code) {
    case "ECONNREFUSED":
      return "the connection was refused: check that the relay runs and that its port is right";
    case "ETIMEDOUT":
      return "no answer within 1.5 s: check that firewalls let TCP to this port through";
    default:
      return code;
  }
}
