/** Sends loads through a tunnel with iperf3 and ping, and says what arrived and what it cost. */
import type { BenchLab } from "./mesh.ts";

/** What loads are sent through: from "cloud" to a server. */
export interface Tunnel {
  readonly name: string;
  readonly lab: BenchLab;
  /** The server's address. */
  readonly target: string;
  /** The server's namespace. @default "exit" */
  readonly server?: string;
  /** What the programs that are measured have used so far. */
  cpuSeconds(): number;
}

export interface Load {
  readonly name: string;
  /** For the client of iperf3. */
  readonly args: readonly string[];
  /** The payload of one packet, where packets are what counts. */
  readonly packets?: number;
  /** Measured with segmentation offload as it is only. */
  readonly once?: boolean;
}

export interface Measured {
  readonly gigabits: number;
  readonly cpuPerGigabyte: number;
  /** Delivered each second. */
  readonly kiloPackets: number | undefined;
  readonly bytes: number;
  /** The address that the server saw the client at. */
  readonly seenAs: string | undefined;
}

const PATIENCE_MS = 15_000;
const PINGS = 100;
const EVERY_MS = 10;
const BUSY_PINGS = 1_000;

/** @throws Error with what iperf3 said */
export async function measureLoad(contender: Tunnel, load: Load, seconds: number): Promise<Measured> {
  const { lab, target } = contender;
  const server = lab.start(contender.server ?? "exit", {
    name: "iperf3-server",
    command: ["iperf3", "-s", "-1", "--forceflush"],
  });
  try {
    await server.readyLine(/Server listening/, PATIENCE_MS);
    const cpuBefore = contender.cpuSeconds();
    const { code, lines } = await lab.run(
      "cloud",
      { name: "iperf3", command: ["iperf3", "-c", target, "-t", String(seconds), "-J", ...load.args] },
      seconds * 1000 + PATIENCE_MS,
    );
    const cpu = contender.cpuSeconds() - cpuBefore;
    if (code !== 0) throw new Error(`iperf3 through ${contender.name}: ${lines.slice(-5).join(" ")}`);
    const { bytes, lasted } = arrived(JSON.parse(lines.join("\n")) as Report, load);
    return {
      gigabits: (bytes * 8) / lasted / 1e9,
      cpuPerGigabyte: cpu / (bytes / 1e9),
      kiloPackets: load.packets === undefined ? undefined : bytes / load.packets / lasted / 1000,
      bytes,
      seenAs: /Accepted connection from ([\d.]+)/.exec(server.lines.join("\n"))?.[1],
    };
  } finally {
    await server.stop();
  }
}

/** Both ways together where both were used. */
function arrived({ end }: Report, load: Load): { readonly bytes: number; readonly lasted: number } {
  if (load.packets === undefined) {
    const sums = [end.sum_received, end.sum_received_bidir_reverse].filter((sum) => sum !== undefined);
    const bytes = sums.reduce((total, sum) => total + sum.bytes, 0);
    return { bytes, lasted: sums[0]?.seconds ?? NaN };
  }
  const bytes = (end.sum?.bytes ?? NaN) * (1 - (end.sum?.lost_percent ?? 0) / 100);
  return { bytes, lasted: end.sum?.seconds ?? NaN };
}

interface Report {
  readonly end: {
    readonly sum?: Sum;
    readonly sum_received?: Sum;
    readonly sum_received_bidir_reverse?: Sum;
  };
}

interface Sum {
  readonly bytes: number;
  readonly seconds: number;
  readonly lost_percent?: number;
}

export interface RoundTrips {
  readonly p50: number;
  readonly p99: number;
}

type Pinged = Pick<Tunnel, "name" | "lab" | "target">;

/** The machine falls asleep in between, so each costs some wake-ups. */
export function measurePing(contender: Pinged, count: number = PINGS): Promise<RoundTrips> {
  return roundTrips(contender, count, ["-i", String(EVERY_MS / 1000)]);
}

/** The next one leaves when the one before has come back: what the programs themselves take. */
export function measureBusyPing(contender: Pinged): Promise<RoundTrips> {
  return roundTrips(contender, BUSY_PINGS, ["-A"]);
}

async function roundTrips(
  { lab, target, name }: Pinged,
  count: number,
  how: readonly string[],
): Promise<RoundTrips> {
  const command = ["ping", ...how, "-c", String(count), "-W", "2", target];
  const { lines } = await lab.run("cloud", { name: "ping", command }, count * EVERY_MS + PATIENCE_MS);
  const times = lines
    .map((line) => Number(/time=([\d.]+)/.exec(line)?.[1]))
    .filter((time) => !Number.isNaN(time))
    .sort((a, b) => a - b);
  const at = (part: number): number =>
    times[Math.min(times.length - 1, Math.floor(times.length * part))] ?? NaN;
  if (times.length === 0) throw new Error(`no ping came back through ${name}`);
  return { p50: at(0.5), p99: at(0.99) };
}

/** While a TCP connection takes all there is. */
export async function measureLoadedPing(contender: Tunnel, seconds: number): Promise<RoundTrips> {
  const load = measureLoad(contender, { name: "TCP beside pings", args: [] }, seconds + 1);
  const settled = load.catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, 500));
  try {
    return await measurePing(contender, (seconds * 1000) / EVERY_MS);
  } finally {
    await settled;
  }
}
