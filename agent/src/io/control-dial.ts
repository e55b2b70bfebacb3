/**
 * Reaching a coordination server: TCP, TLS, its key, the upgrade, the Noise handshake, HTTP/2.
 *
 * Each way in which that fails is told in one sentence that says what to do.
 */
import { createHash } from "node:crypto";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as https from "node:https";
import { Duplex } from "node:stream";
import { TLSSocket } from "node:tls";
import { OperationError, UsageError } from "../base/errors.ts";
import { millis } from "../base/time.ts";
import { type MachinePrivate, MachinePublic } from "../base/keys.ts";
import type { Random } from "../base/random.ts";
import { asObject, parseJson, textAt, tryParse } from "../core/control/json.ts";
import {
  CAPABILITY_VERSION,
  HANDSHAKE_HEADER,
  KEY_PATH,
  UPGRADE_PATH,
  UPGRADE_PROTOCOL,
} from "../core/control/messages.ts";
import { Initiator } from "../core/control/noise.ts";
import type { Suite } from "../crypto/suite.ts";
import type { OwnNetwork } from "./own-network.ts";
import { codeOf } from "./system-error.ts";
import { raceTcp } from "./tcp-race.ts";
import { openNoiseStream } from "./noise-stream.ts";

const STEP_TIMEOUT_MS = 10_000;
const MAX_KEY_ANSWER = 4096;
const PIN = /^sha256-raw:([0-9a-f]{64})$/;
/** Maps come as large frames: windows that don't make the server wait for us. */
const WINDOW = 4 * 1024 * 1024;

export interface DialOptions {
  /** Such as "https://control.example:8443" or "http://127.0.0.1:8080". */
  readonly serverUrl: string;
  /** "sha256-raw:<hex>": the SHA-256 of the server's certificate (DER), trusted instead of the authorities. */
  readonly certPin: string | undefined;
  readonly suite: Suite;
  readonly random: Random;
  readonly machineKey: MachinePrivate;
  /** @default as every program connects */
  readonly network?: OwnNetwork | undefined;
}

export interface ControlServerAddress {
  readonly url: URL;
  readonly pin: string | undefined;
}

/** @throws UsageError */
export function parseControlServer(serverUrl: string, certPin: string | undefined): ControlServerAddress {
  const url = URL.canParse(serverUrl) ? new URL(serverUrl) : undefined;
  if (url === undefined || (url.protocol !== "https:" && url.protocol !== "http:") || url.hostname === "") {
    throw new UsageError(
      "login-server",
      `"${serverUrl}" is no login server: give a URL such as https://control.example`,
    );
  }
  if (certPin === undefined) return { url, pin: undefined };
  const pin = PIN.exec(certPin.toLowerCase())?.[1];
  if (pin === undefined) {
    throw new UsageError("cert-pin", `"${certPin}" is no pin: give "sha256-raw:" and 64 hex digits`);
  }
  if (url.protocol === "http:") {
    throw new UsageError("cert-pin", `a certificate pin needs an https:// login server, not ${serverUrl}`);
  }
  return { url, pin };
}

/** A connection to the server: HTTP/2 inside Noise. */
export interface ControlConnection {
  readonly session: http2.ClientHttp2Session;
  /**
   * Ends it at once, from below; the session's "close" follows. A farewell by HTTP/2 would race with that of the server:
   * over a stream that is no socket, Node fails an assertion of its own where it writes after it began to end.
   */
  end(): void;
}

