/**
 * The local API: HTTP over a Unix socket of mode 0600, by which the commands ask the daemon.
 *
 *   GET  /v1/status                            → StatusJson
 *   POST /v1/ping    {target, timeoutMs}       → PingReply
 *   POST /v1/up      UpRequest                 → UpEvents, one JSON object a line
 *   POST /v1/down    POST /v1/logout           → {}
 *
 * An error is {code, message} with a status of 400 and above; its message is for people.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { z } from "zod";
import { SallyportError, UsageError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { LocalBackend, UpEvent, UpRequest } from "../health/local-backend.ts";
import { listenPrivately } from "./unix-socket.ts";

export interface LocalApiOptions {
  /** Of the socket. */
  readonly path: string;
  readonly backend: LocalBackend;
  readonly log: Log;
}

export interface LocalApiServer {
  /** Ends what is under way and removes the socket. */
  close(): Promise<void>;
}

/** @throws OperationError when another daemon listens there, or the path can not be used */
export async function serveLocalApi({ path, backend, log }: LocalApiOptions): Promise<LocalApiServer> {
  const server = createServer((request, response) => {
    handle(backend, request, response).catch((error: unknown) => sendError(response, error, log));
  });
  await listenPrivately(server, path, "daemon");
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** What a command may send: generous for keys and names, small for a stranger. */
const BODY_LIMIT = 65_536;
/** An hour: no command waits longer for one answer. */
const LONGEST_TIMEOUT_MS = 3_600_000;

const UNCHANGED = {
  loginServer: undefined,
  authKey: undefined,
  hostname: undefined,
  advertiseExitNode: undefined,
  certPin: undefined,
};

const timeoutMs = z.number().min(0).max(LONGEST_TIMEOUT_MS);
const pingRequest = z.strictObject({ target: z.string().min(1), timeoutMs });
const upRequest = z
  .strictObject({
    loginServer: z.string().optional(),
    authKey: z.string().optional(),
    hostname: z.string().optional(),
    advertiseExitNode: z.boolean().optional(),
    certPin: z.string().optional(),
    timeoutMs,
  })
  .transform((request): UpRequest => ({ ...UNCHANGED, ...request }));

async function handle(
  backend: LocalBackend,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  switch (`${request.method} ${request.url}`) {
    case "GET /v1/status":
      return send(response, 200, backend.status());
    case "POST /v1/ping":
      return send(response, 200, await backend.ping(await readBody(request, pingRequest)));
    case "POST /v1/up":
      return sendLines(response, backend.up(await readBody(request, upRequest)));
    case "POST /v1/down":
      await backend.down();
      return send(response, 200, {});
    case "POST /v1/logout":
      await backend.logout();
      return send(response, 200, {});
    default:
      return send(response, 404, {
        code: "unknown-request",
        message: "the daemon does not know this request: use the command and the daemon of one version",
      });
  }
}

async function readBody<T>(request: IncomingMessage, schema: z.ZodType<T>): Promise<T> {
  let text = "";
  request.setEncoding("utf8");
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > BODY_LIMIT) throw new UsageError("request-too-large", "the request is too large");
  }
  const body = schema.safeParse(parseJson(text));
  if (body.success) return body.data;
  // Only places are named: a value may be a secret.
  const places = body.error.issues.map((issue) => issue.path.join(".") || "the request");
  throw new UsageError("malformed-request", `malformed request: ${places.join(", ")}`);
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

async function sendLines(response: ServerResponse, events: AsyncIterable<UpEvent>): Promise<void> {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.flushHeaders();
  for await (const event of events) {
    if (response.destroyed) return;
    response.write(`${JSON.stringify(event)}\n`);
  }
  response.end();
}

function sendError(response: ServerResponse, error: unknown, log: Log): void {
  const known = error instanceof SallyportError;
  if (!known) log.error("local-api-failed", { error: String(error) });
  const body = known
    ? { code: error.code, message: error.message }
    : { code: "internal", message: "the daemon failed to answer: its log says why" };
  if (!response.headersSent) {
    return send(response, error instanceof UsageError ? 400 : 500, body);
  }
  response.end(`${JSON.stringify({ kind: "failed", ...body })}\n`);
}
