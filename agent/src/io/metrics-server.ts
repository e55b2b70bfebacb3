/** GET /metrics for Prometheus. Its client library is loaded with the first scrape: most nodes are never asked. */
import { createServer, type ServerResponse } from "node:http";
import type { Log } from "../base/log.ts";
import type { Metric } from "../health/metrics.ts";
import type { Listen } from "./config.ts";
import { listenTcp } from "./listen.ts";

export interface MetricsServer {
  /** Where it listens; undefined where it could not. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

export interface MetricsServerOptions {
  readonly listen: Listen;
  readonly read: () => readonly Metric[];
  readonly log: Log;
}

/** Both families. */
const ANYWHERE = "::";

/** A port that is taken is a warning: a node without metrics is better than none. */
export async function startMetricsServer({
  listen,
  read,
  log,
}: MetricsServerOptions): Promise<MetricsServer> {
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0];
    if (request.method !== "GET" || path !== "/metrics")
      return void response.writeHead(404).end("see /metrics\n");
    answer(response, read).catch((error: unknown) => {
      log.error("metrics", { message: String(error) });
      response.writeHead(500).end();
    });
  });
  try {
    const listener = await listenTcp(server, listen.host ?? ANYWHERE, listen.port);
    return { port: listener.address.port, close: () => listener.close() };
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    log.warn("metrics-off", { message, remedy: "give --metrics another address, or off" });
    return { port: undefined, close: async () => {} };
  }
}

async function answer(response: ServerResponse, read: () => readonly Metric[]): Promise<void> {
  const { Counter, Gauge, Registry } = await import("./apart/prom-client.ts");
  const registry = new Registry();
  for (const { name, help, type, labels, samples } of read()) {
    const settings = { name, help, labelNames: [...labels], registers: [registry] };
    const counter = type === "counter" ? new Counter(settings) : undefined;
    const gauge = type === "gauge" ? new Gauge(settings) : undefined;
    for (const { labels: values, value } of samples) {
      counter?.inc(values, value);
      gauge?.set(values, value);
    }
  }
  response.setHeader("content-type", registry.contentType);
  response.end(await registry.metrics());
}
