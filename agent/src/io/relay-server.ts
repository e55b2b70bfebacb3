/**
 * The relay's doors: HTTP paths and the upgrade to DERP, on an HTTP or HTTPS server that others may share.
 *
 *     /derp                               upgrade to DERP; 426 without one
 *     /derp/probe, /derp/latency-check    200 for whoever measures
 *     /generate_204                       204, for the detection of captive portals
 *     /, /robots.txt                      a word for people and crawlers
 *
 * All decisions about packets are the DERP server's; here are sockets, the clock and HTTP.
 */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { Socket } from "node:net";
import type { SecureContextOptions, TlsOptions } from "node:tls";
import { Ip, IpPort } from "../base/address.ts";
import { toHex } from "../base/bytes.ts";
import type { NodePublic } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import type { WallTime } from "../base/time.ts";
import { PROTOCOL_VERSION } from "../core/derp/login.ts";
import type { DerpServer } from "../core/derp/server.ts";
import { now, Wakeup } from "./clock.ts";
import { metaCertificate, type TlsCertificate } from "./tls-certificate.ts";

export interface AttachRelayOptions {
  readonly server: HttpServer | HttpsServer;
  readonly derp: DerpServer;
  readonly log: Log;
  /** Whether another handler answers the paths that are not the relay's. If not, they get a 404. */
  readonly shared: boolean;
}

export interface AttachedRelay {
  /** Lets go of the server and ends the relay's connections. */
  close(): void;
}

/** Serves a relay on `server`, which the caller owns, listens with and closes. */
export function attachRelay(options: AttachRelayOptions): AttachedRelay {
  const { server, derp, log, shared } = options;
  const links = new RelaySockets(derp, log);
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const answer = answerTo(request) ?? (shared ? undefined : NOT_FOUND);
    if (answer !== undefined) response.writeHead(answer.status, answer.headers).end(answer.body);
  };
  const onUpgrade = (request: IncomingMessage, stream: unknown, head: Buffer): void => {
    // Of an HTTP/1 server it is always the connection's own socket.
    const socket = stream as Socket;
    if (pathOf(request) === DERP_PATH && wantsDerp(request)) links.open(request, socket, head);
    else refuseUpgrade(socket, answerTo(request) ?? (shared ? undefined : NOT_FOUND));
  };
  server.on("request", onRequest);
  server.on("upgrade", onUpgrade);
  return {
    close() {
      server.off("request", onRequest);
      server.off("upgrade", onUpgrade);
      links.close();
    },
  };
}

/**
 * What a TLS listener for a relay is made with, and renewed with (`setSecureContext`): the certificate, and
 * behind it one that tells the relay's key. That one is valid for 30 days: renew at least so often.
 */
export function relaySecureContext(
  certificate: TlsCertificate,
  serverKey: NodePublic,
  at: WallTime,
): SecureContextOptions & Pick<TlsOptions, "ALPNProtocols"> {
  return {
    key: certificate.keyPem,
    cert: certificate.certPem + metaCertificate(serverKey, at),
    minVersion: "TLSv1.2",
    ALPNProtocols: ["http/1.1"],
  };
}

const DERP_PATH = "/derp";

/** What may lie in Node and OpenSSL for one connection before it counts as one that takes no bytes. */
const WRITE_AHEAD = 256 * 1024;

interface Link {
  readonly conn: number;
  readonly socket: Socket;
  /** Bytes given to the socket that have not left. */
  unsent: number;
  blocked: boolean;
}

/** The sockets of a DERP server. */
class RelaySockets {
  readonly #derp: DerpServer;
  readonly #log: Log;
  readonly #links = new Map<number, Link>();
  readonly #wakeup = new Wakeup({ keepAlive: false });
  #next = 1;

  constructor(derp: DerpServer, log: Log) {
    this.#derp = derp;
    this.#log = log;
  }

