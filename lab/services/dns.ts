/** The names of the lab's internet: endpoints of AWS, instances, and the hosts of a scenario. Others do not exist. */
import { createSocket, type Socket } from "node:dgram";
import { createServer, type Server } from "node:net";
import { Ip } from "../../agent/src/base/address.ts";
import { concat, viewOf } from "../../agent/src/base/bytes.ts";
import type { LabCloud } from "../cloud/cloud.ts";
import {
  decodeQuestion,
  encodeAnswer,
  encodeRefusal,
  NAME_ERROR,
  NO_ERROR,
  TYPE_A,
  TYPE_AAAA,
} from "./dns-message.ts";
import { endpointOf } from "./endpoints.ts";
import { privateName, publicName } from "./metadata.ts";

/** Names in lower case → addresses. Undefined for a name that does not exist. */
export type Names = (name: string) => readonly string[] | undefined;

/** So short that what moves is found again at once. In seconds. */
const TTL = 5;
/** RFC 1035 section 4.2.1: of a datagram. */
const MAX_DATAGRAM = 512;

/** @param hosts of a scenario, which come first. @param own names that the endpoint host has beside those of AWS */
export function labNames(cloud: LabCloud, hosts: Names, own: readonly string[] = []): Names {
  return (name) => {
    const known = hosts(name);
    if (known !== undefined) return known;
    if (own.includes(name) || endpointOf(name, cloud) !== undefined) return [cloud.endpointHost.ip];
    for (const region of cloud.regions.values()) {
      for (const { privateIps, publicIp } of region.interfaces.values()) {
        const inside = privateIps.find((ip) => privateName(ip, region.name) === name);
        if (inside !== undefined) return [inside];
        if (publicIp !== undefined && publicName(publicIp, region.name) === name) return [publicIp];
      }
    }
    return undefined;
  };
}

/** What to send back; undefined for nothing. */
export function answerDns(message: Uint8Array, names: Names): Uint8Array | undefined {
  const question = decodeQuestion(message);
  if (question === undefined) return undefined;
  if ("malformed" in question) return encodeRefusal(question.id, question.malformed);
  const found = names(question.name);
  if (found === undefined) return encodeAnswer(question, NAME_ERROR, [], TTL);
  const addresses = found
    .map((text) => Ip.parse(text))
    .filter(({ isV4 }) => (isV4 ? TYPE_A : TYPE_AAAA) === question.type);
  const all = encodeAnswer(question, NO_ERROR, addresses, TTL);
  // Rather fewer addresses than an answer cut short.
  return all.length <= MAX_DATAGRAM ? all : encodeAnswer(question, NO_ERROR, addresses.slice(0, 16), TTL);
}

/** @param fd a bound UDP socket, which it closes in the end */
export function serveDnsUdp(fd: number, names: Names): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.on("message", (message, { address, port }) => {
    const answer = answerDns(message, names);
    if (answer !== undefined) socket.send(answer, port, address);
  });
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd }, () => {
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

/** @param fd a bound TCP socket. Each message has its length in front (RFC 1035 section 4.2.2). */
export function serveDnsTcp(names: Names): Server {
  return createServer((socket) => {
    let rest: Uint8Array = new Uint8Array(0);
    socket.on("error", () => socket.destroy());
    socket.on("data", (chunk) => {
      rest = concat(rest, chunk);
      while (rest.length >= 2) {
        const length = viewOf(rest).getUint16(0);
        if (rest.length < 2 + length) break;
        const answer = answerDns(rest.subarray(2, 2 + length), names);
        rest = rest.slice(2 + length);
        if (answer !== undefined)
          socket.write(concat(Uint8Array.of(answer.length >> 8, answer.length & 255), answer));
      }
    });
  });
}
