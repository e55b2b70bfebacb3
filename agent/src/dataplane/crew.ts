/** The threads that move packets: how many there are and what each does, their start, their end and their failure. */
import { Worker } from "node:worker_threads";
import { OperationError } from "../base/errors.ts";
import { clockZero } from "./clock-zero.ts";
import { Control, type Layout, layoutOf, type SharedMemory } from "./memory.ts";
import type { PlaneOptions, Role } from "./plane.ts";
import type { Ready, WorkerInput } from "./worker.ts";

/** More are of no use before the kernel's own part is what limits. */
const MOST_BY_DEFAULT = 8;
/** A worker that does not end by itself; its longest wait is 200 ms. */
const END_PATIENCE = 250;

/** By the processors: the fewest threads that keep up, since each more costs latency and CPU. */
export function workersFor(processors: number): number {
  if (processors <= 2) return 1;
  if (processors <= 4) return 2;
  return Math.min(MOST_BY_DEFAULT, processors >> 1);
}

/** What worker `number` of `count` does. */
export function roleOf(number: number, count: number): Role {
  if (count === 1) return "both";
  if (count > 2) return "shared";
  return number === 0 ? "outbound" : "inbound";
}

export interface CrewOptions {
  /** A file, or the program itself. */
  readonly program: { readonly file: string } | { readonly text: string };
  readonly layout: Layout;
  readonly memory: SharedMemory;
  readonly plane: (number: number) => PlaneOptions;
  /** One of them has died after all were ready. */
  readonly onFatal: (error: OperationError) => void;
}

export class Crew {
  /** @throws OperationError (rejects) when one does not start */
  readonly ready: Promise<void>;
  aead = "";
  whyNoFasterAead: readonly string[] = [];
  readonly #workers: readonly Worker[];
  readonly #exited: Promise<unknown>;
  readonly #onFatal: CrewOptions["onFatal"];
  readonly #control: Int32Array;
  #isReady = false;
  #hasFailed = false;
  #isEnding = false;

  constructor(options: CrewOptions) {
    const { layout, memory, onFatal } = options;
    this.#onFatal = onFatal;
    this.#control = new Int32Array(memory.buffer, layout.control, 64);
    this.#workers = Array.from({ length: layout.workers }, (_, number) => startWorker(options, number));
    this.#exited = Promise.all(
      this.#workers.map((worker) => new Promise<void>((resolve) => worker.once("exit", () => resolve()))),
    );
    this.ready = this.#untilReady();
  }

  /** `wake` wakes those who wait for packets. */
  async end(wake: () => void): Promise<void> {
    this.#isEnding = true;
    Atomics.store(this.#control, Control.stop, 1);
    wake();
    Atomics.notify(this.#control, Control.leader);
    const timer = setTimeout(() => this.#workers.forEach((worker) => void worker.terminate()), END_PATIENCE);
    await this.#exited;
    clearTimeout(timer);
  }

  /** Settled by the first one that dies, or else by the last one that is ready. */
  #untilReady(): Promise<void> {
    return new Promise((resolve, reject) => {
      let missing = this.#workers.length;
      const fail = (why: string): void => {
        if (this.#isEnding || this.#hasFailed) return;
        this.#hasFailed = true;
        const error = new OperationError(
          "dataplane",
          `the data plane's thread has ended (${why}): restart the daemon; SALLYPORT_DATAPLANE=off does without it`,
        );
        if (this.#isReady) this.#onFatal(error);
        else reject(error);
      };
      for (const worker of this.#workers) {
        worker.once("message", ({ aead, whyNoFasterAead }: Ready) => {
          this.aead = aead;
          this.whyNoFasterAead = whyNoFasterAead;
          if (--missing > 0 || this.#hasFailed) return;
          this.#isReady = true;
          resolve();
        });
        worker.once("error", (error) => fail(error instanceof Error ? error.message : String(error)));
        worker.once("exit", (code) => fail(`exit code ${code}`));
      }
    });
  }
}

function startWorker({ program, layout, memory, plane }: CrewOptions, number: number): Worker {
  const input: WorkerInput = {
    options: plane(number),
    layout: layoutOf(layout, number),
    memory,
    clockZero: clockZero(),
    bundleUrl: import.meta.url,
  };
  const isFile = "file" in program;
  return new Worker(isFile ? program.file : program.text, {
    eval: !isFile,
    workerData: input,
    name: `dataplane-${number}`,
  });
}
