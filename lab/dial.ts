/** TCP connections out of a namespace of the lab, without a program in it. */
import { Socket } from "node:net";
import { Ip, IpPort } from "../agent/src/base/address.ts";
import { openSocketIn, SOCK_STREAM } from "../agent/src/io/ffi/namespace-sockets.ts";

export interface Dial {
  /** What `ip netns` calls it. */
  readonly netns: string;
  /** An address of its own. */
  readonly from: string;
  readonly to: { readonly ip: string; readonly port: number };
}

/** @throws OperationError where the namespace or the address is not there */
export function dial({ netns, from, to }: Dial): Socket {
  const address = new IpPort(Ip.parse(from), 0);
  return new Socket({ fd: openSocketIn({ netns, type: SOCK_STREAM, address }) }).connect(to.port, to.ip);
}

/** Whether somebody answers there. */
export function answers(way: Dial, timeoutMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = dial(way);
    const end = (answered: boolean): void => {
      socket.destroy();
      resolve(answered);
    };
    socket.setTimeout(timeoutMs, () => end(false));
    socket.once("connect", () => end(true));
    socket.once("error", () => end(false));
  });
}
