/** Asks STUN servers by the egress interface which address they see: that of exit traffic. */
import { createSocket } from "node:dgram";
import type { Ip, IpPort } from "../../base/address.ts";
import { equalBytes } from "../../base/bytes.ts";
import { randomBytes } from "../../base/random.ts";
import { decodeBindingResponse, encodeBindingRequest, STUN_TX_ID_LENGTH } from "../../core/stun/message.ts";
import { systemRandom } from "../random.ts";

/** Each round asks every server once. */
const ROUNDS = 3;
const ROUND_MS = 700;
/** More than a few tell nothing new. */
const MOST_SERVERS = 4;

/** @param from the egress interface's own address @returns `undefined` when nobody answered */
export async function probeEgress(from: Ip, servers: readonly IpPort[]): Promise<Ip | undefined> {
  const asked = servers.filter(({ ip }) => ip.isV4 === from.isV4).slice(0, MOST_SERVERS);
  if (asked.length === 0) return undefined;
  const txId = randomBytes(systemRandom, STUN_TX_ID_LENGTH);
  const request = encodeBindingRequest(txId);
  const socket = createSocket(from.isV4 ? "udp4" : "udp6");
  return await new Promise((resolve) => {
    let [round, timer]: [number, NodeJS.Timeout | undefined] = [0, undefined];
    const end = (seen: Ip | undefined): void => {
      clearTimeout(timer);
      socket.removeAllListeners().on("error", () => {});
      socket.close();
      resolve(seen);
    };
    const ask = (): void => {
      if (round++ === ROUNDS) return end(undefined);
      for (const { ip, port } of asked) socket.send(request, port, ip.text, () => {});
      timer = setTimeout(ask, ROUND_MS);
    };
    socket.on("message", (packet) => {
      const response = decodeBindingResponse(packet);
      if (typeof response !== "string" && equalBytes(response.txId, txId)) end(response.address.ip);
    });
    socket.on("error", () => end(undefined));
    socket.bind({ address: from.text, port: 0, exclusive: true }, ask);
  });
}
