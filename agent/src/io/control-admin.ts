/**
 * The administrator's API, by which the commands ask the coordination server.
 *
 *   POST   /auth-keys      {reusable, tags, ephemeral, expirySeconds, user}   → {id, key}; all are optional
 *   GET    /auth-keys                                                         → [key without its text]
 *   DELETE /auth-keys/ID   DELETE /nodes/ID   POST /nodes/ID/expire           → {}
 *   POST   /nodes/ID/routes {routes}                                          → {}
 *   GET    /nodes                                                             → [node]
 *   POST   /derp-map       the new relay map                                  → {}
 */
import * as z from "zod";
import { Prefix } from "../base/address.ts";
import { UsageError } from "../base/errors.ts";
import type { Log } from "../base/log.ts";
import { type Instant, wallTime } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import { parseDerpMap } from "../core/path/derp-map.ts";
import { systemCalendar } from "./calendar.ts";
import type { CoordinationDriver } from "./coordination-driver.ts";
import { type JsonApiServer, type Route, serveJsonApi, withBody } from "./json-api-server.ts";

export interface ControlAdminOptions {
  /** Of the socket. */
  readonly path: string;
  readonly driver: CoordinationDriver;
  readonly log: Log;
}

export type ControlAdmin = JsonApiServer;

/** @throws OperationError when another server listens there, or the path can not be used */
export function serveControlAdmin({ path, driver, log }: ControlAdminOptions): Promise<ControlAdmin> {
  const { coordination } = driver;
  const routes = {
    "GET /auth-keys": () => coordination.listAuthKeys(),
    "POST /auth-keys": withBody(authKeyRequest, (request) => createAuthKey(driver, request)),
    "DELETE /auth-keys/:id": (_, { parameters: [id = ""] }) =>
      changeOne(driver, () => coordination.removeAuthKey(id), `no auth key has the id ${id}`),
    "GET /nodes": () => coordination.listNodes(),
    "DELETE /nodes/:id": (_, { parameters: [id = ""] }) =>
      changeNode(driver, id, (node, at) => coordination.deleteNode(node, at)),
    "POST /nodes/:id/expire": (_, { parameters: [id = ""] }) =>
      changeNode(driver, id, (node, at) => coordination.expireNode(node, at)),
    "POST /nodes/:id/routes": withBody(routesRequest, (request, { parameters: [id = ""] }) => {
      const prefixes = request.routes.map(Prefix.parse);
      return changeNode(driver, id, (node, at) => coordination.approveRoutes(node, prefixes, at));
    }),
    "POST /derp-map": (json) => {
      const derpMap = checkDerpMap(json, "the request");
      return driver.change((at) => coordination.setDerpMap(derpMap, at));
    },
  } satisfies Record<string, Route>;
  return serveJsonApi({ path, role: "coordination server", routes, bodyLimit: BODY_LIMIT, log });
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

const authKeyRequest = z
  .strictObject({
    reusable: z.boolean().optional(),
    tags: z.array(z.string()).optional(),
    ephemeral: z.boolean().optional(),
    expirySeconds: z.number().positive().optional(),
    user: z.string().min(1).optional(),
  })
  .default({});
const routesRequest = z.strictObject({ routes: z.array(z.string()) });

async function createAuthKey(
  driver: CoordinationDriver,
  { expirySeconds, ...options }: z.infer<typeof authKeyRequest>,
): Promise<{ readonly id: string; readonly key: string }> {
  const expiry =
    expirySeconds === undefined ? undefined : wallTime(systemCalendar.now() + expirySeconds * 1000);
  const { id, text } = await driver.change(() => driver.coordination.createAuthKey({ ...options, expiry }));
  return { id, key: text };
}

function changeNode(
  driver: CoordinationDriver,
  id: string,
  change: (node: number, at: Instant) => boolean,
): Promise<void> {
  const missing = `no node has the id ${id}: \`sallyport control nodes\` lists them`;
  return changeOne(driver, (at) => change(Number(id), at), missing);
}

async function changeOne(
  driver: CoordinationDriver,
  change: (at: Instant) => boolean,
  missing: string,
): Promise<void> {
  if (!(await driver.change(change))) throw new UsageError("not-found", missing);
}
