/**
 * A thread that moves packets. It never waits for the engine, whose decisions it finds in the shared memory, and
 * ends when it is told to, at the latest after the longest wait.
 */
import { parentPort, workerData } from "node:worker_threads";
import { loadFastCalls } from "../io/ffi/fast-calls.ts";
import { isAbsent } from "../io/ffi/koffi.ts";
import { clockZero } from "./clock-zero.ts";
import type { Layout, SharedMemory } from "./memory.ts";
import { DataPlane, type PlaneOptions } from "./plane.ts";

export interface WorkerInput {
  readonly options: PlaneOptions;
  readonly layout: Layout;
  readonly memory: SharedMemory;
  /** The engine's `performance.now()` when the system's clock was zero. */
  readonly clockZero: number;
  /** Where the program that started this one lies. */
  readonly bundleUrl: string;
}

/** The worker's only message: it is ready, and seals this way. */
export interface Ready {
  readonly aead: string;
  readonly whyNoFasterAead: readonly string[];
}

function run(input: WorkerInput): void {
  const calls = loadFastCalls();
  if (isAbsent(calls)) throw new Error(calls.absent);
  const plane = new DataPlane(input.options, calls, input.memory, input.layout);
  const shift = input.clockZero - clockZero();
  const ready: Ready = { aead: plane.aead, whyNoFasterAead: plane.whyNoFasterAead };
  parentPort?.postMessage(ready);
  while (!plane.mustStop) {
    plane.wait();
    plane.work(performance.now() + shift);
  }
}

if (parentPort !== null) run(workerData as WorkerInput);
