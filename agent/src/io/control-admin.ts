/**
 * The administrator's API: HTTP over a Unix socket of mode 0600, by which the commands ask the coordination server.
 *
 *   POST   /auth-keys      {reusable, tags, ephemeral, expirySeconds, user}   → {id, key}; all are optional
 *   GET    /auth-keys                                                         → [key without its text]
 *   DELETE /auth-keys/ID   DELETE /nodes/ID   POST /nodes/ID/expire           → {}
 *   POST   /nodes/ID/routes {routes}                                          → {}
 *   GET    /nodes                                                             → [node]
 *   POST   /derp-map       the new relay map                                  → {}
 *
 * An error is {code, message} with a status of 400 and above; its message is for people.
 */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { z } from "zod";
import { Prefix } from "../base/address.ts";
import { OperationError, ParseError, SallyportError, UsageError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import type { Instant } from "../base/time.ts";
import { wallTime } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import { parseDerpMap } from "../core/path/derp-map.ts";
import type { Coordination } from "../engine/coordination.ts";
import { systemCalendar } from "./calendar.ts";
import type { CoordinationDriver } from "./coordination-driver.ts";
import { listenPrivately } from "./unix-socket.ts";

export interface ControlAdminOptions {
  /** Of the socket. */
  readonly path: string;
  readonly driver: CoordinationDriver;
  readonly log: Log;
}

export interface ControlAdmin {
  /** Removes the socket. */
  close(): Promise<void>;
}

/** @throws OperationError when another server listens there, or the path can not be used */
export async function serveControlAdmin({ path, driver, log }: ControlAdminOptions): Promise<ControlAdmin> {
  const server = createServer((request, response) => {
    handle(driver, request)
      .then((result) => send(response, 200, result))
      .catch((error: unknown) => sendError(response, error, log));
  });
  await listenPrivately(server, path, "coordination server");
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** @throws UsageError when it is no relay map with at least one region */
export function checkDerpMap(json: unknown, source: string): JsonObject {
  const map = typeof json === "object" && json !== null ? parseDerpMap(json) : undefined;
  if (map !== undefined && map.regions.size > 0) return json as JsonObject;
  throw new UsageError(
    "derp-map",
    `${source} holds no relay map: it is a JSON object {"Regions": {"900": {"RegionID": 900, "Nodes": […]}}}`,
  );
}

/** A relay map of many regions fits. */
const BODY_LIMIT = 4 * 1024 * 1024;

const authKeyRequest = z.strictObject({
  reusable: z.boolean().optional(),
  tags: z.array(z.string()).optional(),
  ephemeral: z.boolean().optional(),
  expirySeconds: z.number().positive().optional(),
  user: z.string().min(1).optional(),
});
const routesRequest = z.strictObject({ routes: z.array(z.string()) });

async function handle(driver: CoordinationDriver, request: IncomingMessage): Promise<unknown> {
  const { coordination } = driver;
  const [what, id = "", verb = ""] = (request.url ?? "").split("?")[0]?.split("/").slice(1) ?? [];
  switch (`${request.method ?? ""} /${[what, id && ":id", verb].filter(Boolean).join("/")}`) {
    case "POST /auth-keys": {
      const { expirySeconds, ...options } = authKeyRequest.parse((await readJson(request)) ?? {});
      const expiry =
        expirySeconds === undefined ? undefined : wallTime(systemCalendar.now() + expirySeconds * 1000);
      const created = await driver.change(() => coordination.createAuthKey({ ...options, expiry }));
      return { id: created.id, key: created.text };
    }
    case "GET /auth-keys":
      return coordination.listAuthKeys();
    case "DELETE /auth-keys/:id":
      return await changeOne(driver, () => coordination.removeAuthKey(id), `no auth key has the id ${id}`);
    case "GET /nodes":
      return coordination.listNodes();
    case "DELETE /nodes/:id":
      return await changeNode(driver, id, (node, at) => coordination.deleteNode(node, at));
    case "POST /nodes/:id/expire":
      return await changeNode(driver, id, (node, at) => coordination.expireNode(node, at));
    case "POST /nodes/:id/routes": {
      const routes = routesRequest.parse(await readJson(request)).routes.map(Prefix.parse);
      return await changeNode(driver, id, (node, at) => coordination.approveRoutes(node, routes, at));
    }
    case "POST /derp-map":
      return await replaceDerpMap(driver, coordination, await readJson(request));
    default:
      throw new OperationError(
        "not-found",
        "there is no such path: this program and the server differ in version",
      );
  }
}

async function replaceDerpMap(
  driver: CoordinationDriver,
  coordination: Coordination,
  json: unknown,
): Promise<object> {
  const derpMap = checkDerpMap(json, "the request");
  await driver.change((at) => coordination.setDerpMap(derpMap, at));
  return {};
}

function changeNode(
  driver: CoordinationDriver,
  id: string,
  change: (node: number, at: Instant) => boolean,
): Promise<object> {
  const missing = `no node has the id ${id}: \`sallyport control nodes\` lists them`;
  return changeOne(driver, (at) => change(Number(id), at), missing);
}

async function changeOne(
  driver: CoordinationDriver,
  change: (at: Instant) => boolean,
  missing: string,
): Promise<object> {
  if (!(await driver.change(change))) throw new OperationError("not-found", missing);
  return {};
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Uint8Array>) {
    length += part.length;
    if (length > BODY_LIMIT) throw new UsageError("body-too-long", "the request is too long");
    parts.push(part);
  }
  const text = Buffer.concat(parts).toString("utf8");
  try {
    return text === "" ? undefined : (JSON.parse(text) as unknown);
  } catch {
    throw new UsageError("body-not-json", "the request is no JSON");
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

function sendError(response: ServerResponse, error: unknown, log: Log): void {
  if (error instanceof z.ZodError) {
    const [issue] = error.issues;
    const message = `the request does not fit: ${issue?.path.join(".") ?? ""} ${issue?.message ?? ""}`;
    send(response, 400, { code: "bad-request", message });
  } else if (error instanceof SallyportError) {
    const status = error.code === "not-found" ? 404 : error instanceof OperationError ? 500 : 400;
    send(response, error instanceof ParseError ? 400 : status, { code: error.code, message: error.message });
  } else {
    log.error("control-admin", { message: error instanceof Error ? error.message : String(error) });
    send(response, 500, { code: "internal", message: "the server failed; its log says why" });
  }
}
