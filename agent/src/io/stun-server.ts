/** Tells whoever asks by UDP which address the question came from (STUN), over IPv4 and IPv6. */
import { Ip } from "../base/address.ts";
import { OperationError } from "../base/errors.ts";
import { answerBindingRequest } from "../core/stun/message.ts";
import { bindUdp, type UdpOptions } from "./udp.ts";

export interface StunServerOptions {
  /** "::" and "0.0.0.0" are all addresses of both families. */
  readonly host: string;
  /** 0 is any that is free. */
  readonly port: number;
}

export interface StunServer {
  readonly port: number;
  /** Questions answered. */
  readonly answered: number;
  close(): Promise<void>;
}

/** @throws OperationError */
export async function startStunServer(options: StunServerOptions): Promise<StunServer> {
  const socket = await bindUdp({ port: options.port, ...bindAddresses(options.host) }).catch(
    (error: unknown) => {
      throw stunError(options.port, error);
    },
  );
  let answered = 0;
  socket.onDatagram((from, payload) => {
    const answer = answerBindingRequest(payload, from);
    if (answer === undefined) return;
    answered++;
    socket.send(from, answer);
  });
  return {
    port: socket.localPort,
    get answered() {
      return answered;
    },
    close: () => socket.close(),
  };
}

function bindAddresses(host: string): Pick<UdpOptions, "addressV4" | "addressV6"> {
  const ip = Ip.tryParse(host);
  if (ip === undefined || ip.isUnspecified) return {};
  return ip.isV4 ? { addressV4: host } : { addressV4: LOOPBACK, addressV6: host };
}

/** One address of IPv6 alone: the IPv4 socket is kept where nobody outside reaches it. */
const LOOPBACK = "127.0.0.1";

function stunError(port: number, error: unknown): unknown {
  if (!(error instanceof OperationError) || error.code !== "udp-port-in-use") return error;
  return new OperationError(
    "udp-port-in-use",
    `UDP port ${port} (STUN) is in use by another program: choose another with --stun-port, -1 for none, or stop it`,
    { cause: error.cause },
  );
}
