/**
 * The coordination server's doors, on an HTTP or HTTPS server that others may share.
 *
 *     GET  /key       the server's Noise key
 *     POST /ts2021    upgrade to Noise; inside it HTTP/2 with
 *                       POST /machine/register    join, rotate a key, log out
 *                       POST /machine/map         follow the network map, tell of endpoints
 */
import type { IncomingMessage, Server as HttpServer, ServerResponse } from "node:http";
import * as http2 from "node:http2";
import type { Server as HttpsServer } from "node:https";
import type { Duplex } from "node:stream";
import { fromUtf8, utf8 } from "../base/bytes.ts";
import { type MachinePrivate, MachinePublic } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { type JsonObject, parseJson } from "../core/control/json.ts";
import { encodeMapFrame, zstdStored } from "../core/control/map-frame.ts";
import {
  HANDSHAKE_HEADER,
  KEY_PATH,
  MAP_PATH,
  parseMapRequest,
  parseRegisterRequest,
  REGISTER_PATH,
  UPGRADE_PATH,
  UPGRADE_PROTOCOL,
} from "../core/control/messages.ts";
import { respond } from "../core/control/noise.ts";
import type { Suite } from "../crypto/suite.ts";
import type { CoordinationDriver } from "./coordination-driver.ts";
import { NoiseStream } from "./noise-stream.ts";

export interface AttachControlOptions {
  readonly server: HttpServer | HttpsServer;
  readonly driver: CoordinationDriver;
  readonly noiseKey: MachinePrivate;
  readonly suite: Suite;
  readonly random: Random;
  readonly log: Log;
  /** Whether another handler answers the paths that are not this one's. If not, they get a 404. */
  readonly shared: boolean;
}

export interface AttachedControl {
  readonly publicKey: MachinePublic;
  /** Lets go of the server and ends the connections made through it. The driver stays as it is. */
  close(): void;
}

/** Serves coordination on `server`, which the caller owns, listens with and closes. */
export function attachControl(options: AttachControlOptions): AttachedControl {
  const { server, shared } = options;
  const publicKey = options.noiseKey.expose((secret) =>
    MachinePublic.fromBytes(options.suite.x25519Public(secret)),
  );
  const doors = new NoiseDoors(options);
  const onRequest = (request: IncomingMessage, response: ServerResponse): void => {
    const answer = answerTo(request, publicKey) ?? (shared ? undefined : NOT_FOUND);
    if (answer === undefined) return;
    response.writeHead(answer.status, { "content-type": answer.type }).end(answer.body);
  };
  const onUpgrade = (request: IncomingMessage, socket: Duplex, head: Uint8Array): void => {
    if (pathOf(request) === UPGRADE_PATH) doors.open(request, socket, head);
    else if (!shared) refuse(socket, "404 Not Found", "not found");
  };
  server.on("request", onRequest);
  server.on("upgrade", onUpgrade);
  return {
    publicKey,
    close() {
      server.off("request", onRequest);
      server.off("upgrade", onUpgrade);
      doors.close();
    },
  };
}

/** Far above any node's report about itself; below what a stranger's could cost. */
const MAX_BODY = 1024 * 1024;
/** A stream whose reader left this much unread is ended: it comes back and gets one complete map. */
const MAX_UNREAD = 32 * 1024 * 1024;
const JSON_TYPE = "application/json";
const NO_KEY = MachinePublic.fromBytes(new Uint8Array(32));

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
}
const NOT_FOUND: Answer = { status: 404, type: "text/plain", body: "not found\n" };

function answerTo(request: IncomingMessage, publicKey: MachinePublic): Answer | undefined {
  switch (pathOf(request)) {
    case KEY_PATH: {
      if (request.method !== "GET") return { status: 405, type: "text/plain", body: "GET only\n" };
      const keys = { legacyPublicKey: NO_KEY.text, publicKey: publicKey.text };
      return { status: 200, type: JSON_TYPE, body: JSON.stringify(keys) };
    }
    case UPGRADE_PATH: {
      const body = `this needs "Upgrade: ${UPGRADE_PROTOCOL}" on a POST; a proxy before the server must let it pass\n`;
      return { status: 426, type: "text/plain", body };
    }
    default:
      return undefined;
  }
}

function pathOf(request: IncomingMessage): string {
  return (request.url ?? "").split("?")[0] ?? "";
}

function refuse(socket: Duplex, status: string, reason: string): void {
  socket.on("error", () => {});
  socket.end(`HTTP/1.1 ${status}\r\nconnection: close\r\ncontent-type: text/plain\r\n\r\n${reason}\n`);
}

/** The Noise connections, and the HTTP/2 inside each. */
class NoiseDoors {
  readonly #options: AttachControlOptions;
  readonly #sessions = new Set<http2.ServerHttp2Session>();
  /** One change goes to many streams: it is written out once. */
  readonly #frames = new WeakMap<JsonObject, { plain?: Uint8Array; stored?: Uint8Array }>();

  constructor(options: AttachControlOptions) {
    this.#options = options;
  }

