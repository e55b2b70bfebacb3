/** Relay and coordination on one TLS port, told apart by path: what a network of one machine needs. */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Server as HttpsServer } from "node:https";
import type { JsonObject } from "../core/control/json.ts";
import { type ControlRole, type ControlRoleOptions, startControl } from "./control.ts";
import { type Relay, type RelayOptions, startRelay } from "./relay.ts";

export interface SharedPortOptions {
  readonly relay: Omit<RelayOptions, "share">;
  /** @param ownMap the relay map with this relay alone */
  readonly control: (ownMap: JsonObject) => Promise<Omit<ControlRoleOptions, "shared">>;
}

export interface SharedPort {
  readonly relay: Relay;
  readonly control: ControlRole;
  close(): Promise<void>;
}

/** @throws OperationError, UsageError */
export async function startSharedPort(options: SharedPortOptions): Promise<SharedPort> {
  let server: HttpsServer | undefined;
  const relay = await startRelay({ ...options.relay, share: (shared) => (server = shared) });
  try {
    if (server === undefined) throw new Error("the relay has shared no server");
    const ownMap: JsonObject = { Regions: { [options.relay.regionId]: { ...relay.derpMapRegion } } };
    const control = await startControl({
      ...(await options.control(ownMap)),
      shared: { server, port: relay.address.port, certPin: relay.isPublic ? undefined : relay.certPin },
    });
    answerTheRest(server);
    const close = async (): Promise<void> => {
      await control.close();
      await relay.close();
    };
    return { relay, control, close };
  } catch (error) {
    await relay.close();
    throw error;
  }
}

/** Added after the others, so that it sees what none of them has answered. */
function answerTheRest(server: HttpsServer): void {
  server.on("request", (_: IncomingMessage, response: ServerResponse) => {
    if (!response.headersSent) response.writeHead(404, { "Content-Type": "text/plain" }).end("not found\n");
  });
  server.on("upgrade", (request: IncomingMessage, socket) => {
    const path = (request.url ?? "/").split("?", 1)[0] ?? "/";
    if (path !== "/ts2021" && path !== "/derp" && !socket.writableEnded)
      socket.end("HTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n");
  });
}
