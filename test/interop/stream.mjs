// A steady flow of datagrams, to see for how long it is interrupted: `send IP PORT` and `receive PORT`.
import { createSocket } from "node:dgram";

const EVERY_MS = 10;
const [command, ...args] = process.argv.slice(2);
const socket = createSocket("udp4");

if (command === "send") {
  const [ip, port] = args;
  let sequence = 0;
  setInterval(() => socket.send(String(sequence++), Number(port), ip, () => {}), EVERY_MS);
} else {
  // A line for each: its number and the milliseconds of the clock that all processes share.
  socket.on("message", (payload) => process.stdout.write(`${payload.toString()} ${Date.now()}\n`));
  socket.bind(Number(args[0]), () => process.stdout.write("listening\n"));
}
