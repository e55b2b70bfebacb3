/** Echo requests out of a namespace and when they were answered, as `prober.ts` says it. */
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { LabProcess } from "../lab/processes.ts";
import { sleep } from "../lab/system.ts";
import type { MachineName } from "./internet.ts";
import { type BenchLab, clock } from "./mesh.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");

export async function startProber(
  lab: BenchLab,
  machine: MachineName,
  mode: "once" | "stream",
  ip: string,
): Promise<LabProcess> {
  const prober = lab.start(machine, {
    name: `${machine}-prober`,
    cwd: root,
    command: [process.execPath, "--import", "tsx", join(root, "bench/prober.ts"), mode, ip],
  });
  await prober.readyLine(/^ready$/, 10_000);
  return prober;
}

export interface Line {
  readonly sequence: number;
  /** ms */
  readonly at: number;
}

/** What the prober has said of one kind, the newest last. */
export function lines(prober: LabProcess, kind: "sent" | "reply"): Line[] {
  return prober.lines.slice(-STREAM_TAIL).flatMap((line) => {
    const [said, sequence, at] = line.split(" ");
    return said === kind ? [{ sequence: Number(sequence), at: Number(at) / 1e6 }] : [];
  });
}

/** Longer than any failover that is measured: 30 s with two lines every 10 ms. */
const STREAM_TAIL = 6_500;

/** ms from `at` until the answer to a request that was sent after `at`; the prober says when, so it is asked seldom. */
export async function firstReplyAfter(prober: LabProcess, at: number): Promise<number | undefined> {
  for (const end = at + 30_000; clock() < end; await sleep(20)) {
    const first = lines(prober, "sent").find((one) => one.at > at);
    if (first === undefined) continue;
    const reply = lines(prober, "reply").find((one) => one.at > at && isAfter(one.sequence, first.sequence));
    if (reply !== undefined) return reply.at - at;
  }
  return undefined;
}

/** Sequence numbers have 16 bits. */
const isAfter = (sequence: number, first: number): boolean => ((sequence - first) & 0xffff) < 0x8000;
