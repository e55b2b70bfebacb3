/**
 * What a load balancer asks: a TCP port that takes connections while the node is part of its network. There is nothing to say
 * on them; UDP itself has no such question.
 */
import { createServer } from "node:net";
import type { Log } from "../base/log.ts";
import { listenTcp, type TcpListener } from "./listen.ts";

export class HealthCheck {
  readonly #port: number;
  readonly #log: Log;
  #listener: Promise<TcpListener | undefined> | undefined;

  constructor(port: number, log: Log) {
    this.#port = port;
    this.#log = log;
  }

  /** Nothing where it is open already. */
  open(): void {
    this.#listener ??= this.#listen();
  }

  async close(): Promise<void> {
    const listener = this.#listener;
    this.#listener = undefined;
    await (await listener)?.close();
  }

  /** The tunnel works without it, so it is said and not thrown. */
  async #listen(): Promise<TcpListener | undefined> {
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.end();
    });
    try {
      return await listenTcp(server, "::", this.#port);
    } catch (error) {
      this.#log.error("health-check", { error: error instanceof Error ? error.message : String(error) });
      return undefined;
    }
  }
}
