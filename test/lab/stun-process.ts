/** A STUN server for a namespace. */
import { createSocket } from "node:dgram";
import { Ip, IpPort } from "../../agent/src/base/address.ts";
import { answerBindingRequest } from "../../agent/src/core/stun/message.ts";

const socket = createSocket("udp4");
socket.on("message", (packet, { address, port }) => {
  const answer = answerBindingRequest(packet, new IpPort(Ip.parse(address), port));
  if (answer !== undefined) socket.send(answer, port, address);
});
socket.bind(Number(process.argv[2]), () => process.stdout.write("ready\n"));
