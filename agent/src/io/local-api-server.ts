/**
 * The local API, by which the commands ask the daemon.
 *
 *   GET  /v1/status                            → StatusJson
 *   POST /v1/ping    {target, timeoutMs}       → PingReply
 *   POST /v1/netcheck                          → NetcheckReply, or null
 *   POST /v1/up      UpRequest                 → UpEvents, one JSON object a line
 *   POST /v1/set     PrefsRequest              → {}
 *   POST /v1/down    POST /v1/logout           → {}
 */
import * as z from "zod";
import type { Log } from "../base/log.ts";
import { type Millis, minutes } from "../base/time.ts";
import type { LocalBackend, UpRequest } from "../health/local-backend.ts";
import { type JsonApiServer, serveJsonApi, withBody } from "./json-api-server.ts";

export interface LocalApiOptions {
  /** Of the socket. */
  readonly path: string;
  readonly backend: LocalBackend;
  readonly log: Log;
}

export type LocalApiServer = JsonApiServer;

/** @throws OperationError when another daemon listens there, or the path can not be used */
export function serveLocalApi({ path, backend, log }: LocalApiOptions): Promise<LocalApiServer> {
  const routes = {
    "GET /v1/status": () => backend.status(),
    "POST /v1/ping": withBody(pingRequest, (request) => backend.ping(request)),
    "POST /v1/netcheck": async () => (await backend.netcheck()) ?? null,
    "POST /v1/up": withBody(upRequest, (request, { gone }) => backend.up(request, gone)),
    "POST /v1/set": withBody(setRequest, (request) => backend.set(request)),
    "POST /v1/down": () => backend.down(),
    "POST /v1/logout": () => backend.logout(),
  };
  return serveJsonApi({ path, role: "daemon", routes, log });
}

/** An hour: no command waits longer for one answer. */
export const LONGEST_TIMEOUT: Millis = minutes(60);

const UNCHANGED = { loginServer: undefined, authKey: undefined, certPin: undefined };

const timeoutMs = z.number().min(0).max(LONGEST_TIMEOUT);
const pingRequest = z.strictObject({ target: z.string().min(1), timeoutMs });
const prefsFields = {
  hostname: z.string().optional(),
  advertiseExitNode: z.boolean().optional(),
  advertiseRoutes: z.array(z.string()).optional(),
  forwardAccept: z.array(z.string()).optional(),
  acceptRoutes: z.boolean().optional(),
  exitNode: z.string().optional(),
  exitNodeAllowLanAccess: z.boolean().optional(),
  exitNodeDns: z.array(z.string()).optional(),
};
const setRequest = z.strictObject(prefsFields);
const upRequest = z
  .strictObject({
    ...prefsFields,
    loginServer: z.string().optional(),
    authKey: z.string().optional(),
    certPin: z.string().optional(),
    timeoutMs,
  })
  .transform((request): UpRequest => ({ ...UNCHANGED, ...request }));