  open(request: IncomingMessage, socket: Duplex, head: Uint8Array): void {
    const { suite, random, noiseKey, log } = this.#options;
    if (request.method !== "POST" || request.headers.upgrade?.toLowerCase() !== UPGRADE_PROTOCOL) {
      refuse(socket, "400 Bad Request", `this path upgrades to ${UPGRADE_PROTOCOL}`);
      return;
    }
    const initiation = Buffer.from(String(request.headers[HANDSHAKE_HEADER] ?? ""), "base64");
    const accepted = respond(suite, random, noiseKey, initiation);
    if (accepted.kind !== "accepted") {
      log.info("control-handshake-refused", { reason: accepted.kind });
      refuse(socket, "400 Bad Request", "the handshake was not made with this server's key");
      return;
    }
    const { keys, response } = accepted;
    socket.write(
      Buffer.concat([
        utf8(
          `HTTP/1.1 101 Switching Protocols\r\nupgrade: ${UPGRADE_PROTOCOL}\r\nconnection: upgrade\r\n\r\n`,
        ),
        response,
      ]),
    );
    const stream = new NoiseStream({ socket, suite, keys, head, mayBeginEarly: false });
    stream.on("error", (error) => log.debug("control-connection", { error: error.message }));
    this.#serve(stream, accepted.machine);
  }

  close(): void {
    for (const session of this.#sessions) session.destroy();
  }

  #serve(connection: Duplex, machine: MachinePublic): void {
    const session = http2.performServerHandshake(connection, { settings: { enablePush: false } });
    this.#sessions.add(session);
    session.on("close", () => this.#sessions.delete(session));
    session.on("error", () => {}); // "close" follows
    session.on("stream", (stream, headers) => {
      stream.on("error", () => {}); // a client that goes away is no error here
      const [method, path] = [headers[":method"], headers[":path"]];
      if (method !== "POST" || (path !== REGISTER_PATH && path !== MAP_PATH)) {
        answer(stream, 404, "text/plain", "not found\n");
        return;
      }
      readBody(stream, (body) => {
        if (path === MAP_PATH) this.#map(stream, machine, body);
        else void this.#register(stream, machine, body);
      });
    });
  }

  async #register(stream: http2.ServerHttp2Stream, machine: MachinePublic, body: string): Promise<void> {
    const request = parseRegisterRequest(parseJson(body));
    if (typeof request === "string") {
      answer(stream, 400, "text/plain", `malformed registration: ${request}\n`);
      return;
    }
    try {
      answer(stream, 200, JSON_TYPE, JSON.stringify(await this.#options.driver.register(machine, request)));
    } catch {
      answer(stream, 500, "text/plain", "the server can not save its state; its log says why\n");
    }
  }

  #map(stream: http2.ServerHttp2Stream, machine: MachinePublic, body: string): void {
    const request = parseMapRequest(parseJson(body));
    if (typeof request === "string") {
      answer(stream, 400, "text/plain", `malformed map request: ${request}\n`);
      return;
    }
    const { driver, log } = this.#options;
    const write = (message: JsonObject): void => {
      if (stream.destroyed || stream.closed) return;
      stream.write(this.#frame(message, request.compress));
      if (stream.writableLength <= MAX_UNREAD) return;
      log.warn("control-slow-reader", { node: request.nodeKey.short });
      stream.close(http2.constants.NGHTTP2_CANCEL);
    };
    const result = driver.map(machine, request, { write, end: () => stream.end() });
    switch (result.kind) {
      case "refused":
        answer(stream, result.status, "text/plain", `${result.message}\n`);
        return;
      case "stored":
        answer(stream, 200, JSON_TYPE, "");
        return;
      case "once":
        if (!begin(stream, 200, JSON_TYPE)) return;
        write(result.message);
        stream.end();
        return;
      case "stream":
        if (begin(stream, 200, JSON_TYPE)) stream.on("close", () => driver.closed(result.session));
        else driver.closed(result.session);
        return;
    }
  }

  #frame(message: JsonObject, compress: boolean): Uint8Array {
    const frames = this.#frames.get(message) ?? {};
    this.#frames.set(message, frames);
    const json = (): Uint8Array => utf8(JSON.stringify(message));
    if (!compress) return (frames.plain ??= encodeMapFrame(json()));
    return (frames.stored ??= encodeMapFrame(zstdStored(json())));
  }
}

function readBody(stream: http2.ServerHttp2Stream, done: (body: string) => void): void {
  const parts: Uint8Array[] = [];
  let length = 0;
  stream.on("data", (bytes: Uint8Array) => {
    length += bytes.length;
    if (length <= MAX_BODY) {
      parts.push(bytes);
    } else if (!stream.headersSent) {
      answer(stream, 413, "text/plain", "too long\n");
      stream.close(http2.constants.NGHTTP2_NO_ERROR); // once the answer is out; the rest is not read
    }
  });
  stream.on("end", () => {
    if (length <= MAX_BODY) done(fromUtf8(Buffer.concat(parts)));
  });
}

function answer(stream: http2.ServerHttp2Stream, status: number, type: string, body: string): void {
  if (begin(stream, status, type)) stream.end(body);
}

/** Sends the head of an answer, unless there was one or the client has gone: to answer it then would throw. */
function begin(stream: http2.ServerHttp2Stream, status: number, type: string): boolean {
  if (stream.destroyed || stream.closed || stream.headersSent) return false;
  stream.respond({ ":status": status, "content-type": type });
  return true;
}