/** @throws OperationError with a sentence for the user */
export async function dialControl(options: DialOptions): Promise<ControlConnection> {
  const server = parseControlServer(options.serverUrl, options.certPin);
  const secure = server.url.protocol === "https:";
  const settings = { keepAlive: true, maxSockets: 1 };
  // No ALPN but HTTP/1.1: a proxy that picked h2 could not upgrade.
  const agent = secure
    ? new https.Agent({
        ...settings,
        ALPNProtocols: ["http/1.1"],
        rejectUnauthorized: server.pin === undefined,
      })
    : new http.Agent(settings);
  if (options.network !== undefined) connectBy(options.network, server, agent);
  try {
    const serverKey = await fetchKey(server, agent);
    const initiator = new Initiator(
      options.suite,
      options.random,
      options.machineKey,
      serverKey,
      CAPABILITY_VERSION,
    );
    const { socket, head } = await upgrade(server, agent, initiator.message);
    const stream = await openNoiseStream(socket, head, initiator, options.suite);
    const session = http2.connect(`https://${server.url.host}`, {
      createConnection: () => stream,
      settings: { initialWindowSize: WINDOW, enablePush: false },
    });
    session.on("error", () => {}); // "close" follows
    session.on("goaway", () => stream.destroy());
    return { session, end: () => void stream.destroy() };
  } catch (error) {
    agent.destroy();
    throw explain(error, server);
  }
}

/** The agent's connections are made by `network`; what it does above TCP stays its own. */
function connectBy(network: OwnNetwork, server: ControlServerAddress, agent: http.Agent): void {
  const { hostname, protocol } = server.url;
  const secure = protocol === "https:";
  const port = server.url.port === "" ? (secure ? 443 : 80) : Number(server.url.port);
  const finish = agent.createConnection.bind(agent);
  const connect = async (): Promise<Duplex> => {
    const addresses = await network.resolve(hostname, port);
    const signal = AbortSignal.timeout(STEP_TIMEOUT_MS);
    return await raceTcp({ addresses, from: undefined, limit: millis(STEP_TIMEOUT_MS), signal, network });
  };
  agent.createConnection = (options, done) => {
    connect().then(
      (socket) => done?.(null, secure ? (finish({ ...options, ...{ socket } }) ?? socket) : socket),
      (error: Error) => done?.(error, new Duplex()),
    );
    return undefined;
  };
}

async function fetchKey(server: ControlServerAddress, agent: http.Agent): Promise<MachinePublic> {
  const path = `${KEY_PATH}?v=${CAPABILITY_VERSION}`;
  const { status, body } = await new Promise<{ status: number; body: string }>((resolve, reject) => {
    const request = send(server, agent, { path, method: "GET" }, reject);
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part: string) => {
        text += part;
        if (text.length > MAX_KEY_ANSWER) request.destroy(new Error("its answer is too long"));
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body: text }));
      response.on("error", reject);
    });
    request.end();
  });
  const key = tryParse(MachinePublic.parse, textAt(asObject(parseJson(body)) ?? {}, "publicKey"));
  if (status === 200 && key !== undefined && !key.isZero) return key;
  if (/HTTP request to an HTTPS server/i.test(body)) throw speaksTls(server);
  throw new OperationError(
    "not-a-control-server",
    `${server.url.origin} is no coordination server (${KEY_PATH} answered ${status}): check the login server's URL`,
  );
}

function upgrade(
  server: ControlServerAddress,
  agent: http.Agent,
  initiation: Uint8Array,
): Promise<{ socket: Duplex; head: Uint8Array }> {
  return new Promise((resolve, reject) => {
    const request = send(
      server,
      agent,
      {
        path: UPGRADE_PATH,
        method: "POST",
        headers: {
          connection: "upgrade",
          upgrade: UPGRADE_PROTOCOL,
          [HANDSHAKE_HEADER]: Buffer.from(initiation).toString("base64"),
          "content-length": "0",
        },
      },
      reject,
    );
    request.on("upgrade", (_response, socket, head) => {
      socket.setTimeout(0);
      resolve({ socket, head });
    });
    request.on("response", (response) => {
      response.resume();
      reject(
        new OperationError(
          "upgrade-refused",
          `${server.url.origin} answered ${String(response.statusCode)} instead of upgrading the connection: ` +
            `if a proxy stands before it, let it pass "Upgrade: ${UPGRADE_PROTOCOL}" on POST ${UPGRADE_PATH}`,
        ),
      );
    });
    request.end();
  });
}

