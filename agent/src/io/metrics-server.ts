/** GET /metrics for Prometheus. Its client library is loaded with the first scrape: most nodes are never asked. */
import { createServer, type ServerResponse } from "node:http";
import type { Log } from "../base/log.ts";
import { type Millis, seconds } from "../base/time.ts";
import type { Metric } from "../health/metrics.ts";
import type { Listen } from "./config.ts";
import { listenTcp, type TcpListener } from "./listen.ts";

export interface MetricsServer {
  /** Where it listens; undefined while it can not. */
  readonly port: number | undefined;
  close(): Promise<void>;
}

export interface MetricsServerOptions {
  readonly listen: Listen;
  readonly read: () => readonly Metric[];
  readonly log: Log;
  /** Between two tries to listen. @default 10 s */
  readonly retryMs?: Millis;
}

/** Both families. */
const ANYWHERE = "::";
const RETRY: Millis = seconds(10);

/**
 * Where it can not listen it says so once and tries again: the address may be the node's own in the tunnel, which comes with
 * the first map. A node without metrics is better than none.
 */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer> {
  const { retryMs = RETRY } = options;
  let [listener, isClosed]: [TcpListener | undefined, boolean] = [undefined, false];
  let timer: NodeJS.Timeout | undefined;
  const attempt = async (isFirst: boolean): Promise<void> => {
    listener = await tryToListen(options, isFirst);
    if (listener === undefined && !isClosed) {
      timer = setTimeout(() => void (trying = attempt(false)), retryMs).unref();
    }
  };
  let trying = attempt(true);
  await trying;
  return {
    get port() {
      return listener?.address.port;
    },
    async close() {
      isClosed = true;
      clearTimeout(timer);
      await trying;
      await listener?.close();
    },
  };
}

async function tryToListen(
  { listen, read, log }: MetricsServerOptions,
  isFirst: boolean,
): Promise<TcpListener | undefined> {
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
    const listener = await listenTcp(server, listen.host ?? ANYWHERE, listen.port, "--metrics");
    if (!isFirst) log.info("metrics-on", { address: listener.address.text });
    return listener;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    if (isFirst) log.warn("metrics-off", { message, remedy: "it is tried again while the node runs" });
    return undefined;
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
