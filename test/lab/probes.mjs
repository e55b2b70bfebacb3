// Small programs for the lab's namespaces: who sees which address, and what gets through.
import { createSocket } from "node:dgram";
import { connect, createServer } from "node:net";

const [command, ...args] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${line}\n`);

const programs = {
  /** Answers every datagram with the address it came from, and says so. */
  "udp-echo": (port) => {
    const socket = createSocket("udp4");
    socket.on("message", (payload, { address, port: from }) => {
      say(`${String(payload)} from ${address}:${from}`);
      socket.send(`${address}:${from}`, from, address);
    });
    socket.bind(Number(port), () => say("ready"));
  },
  /** From one port asks each destination what it sees; waits for all answers or 400 ms. */
  "udp-ask": (port, ...destinations) => {
    const socket = createSocket("udp4");
    const answers = new Map();
    socket.on("message", (payload, { address, port: from }) =>
      answers.set(`${address}:${from}`, String(payload)),
    );
    socket.on("error", (error) => say(error.message));
    socket.bind(Number(port), () => {
      for (const destination of destinations) {
        const [address, to] = destination.split(":");
        socket.send("ask", Number(to), address, () => {});
      }
      setTimeout(() => {
        for (const destination of destinations) say(answers.get(destination) ?? "silence");
        socket.close();
      }, 400);
    });
  },
  "tcp-echo": (port) => {
    const server = createServer((socket) =>
      socket.on("error", () => {}).end(`${socket.remoteAddress?.replace("::ffff:", "")}`),
    );
    server.listen(Number(port), () => say("ready"));
  },
  "tcp-ask": (destination) => {
    const [, host, port] = /^\[?(.*?)\]?:(\d+)$/.exec(destination);
    const socket = connect({ host, port: Number(port) });
    let answer = "";
    const end = () => {
      say(answer || "silence");
      socket.destroy();
      process.exit(0);
    };
    socket
      .on("data", (data) => (answer += data))
      .on("end", end)
      .on("error", end);
    setTimeout(end, 600);
  },
};
programs[command](...args);