function send(
  server: ControlServerAddress,
  agent: http.Agent,
  options: http.RequestOptions,
  reject: (error: Error) => void,
): http.ClientRequest {
  const transport = server.url.protocol === "https:" ? https : http;
  const request = transport.request(server.url, { ...options, agent, timeout: STEP_TIMEOUT_MS });
  request.on("error", reject);
  request.on("timeout", () => request.destroy(Object.assign(new Error("timeout"), { code: "ETIMEDOUT" })));
  request.on("socket", (socket) => {
    if (server.pin !== undefined && socket instanceof TLSSocket) checkPin(request, socket, server.pin);
  });
  return request;
}

/** Connections whose certificate was seen and is the pinned one. */
const checked = new WeakSet<TLSSocket>();

/** The first request on a connection is for the key and tells nothing, so it does no harm that it may leave before. */
function checkPin(request: http.ClientRequest, socket: TLSSocket, pin: string): void {
  if (checked.has(socket)) return;
  socket.once("secureConnect", () => {
    const certificate = socket.getPeerX509Certificate();
    const found = createHash("sha256")
      .update(certificate?.raw ?? new Uint8Array())
      .digest("hex");
    if (found === pin) checked.add(socket);
    else request.destroy(new PinMismatch(found));
  });
}

class PinMismatch extends Error {
  readonly found: string;
  constructor(found: string) {
    super("pin mismatch");
    this.found = found;
  }
}

const CERTIFICATE_ERRORS: ReadonlySet<string> = new Set([
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
  "CERT_HAS_EXPIRED",
  "CERT_NOT_YET_VALID",
  "ERR_TLS_CERT_ALTNAME_INVALID",
]);

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "nothing listens there",
  ENOTFOUND: "its name has no address",
  EAI_AGAIN: "its name can not be looked up now",
  ETIMEDOUT: "no answer came",
  EHOSTUNREACH: "there is no route to it",
  ENETUNREACH: "there is no network",
};

function explain(error: unknown, server: ControlServerAddress): OperationError {
  if (error instanceof OperationError) return error;
  const origin = server.url.origin;
  if (error instanceof PinMismatch) {
    return new OperationError(
      "wrong-pin",
      `the certificate of ${origin} is not the pinned one (it has sha256-raw:${error.found}): ` +
        "if the server was set up anew, take its new pin; otherwise someone else answers there",
      { cause: error },
    );
  }
  const code = codeOf(error);
  const reason = REASONS[code];
  if (reason !== undefined) {
    return new OperationError(
      "control-unreachable",
      `the coordination server ${origin} can not be reached (${reason}): check the URL, and that the server runs`,
      { cause: error },
    );
  }
  if (CERTIFICATE_ERRORS.has(code)) {
    return new OperationError(
      "control-certificate",
      `the certificate of ${origin} is not trusted (${code}): pin it with --cert-pin sha256-raw:…, ` +
        "or name its authority's certificate in NODE_EXTRA_CA_CERTS",
      { cause: error },
    );
  }
  if (
    server.url.protocol === "https:" &&
    /wrong.version.number|packet.length.too.long/i.test(String(error))
  ) {
    return new OperationError(
      "control-speaks-http",
      `${origin} does not speak TLS: if it is a plain HTTP server, write http:// instead of https://`,
      { cause: error },
    );
  }
  if (server.url.protocol === "http:" && (code === "ECONNRESET" || code.startsWith("HPE_"))) {
    return speaksTls(server);
  }
  return new OperationError(
    "control-dial",
    `the connection to the coordination server ${origin} failed (${code})`,
    { cause: error },
  );
}

function speaksTls(server: ControlServerAddress): OperationError {
  return new OperationError(
    "control-speaks-tls",
    `${server.url.origin} does not answer plain HTTP: if it is a TLS server, write https:// instead of http://`,
  );
}
