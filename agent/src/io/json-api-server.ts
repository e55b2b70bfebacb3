/**
 * HTTP with JSON over a Unix socket of mode 0600: how commands ask a process on this machine.
 *
 * An error is {code, message} with a status of 400 and above; its message is for people.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { z } from "zod";
import { SallyportError, UsageError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { listenPrivately } from "./unix-socket.ts";

export interface JsonApiOptions {
  /** Of the socket. */
  readonly path: string;
  /** Who serves it, for errors, such as "daemon". */
  readonly role: string;
  /** By method and path, such as "GET /v1/status". */
  readonly routes: Readonly<Record<string, Route>>;
  readonly log: Log;
}

/** Answers with one value, or with many: then each is sent as a line of its own. */
export type Route = (body: unknown) => unknown;

export interface JsonApiServer {
  /** Ends what is under way and removes the socket. */
  close(): Promise<void>;
}

/** @throws OperationError when another process listens there, or the path can not be used */
export async function serveJsonApi({ path, role, routes, log }: JsonApiOptions): Promise<JsonApiServer> {
  const server = createServer((request, response) => {
    handle(routes, request, response).catch((error: unknown) => sendError(response, error, log));
  });
  await listenPrivately(server, path, role);
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** A route whose body has a form. The error names places only: a value may be a secret. */
export function withBody<T>(schema: z.ZodType<T>, answer: (body: T) => unknown): Route {
  return (json) => {
    const body = schema.safeParse(json);
    if (body.success) return answer(body.data);
    const places = body.error.issues.map((issue) => issue.path.join(".") || "the body");
    throw new UsageError("malformed-request", `malformed request: ${places.join(", ")}`);
  };
}

/** What a command may send: generous for keys and names, small for a stranger. */
const BODY_LIMIT = 65_536;

async function handle(
  routes: Readonly<Record<string, Route>>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const name = `${request.method} ${request.url}`;
  const route = Object.hasOwn(routes, name) ? routes[name] : undefined;
  if (route === undefined) {
    const message = "this request is not known here: use the command and the daemon of one version";
    return send(response, 404, { code: "unknown-request", message });
  }
  const answer = route(await readBody(request));
  if (isLines(answer)) return sendLines(response, answer);
  send(response, 200, (await answer) ?? {});
}

async function readBody(request: IncomingMessage): Promise<unknown> {
  let text = "";
  request.setEncoding("utf8");
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > BODY_LIMIT) throw new UsageError("request-too-large", "the request is too large");
  }
  try {
    return text === "" ? undefined : JSON.parse(text);
  } catch {
    throw new UsageError("malformed-request", "malformed request: not JSON");
  }
}

function isLines(answer: unknown): answer is AsyncIterable<unknown> {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer;
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(body));
}

async function sendLines(response: ServerResponse, lines: AsyncIterable<unknown>): Promise<void> {
  response.writeHead(200, { "content-type": "application/x-ndjson" });
  response.flushHeaders();
  for await (const line of lines) {
    if (response.destroyed) return;
    response.write(`${JSON.stringify(line)}\n`);
  }
  response.end();
}

function sendError(response: ServerResponse, error: unknown, log: Log): void {
  const known = error instanceof SallyportError;
  if (!known) log.error("request-failed", { error: String(error) });
  const body = known
    ? { code: error.code, message: error.message }
    : { code: "internal", message: "the answer failed: the log of the process that was asked says why" };
  if (!response.headersSent) return send(response, error instanceof UsageError ? 400 : 500, body);
  response.end(`${JSON.stringify({ kind: "failed", ...body })}\n`);
}
