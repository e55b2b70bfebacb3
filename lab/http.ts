/** A web server that tells its visitors their address, and a visitor. */
import { createServer, get, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** Listens on every address. Port 0 takes a free one; the answer is the port. */
export function serveHttp(port: number): Promise<{ readonly port: number; readonly server: Server }> {
  const server = createServer((request, response) => {
    const from = request.socket.remoteAddress?.replace("::ffff:", "") ?? "nowhere";
    response.setHeader("content-type", "text/plain");
    response.end(`hello ${from}, this is ${request.headers.host ?? "nobody"}\n`);
  });
  return new Promise((resolve, reject) => {
    server.on("error", reject).listen(port, () => {
      resolve({ port: (server.address() as AddressInfo).port, server });
    });
  });
}

export interface HttpAnswer {
  readonly status: number;
  readonly body: string;
  readonly tookMs: number;
}

/** Rejects with Node's error when there is no whole answer within `timeoutMs`. */
export function fetchHttp(url: string, timeoutMs: number): Promise<HttpAnswer> {
  const start = performance.now();
  return new Promise((resolve, reject) => {
    const request = get(url, { agent: false, signal: AbortSignal.timeout(timeoutMs) }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text: string) => (body += text));
      response.on("error", reject);
      response.on("end", () => {
        resolve({ status: response.statusCode ?? 0, body, tookMs: performance.now() - start });
      });
    });
    request.on("error", reject);
  });
}
