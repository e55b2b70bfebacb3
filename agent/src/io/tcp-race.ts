import type { Socket } from "node:net";
import type { Ip, IpPort } from "../base/address.ts";
import { type Millis, millis } from "../base/time.ts";
import type { OwnNetwork } from "./own-network.ts";

export interface TcpRaceOptions {
  /** In the order of preference. */
  readonly addresses: readonly IpPort[];
  /** The local address to connect from. */
  readonly from: Ip | undefined;
  /** For the whole race. */
  readonly limit: Millis;
  readonly signal: AbortSignal;
  readonly network: OwnNetwork;
}

/** The head start of each address before the next (RFC 8305 recommends 250 ms). */
const HEAD_START: Millis = millis(200);

/** Connects to whichever address answers first. @throws the last address's error, or ETIMEDOUT */
export function raceTcp(options: TcpRaceOptions): Promise<Socket> {
  const { addresses, from, limit, signal, network } = options;
  return new Promise((resolve, reject) => {
    const running = new Set<Socket>();
    let next = 0;
    let headStart: NodeJS.Timeout | undefined;
    const finish = (winner: Socket | undefined, error?: unknown): void => {
      clearTimeout(headStart);
      clearTimeout(deadline);
      signal.removeEventListener("abort", aborted);
      running.delete(winner as Socket);
      for (const socket of running) socket.destroy();
      if (winner === undefined) reject(error);
      else resolve(winner);
    };
    const failed = (socket: Socket, error: unknown): void => {
      if (!running.delete(socket)) return;
      if (next < addresses.length) start();
      else if (running.size === 0) finish(undefined, error);
    };
    const start = (): void => {
      clearTimeout(headStart);
      const to = addresses[next++];
      if (to === undefined) return;
      let socket: Socket;
      try {
        socket = network.connect(to, from);
      } catch (error) {
        return finish(undefined, error);
      }
      running.add(socket);
      socket.on("error", (error) => failed(socket, error));
      socket.once("connect", () => finish(socket));
      headStart = setTimeout(start, HEAD_START);
    };
    const timedOut = (): void =>
      finish(undefined, Object.assign(new Error("no answer"), { code: "ETIMEDOUT" }));
    const deadline = setTimeout(timedOut, limit);
    const aborted = (): void => finish(undefined, signal.reason);
    signal.addEventListener("abort", aborted);
    start();
  });
}