  open(request: IncomingMessage, socket: Socket, head: Buffer): void {
    const link: Link = { conn: this.#next++, socket, unsent: 0, blocked: false };
    this.#links.set(link.conn, link);
    socket.setNoDelay(true);
    socket.setTimeout(0);
    socket.setKeepAlive(true, TCP_KEEP_ALIVE);
    socket.on("error", (error) => this.#log.debug("relay-socket", { conn: link.conn, error: error.message }));
    socket.on("end", () => socket.destroy());
    socket.on("close", () => this.#closed(link));
    if (request.headers["derp-fast-start"] !== "1") socket.write(switchingProtocols(this.#derp.publicKey));
    this.#derp.handleOpen(link.conn, remoteOf(socket), now());
    socket.on("data", (chunk: Buffer) => this.#received(link, chunk));
    if (head.length > 0) this.#received(link, head);
    else this.#drain();
  }

  close(): void {
    this.#wakeup.cancel();
    for (const { socket } of this.#links.values()) socket.destroy();
  }

  #received(link: Link, chunk: Buffer): void {
    this.#derp.handleBytes(link.conn, plain(chunk), now());
    this.#drain();
  }

  #closed(link: Link): void {
    this.#links.delete(link.conn);
    this.#derp.handleClosed(link.conn, now());
    this.#drain();
  }

  #drain(): void {
    const derp = this.#derp;
    for (let out = derp.pollTransmit(); out !== undefined; out = derp.pollTransmit()) {
      const link = this.#links.get(out.conn);
      if (link !== undefined) this.#write(link, out.bytes);
    }
    for (let end = derp.pollClose(); end !== undefined; end = derp.pollClose()) {
      this.#log.info("relay-client-closed", { conn: end.conn, why: end.why });
      this.#links.get(end.conn)?.socket.destroy();
    }
    this.#wakeup.wakeAt(derp.pollTimeout(), () => {
      derp.handleTimeout(now());
      this.#drain();
    });
  }

  #write(link: Link, bytes: Uint8Array): void {
    link.unsent += bytes.length;
    link.socket.write(bytes, () => this.#written(link, bytes.length));
    if (link.unsent <= WRITE_AHEAD || link.blocked) return;
    link.blocked = true;
    this.#derp.handleWritable(link.conn, false, now());
  }

  #written(link: Link, length: number): void {
    link.unsent -= length;
    if (!link.blocked) return;
    link.blocked = link.unsent > WRITE_AHEAD;
    this.#derp.handleWritable(link.conn, !link.blocked, now());
    this.#drain();
  }
}

/** As derper: finds the connections of devices that went away without a word. */
const TCP_KEEP_ALIVE = 600_000;

interface Answer {
  readonly status: 200 | 204 | 404 | 405 | 426;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const NOT_FOUND = textAnswer(404, "404 page not found\n");
const UPGRADE_REQUIRED = textAnswer(426, "DERP requires connection upgrade\n");

/** `undefined` for a path that is not the relay's. */
function answerTo(request: IncomingMessage): Answer | undefined {
  switch (pathOf(request)) {
    case DERP_PATH:
      return UPGRADE_REQUIRED;
    case "/derp/probe":
    case "/derp/latency-check":
      return request.method === "GET" || request.method === "HEAD"
        ? { status: 200, headers: { "Access-Control-Allow-Origin": "*", "Content-Length": "0" }, body: "" }
        : textAnswer(405, "bogus probe method\n");
    case "/generate_204":
      return noContent(request);
    case "/robots.txt":
      return textAnswer(200, "User-agent: *\nDisallow: /\n");
    case "/":
      return textAnswer(
        200,
        "This is a Sallyport relay. It passes sealed packets between devices that know it.\n",
      );
    default:
      return undefined;
  }
}

/** Whoever is behind a captive portal does not get this status, or not the answer to its challenge. */
function noContent(request: IncomingMessage): Answer {
  const challenge = request.headers["x-tailscale-challenge"];
  const isGood = typeof challenge === "string" && /^[A-Za-z0-9._:-]{1,64}$/.test(challenge);
  return {
    status: 204,
    headers: {
      "Cache-Control": "no-cache, no-store, must-revalidate, no-transform, max-age=0",
      ...(isGood ? { "X-Tailscale-Response": `response ${challenge}` } : {}),
    },
    body: "",
  };
}

function textAnswer(status: Answer["status"], body: string): Answer {
  const headers = {
    "Content-Type": "text/plain; charset=utf-8",
    "X-Content-Type-Options": "nosniff",
    "Content-Length": String(body.length),
  };
  return { status, headers, body };
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "/").split("?", 1)[0] ?? "/";
}

/** Browsers would speak DERP inside WebSocket messages, which is not served; a WebSocket without that counts as DERP. */
function wantsDerp(request: IncomingMessage): boolean {
  const upgrade = request.headers.upgrade?.toLowerCase();
  const speaksMessages = request.headers["sec-websocket-protocol"]?.split(/, */).includes("derp") ?? false;
  return upgrade === "derp" || (upgrade === "websocket" && !speaksMessages);
}

const REASON: Readonly<Record<Answer["status"], string>> = {
  200: "OK",
  204: "No Content",
  404: "Not Found",
  405: "Method Not Allowed",
  426: "Upgrade Required",
};

/** Node leaves a request with an unwanted upgrade to us, as bare bytes. */
function refuseUpgrade(socket: Socket, answer: Answer | undefined): void {
  if (answer === undefined) return;
  const headers = Object.entries({ ...answer.headers, Connection: "close" });
  const head = headers.map(([name, value]) => `${name}: ${value}\r\n`).join("");
  socket.on("error", () => socket.destroy());
  socket.end(`HTTP/1.1 ${answer.status} ${REASON[answer.status]}\r\n${head}\r\n${answer.body}`);
}

function switchingProtocols(serverKey: NodePublic): string {
  return (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: DERP\r\nConnection: Upgrade\r\n" +
    `Derp-Version: ${PROTOCOL_VERSION}\r\nDerp-Public-Key: ${toHex(serverKey.bytes)}\r\n\r\n`
  );
}

/** The address is gone where the client has hung up meanwhile. */
function remoteOf(socket: Socket): IpPort {
  const ip = Ip.tryParse(socket.remoteAddress?.split("%", 1)[0] ?? "") ?? UNKNOWN;
  return new IpPort(ip, socket.remotePort ?? 0);
}

const UNKNOWN = Ip.parse("0.0.0.0");

/** The same bytes without Buffer's methods, whose `slice` does not copy. */
function plain(chunk: Buffer): Uint8Array {
  return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
}
