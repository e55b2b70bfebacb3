/** Real ICMP echo over a raw socket, for machines without a `ping` command. Needs root, as ping does. */
import type { Ip } from "../agent/src/base/address.ts";
import { Ip as Address, IpPort } from "../agent/src/base/address.ts";
import { OperationError } from "../agent/src/base/errors.ts";
import { buildEcho, parseEcho } from "../agent/src/core/ip/icmp.ts";
import { parsePacket } from "../agent/src/core/ip/packet.ts";
import { isAbsent } from "../agent/src/io/ffi/koffi.ts";
import { AF_INET, errnoName, IPPROTO_ICMP, type Libc, loadLibc, SOCK_RAW } from "../agent/src/io/ffi/libc.ts";

/** How long until the answer came, in ms; undefined when none came in time. IPv4 only. @throws OperationError */
export async function icmpEcho(to: Ip, sequence: number, timeoutMs: number): Promise<number | undefined> {
  const libc = loadLibc();
  if (isAbsent(libc)) throw new OperationError("icmp-no-ffi", `no raw sockets here: ${libc.absent}`);
  const socket = libc.socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
  if (socket < 0) {
    throw new OperationError(
      "icmp-permission",
      `no permission for a raw socket (${errnoName(socket)}): run as root`,
    );
  }
  try {
    return await echoOver(libc, socket, to, sequence, timeoutMs);
  } finally {
    libc.close(socket);
  }
}

const IP_HEADER = 20;
const DATA = new Uint8Array(32).fill(0x5a);

function echoOver(
  libc: Libc,
  socket: number,
  to: Ip,
  sequence: number,
  timeoutMs: number,
): Promise<number | undefined> {
  const identifier = process.pid & 0xffff;
  // The kernel writes the IP header of what a raw socket sends, and hands it out with what is received.
  const any = Address.parse("0.0.0.0");
  const request = buildEcho(any, to, { kind: "request", identifier, sequence, data: DATA }).subarray(
    IP_HEADER,
  );
  return new Promise((resolve, reject) => {
    const start = performance.now();
    const buffer = new Uint8Array(2048);
    const end = (took: number | undefined): void => {
      clearTimeout(timer);
      watch.close();
      resolve(took);
    };
    const watch = libc.watchReadable(socket, () => {
      for (;;) {
        const got = libc.recvfrom(socket, buffer);
        if (typeof got === "number") return;
        const packet = parsePacket(buffer.slice(0, got.length));
        if (typeof packet === "string" || got.from.ip.text !== to.text) continue;
        const echo = parseEcho(packet);
        if (typeof echo === "string" || echo.kind !== "reply") continue;
        if (echo.identifier === identifier && echo.sequence === sequence)
          return end(performance.now() - start);
      }
    });
    const timer = setTimeout(() => end(undefined), timeoutMs);
    const sent = libc.sendto(socket, request, new IpPort(to, 0));
    if (sent >= 0) return;
    clearTimeout(timer);
    watch.close();
    reject(
      new OperationError("icmp-send", `an ICMP echo to ${to.text} can not be sent (${errnoName(sent)})`),
    );
  });
}
