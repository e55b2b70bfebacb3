import type { AddressInfo, Server } from "node:net";
import { Ip, IpPort } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { codeOf } from "./system-error.ts";

/** Ports below this are for root, or for CAP_NET_BIND_SERVICE. */
const FIRST_FREE_PORT = 1024;

/**
 * Binds a TCP server; port 0 is any that is free. `host` "::" takes IPv4 too, and alone where there is no IPv6.
 * @throws OperationError that says what stands in the way
 */
export async function listenTcp(server: Server, host: string, port: number): Promise<IpPort> {
  try {
    await listenOnce(server, host, port);
  } catch (error) {
    if (host !== "::" || codeOf(error) !== "EAFNOSUPPORT") throw listenError(host, port, error);
    return await listenTcp(server, "0.0.0.0", port);
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

function listenError(host: string, port: number, cause: unknown): OperationError {
  switch (codeOf(cause)) {
    case "EADDRINUSE":
      return new OperationError(
        "tcp-port-in-use",
        `TCP port ${port} is in use by another program: choose another with --listen, or stop it`,
        { cause },
      );
    case "EACCES":
      return new OperationError(
        "tcp-no-permission",
        `no permission to listen on TCP port ${port}: run as root, give CAP_NET_BIND_SERVICE, or choose a port ` +
          `from ${FIRST_FREE_PORT} with --listen`,
        { cause },
      );
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return new OperationError(
        "tcp-no-address",
        `${host} is no address of this machine: give one that is with --listen, or "::" for all`,
        { cause },
      );
    default:
      return new OperationError(
        "tcp-listen",
        `can not listen on ${host} port ${port} (${codeOf(cause)}): choose another address with --listen`,
        { cause },
      );
  }
}
