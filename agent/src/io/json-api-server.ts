/**
 * HTTP with JSON over a Unix socket of mode 0600: how commands ask a process on this machine.
 *
 * An error is {code, message} with a status of 400 and above; its message is for people.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { z } from "zod";
import { ParseError, SallyportError, UsageError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { listenPrivately } from "./unix-socket.ts";

export interface JsonApiOptions {
  /** Of the socket. */
  readonly path: string;
  /** Who serves it, for errors, such as "daemon". */
  readonly role: string;
  /** By method and path, such as "GET /v1/status" or "DELETE /nodes/:id". */
  readonly routes: Routes;
  /** Longest body, in characters. @default 65,536: generous for keys and names, small for a stranger */
  readonly bodyLimit?: number;
  readonly log: Log;
}

type Routes = Readonly<Record<string, Route>>;

/** Who asks, and what for. */
export interface Asked {
  /** What stands in the path in the places of the names with a colon. */
  readonly parameters: readonly string[];
  /** Fires when the one who asked has gone. */
  readonly gone: AbortSignal;
}

/** Answers with one value, or with many: then each is sent as a line of its own. */
export type Route = (body: unknown, asked: Asked) => unknown;

export interface JsonApiServer {
  /** Ends what is under way and removes the socket. */
  close(): Promise<void>;
}

/** @throws OperationError when another process listens there, or the path can not be used */
export async function serveJsonApi(options: JsonApiOptions): Promise<JsonApiServer> {
  const { path, role, log } = options;
  const server = createServer((request, response) => {
    handle(options, request, response).catch((error: unknown) => sendError(response, error, log));
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
export function withBody<T>(schema: z.ZodType<T>, answer: (body: T, asked: Asked) => unknown): Route {
  return (json, asked) => {
    const body = schema.safeParse(json);
    if (body.success) return answer(body.data, asked);
    const places = body.error.issues.map((issue) => issue.path.join(".") || "the body");
    throw new UsageError("malformed-request", `malformed request: ${places.join(", ")}`);
  };
}

const DEFAULT_BODY_LIMIT = 65_536;

async function handle(
  { role, routes, bodyLimit = DEFAULT_BODY_LIMIT }: JsonApiOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const found = findRoute(routes, `${request.method} ${request.url}`);
  if (found === undefined) {
    const message = `this request is not known here: use the command and the ${role} of one version`;
    return send(response, 404, { code: "unknown-request", message });
  }
  const leaving = new AbortController();
  response.once("close", () => leaving.abort());
  const asked = { parameters: found.parameters, gone: leaving.signal };
  const answer = found.route(await readBody(request, bodyLimit), asked);
  if (isLines(answer)) return sendLines(response, answer);
  send(response, 200, (await answer) ?? {});
}

interface Found {
  readonly route: Route;
  readonly parameters: string[];
}

function findRoute(routes: Routes, asked: string): Found | undefined {
  const parts = asked.split("/");
  for (const [name, route] of Object.entries(routes)) {
    const pattern = name.split("/");
    const isSame = (part: string, i: number): boolean => part === parts[i] || isParameter(part);
    if (pattern.length !== parts.length || !pattern.every(isSame)) continue;
    return { route, parameters: parts.filter((_, i) => isParameter(pattern[i] ?? "")) };
  }
  return undefined;
}

function isParameter(part: string): boolean {
  return part.startsWith(":");
}

async function readBody(request: IncomingMessage, limit: number): Promise<unknown> {
  let text = "";
  request.setEncoding("utf8");
  for await (const chunk of request) {
    text += String(chunk);
    if (text.length > limit) throw new UsageError("request-too-large", "the request is too large");
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
  if (!response.headersSent) return send(response, statusOf(error), body);
  response.end(`${JSON.stringify({ kind: "failed", ...body })}\n`);
}

function statusOf(error: unknown): number {
  return error instanceof UsageError || error instanceof ParseError ? 400 : 500;
}
