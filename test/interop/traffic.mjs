// What flows through the tunnels in these tests. Each program says a line when it listens.
import { createHash } from "node:crypto";
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

const EVERY_MS = 10;
const [command = "", ...args] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${line}\n`);

const programs = {
  /** A steady flow of numbered datagrams. */
  send: (ip, port) => {
    const socket = createSocket("udp4");
    let sequence = 0;
    setInterval(() => socket.send(String(sequence++), Number(port), ip, () => {}), EVERY_MS);
  },
  /** Says of each its number and the milliseconds of the clock that all processes share. */
  receive: (port) => {
    const socket = createSocket("udp4");
    socket.on("message", (payload) => say(`${payload.toString()} ${Date.now()}`));
    socket.bind(Number(port), () => say("listening"));
  },
  /** Gives everybody the same bytes, and says their hash. */
  give: (port, length) => {
    const bytes = Buffer.alloc(Number(length), (i) => i);
    for (let i = 0; i < bytes.length; i += 4) bytes.writeUInt32LE(Math.imul(i, 2_654_435_761) >>> 0, i);
    const server = createServer((socket) => socket.on("error", () => {}).end(bytes));
    server.listen(Number(port), () => say(`listening ${hashOf([bytes])}`));
  },
  /** Takes them, and says what arrived. */
  take: (ip, port) => {
    const parts = [];
    const socket = connect({ host: ip, port: Number(port) });
    socket.on("error", ({ message }) => say(message));
    socket.on("data", (part) => parts.push(part)).on("close", () => say(`took ${hashOf(parts)}`));
  },
  /** Gives everybody zeros without an end. */
  pour: (port) => {
    const bytes = Buffer.alloc(65_536);
    const server = createServer((socket) => {
      const pour = () => {
        while (!socket.destroyed && socket.write(bytes));
      };
      socket.on("error", () => {}).on("drain", pour);
      pour();
    });
    server.listen(Number(port), () => say("listening"));
  },
  /** Takes them, and says when a megabyte has come. */
  swallow: (ip, port) => {
    let [length, hasSaid] = [0, false];
    const socket = connect({ host: ip, port: Number(port) });
    socket.on("error", ({ message }) => say(message));
    socket.on("data", (part) => {
      length += part.length;
      if (length >= 1_000_000 && !hasSaid) say("flowing");
      hasSaid ||= length >= 1_000_000;
    });
  },
};

function hashOf(parts) {
  return createHash("sha256").update(Buffer.concat(parts)).digest("hex");
}

programs[command]?.(...args);
