import type { AddressInfo, Server, Socket } from "node:net";
import { Ip, IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { codeOf } from "./system-error.ts";

export interface TcpListener {
  readonly address: IpPort;
  /** Stops listening and ends every connection, also those in a handshake or upgraded to something else. */
  close(): Promise<void>;
}

/** Ports below this are for root, or for CAP_NET_BIND_SERVICE. */
const FIRST_FREE_PORT = 1024;

/**
 * Binds a TCP server; port 0 is any that is free. `host` "::" takes IPv4 too, and alone where there is no IPv6.
 * @param flag by which the user chose the address, for errors
 * @throws OperationError that says what stands in the way
 */
export async function listenTcp(
  server: Server,
  host: string,
  port: number,
  flag = "--listen",
): Promise<TcpListener> {
  // Node itself does not know the connections of a server once TLS or an upgrade has them.
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const address = await bindTcp(server, host, port, flag);
  return {
    address,
    async close() {
      await new Promise<void>((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      });
    },
  };
}

async function bindTcp(server: Server, host: string, port: number, flag: string): Promise<IpPort> {
  try {
    await listenOnce(server, host, port);
  } catch (error) {
    if (host === "::" && codeOf(error) === "EAFNOSUPPORT")
      return await bindTcp(server, "0.0.0.0", port, flag);
    throw listenError(host, port, flag, error);
  }
  const { address, port: bound } = server.address() as AddressInfo;
  return new IpPort(Ip.parse(address), bound);
}

function listenOnce(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host, port }, () => {
      server.removeListener("error", reject);
      resolve();
    });
  });
}

function listenError(host: string, port: number, flag: string, cause: unknown): OperationError {
  switch (codeOf(cause)) {
    case "EADDRINUSE":
      return new OperationError(
        "tcp-port-in-use",
        `TCP port ${port} is in use by another program: choose another with ${flag}, or stop it`,
        { cause },
      );
    case "EACCES":
      return new OperationError(
        "tcp-no-permission",
        `no permission to listen on TCP port ${port}: run as root, give CAP_NET_BIND_SERVICE, or choose a port ` +
          `from ${FIRST_FREE_PORT} with ${flag}`,
        { cause },
      );
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new OperationError(
        "tcp-no-address",
        `${host} is no address of this machine: give one that is with ${flag}, or "::" for all`,
        { cause },
      );
    default:
      return new OperationError(
        "tcp-listen",
        `can not listen on ${host} port ${port} (${codeOf(cause)}): choose another address with ${flag}`,
        { cause },
      );
  }
}
