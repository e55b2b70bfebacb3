/** Offers what the node counts: to Prometheus, which asks, and to CloudWatch's agent, which is told once a minute. */
import { createSocket } from "node:dgram";
import { hostname } from "node:os";
import type { Log } from "../base/log.ts";
import { EmbeddedMetrics } from "../health/embedded-metrics.ts";
import { metricsOf, type MetricsInput } from "../health/metrics.ts";
import { systemCalendar } from "../io/calendar.ts";
import type { Listen } from "../io/config.ts";
import { startMetricsServer } from "../io/metrics-server.ts";

export interface MetricsOptions {
  readonly listen: Listen | "off";
  /** The UDP port of CloudWatch's agent on this machine, "stdout", or off. */
  readonly embedded: number | "stdout" | "off";
  readonly read: () => Omit<MetricsInput, "memory" | "cpuSeconds">;
  readonly log: Log;
}

const EVERY_MS = 60_000;

export async function startMetrics(options: MetricsOptions): Promise<{ close(): Promise<void> }> {
  const { listen, log } = options;
  const read = () => metricsOf({ ...options.read(), ...ownUse() });
  const server = listen === "off" ? undefined : await startMetricsServer({ listen, read, log });
  const stop = options.embedded === "off" ? undefined : tellCloudWatch(options.embedded, read);
  return {
    async close() {
      stop?.();
      await server?.close();
    },
  };
}

function ownUse(): Pick<MetricsInput, "memory" | "cpuSeconds"> {
  const { user, system } = process.cpuUsage();
  return { memory: process.memoryUsage.rss(), cpuSeconds: (user + system) / 1e6 };
}

function tellCloudWatch(to: number | "stdout", read: () => ReturnType<typeof metricsOf>): () => void {
  const embedded = new EmbeddedMetrics();
  const socket = to === "stdout" ? undefined : createSocket("udp4").unref();
  // Nobody listens there, or not yet: the next minute is told anew.
  socket?.on("error", () => {});
  const timer = setInterval(() => {
    const line = `${embedded.line(read(), hostname(), systemCalendar.now())}\n`;
    if (to === "stdout") process.stdout.write(line);
    else socket?.send(line, to, "127.0.0.1");
  }, EVERY_MS).unref();
  return () => {
    clearInterval(timer);
    socket?.close();
  };
}
