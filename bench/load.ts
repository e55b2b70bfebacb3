/** Sends loads through a tunnel with iperf3 and ping, and says what arrived and what it cost. */
import type { Contender } from "./dataplane-pairs.ts";

export interface Load {
  readonly name: string;
  /** For the client of iperf3. */
  readonly args: readonly string[];
  /** The payload of one packet, where packets are what counts. */
  readonly packets?: number;
}

export interface Measured {
  readonly gigabits: number;
  readonly cpuPerGigabyte: number;
  /** Delivered each second. */
  readonly kiloPackets: number | undefined;
}

const PATIENCE_MS = 15_000;
const PINGS = 100;

/** @throws Error with what iperf3 said */
export async function measureLoad(contender: Contender, load: Load, seconds: number): Promise<Measured> {
  const { lab, target } = contender;
  const server = lab.start("exit", {
    name: "iperf3-server",
    command: ["iperf3", "-s", "-1", "--forceflush"],
  });
  await server.readyLine(/Server listening/, PATIENCE_MS);
  const cpuBefore = contender.cpuSeconds();
  const { code, lines } = await lab.run(
    "cloud",
    { name: "iperf3", command: ["iperf3", "-c", target, "-t", String(seconds), "-J", ...load.args] },
    seconds * 1000 + PATIENCE_MS,
  );
  const cpu = contender.cpuSeconds() - cpuBefore;
  await server.stop();
  if (code !== 0) throw new Error(`iperf3 through ${contender.name}: ${lines.slice(-5).join(" ")}`);
  const { end } = JSON.parse(lines.join("\n")) as { readonly end: Sums };
  const lost = load.packets === undefined ? 0 : (end.sum?.lost_percent ?? 0) / 100;
  const sum = load.packets === undefined ? end.sum_received : end.sum;
  if (sum === undefined) throw new Error(`iperf3 through ${contender.name} measured nothing`);
  const bytes = sum.bytes * (1 - lost);
  return {
    gigabits: (bytes * 8) / sum.seconds / 1e9,
    cpuPerGigabyte: cpu / (bytes / 1e9),
    kiloPackets: load.packets === undefined ? undefined : bytes / load.packets / sum.seconds / 1000,
  };
}

interface Sums {
  readonly sum?: Sum;
  readonly sum_received?: Sum;
}

interface Sum {
  readonly bytes: number;
  readonly seconds: number;
  readonly lost_percent?: number;
}

export async function measurePing({ lab, target, name }: Contender): Promise<{ p50: number; p99: number }> {
  const command = ["ping", "-i", "0.01", "-c", String(PINGS), "-W", "2", target];
  const { lines } = await lab.run("cloud", { name: "ping", command }, PATIENCE_MS);
  const times = lines
    .map((line) => Number(/time=([\d.]+)/.exec(line)?.[1]))
    .filter((time) => !Number.isNaN(time))
    .sort((a, b) => a - b);
  const at = (part: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN;
  if (times.length === 0) throw new Error(`no ping came back through ${name}`);
  return { p50: at(0.5), p99: at(0.99) };
}
