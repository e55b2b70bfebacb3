/** The lab's web server: it tells everybody the address that it is asked from, by HTTP and by UDP; and whoever asks it. */
import { createSocket } from "node:dgram";
import { serveHttp } from "./http.ts";

/** Both on the same port. */
export async function serveWeb(port: number): Promise<void> {
  const udp = createSocket({ type: "udp6", ipv6Only: false });
  udp.on("message", (_, { address, port: from }) => {
    udp.send(`hello ${address.replace("::ffff:", "")}`, from, address);
  });
  await new Promise<void>((resolve, reject) => {
    udp.once("error", reject).bind(port, () => resolve());
  });
  await serveHttp(port);
}

/** What the web server at `address` sees of a datagram from `sourcePort`; undefined when nothing comes back. */
export function askByUdp(
  address: string,
  port: number,
  sourcePort: number,
  timeoutMs: number,
): Promise<string | undefined> {
  const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
  return new Promise((resolve) => {
    const end = (answer: string | undefined): void => {
      clearTimeout(timer);
      clearInterval(again);
      socket.close();
      resolve(answer);
    };
    const timer = setTimeout(() => end(undefined), timeoutMs);
    const ask = (): void => socket.send("?", port, address, () => {});
    const again = setInterval(ask, ASK_AGAIN_MS);
    socket.once("error", () => end(undefined));
    socket.once("message", (payload) => end(String(payload)));
    socket.bind(sourcePort, ask);
  });
}

/** The address in its answer, which a program printed; undefined where there is none. */
export function seenBy(lines: readonly string[]): string | undefined {
  return /hello ([0-9a-f.:]+)/.exec(lines.join("\n"))?.[1];
}

const ASK_AGAIN_MS = 500;
