/** The programs that run in a lab: started in a namespace, logged to a file, waited for, stopped. None is forgotten. */
import { spawn, type ChildProcess } from "node:child_process";
import { createWriteStream, existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { OperationError } from "../agent/src/base/errors.ts";
import { LAB_VARIABLE } from "./record.ts";
import { sleep } from "./system.ts";

export interface StartOptions {
  /** What messages and the log file call it. */
  readonly name: string;
  /** As `ip netns` knows it; undefined is where the lab itself runs. */
  readonly namespace: string | undefined;
  readonly command: readonly string[];
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Gets every line of both outputs, after it went to the log. */
  readonly onLine?: (line: string) => void;
}

/** Time a program gets to end by itself after SIGTERM. */
const STOP_GRACE_MS = 2_000;

export class Processes {
  readonly #labId: string;
  readonly #logFolder: string;
  readonly #running = new Set<LabProcess>();

  constructor(labId: string, logFolder: string) {
    this.#labId = labId;
    this.#logFolder = logFolder;
    mkdirSync(logFolder, { recursive: true });
  }

  start(options: StartOptions): LabProcess {
    const enter = options.namespace === undefined ? [] : ["ip", "netns", "exec", options.namespace];
    const [command = "", ...args] = [...enter, ...options.command];
    const log = join(this.#logFolder, `${options.name}.log`);
    const child = spawn(command, args, {
      cwd: options.cwd ?? this.#logFolder,
      // A session of its own: Ctrl-C in the terminal is for the lab, which stops the others in order.
      detached: true,
      env: { ...withoutSettings(process.env), ...options.env, [LAB_VARIABLE]: this.#labId },
      stdio: ["ignore", "pipe", "pipe"],
    });
    const started = new LabProcess(options, child, log);
    this.#running.add(started);
    void started.exited.then(() => this.#running.delete(started));
    return started;
  }

  /** Starts a program and waits for its end. @throws OperationError when it takes longer than `timeoutMs` */
  async run(options: StartOptions, timeoutMs: number): Promise<Exit & { readonly lines: readonly string[] }> {
    const started = this.start(options);
    const exit = await within(started.exited, timeoutMs);
    if (exit !== undefined) return { ...exit, lines: started.lines };
    await started.stop();
    throw new OperationError(
      "lab-timeout",
      `${options.name} did not end within ${timeoutMs / 1000} s; its log is ${started.log}`,
    );
  }

  async stopAll(): Promise<void> {
    await Promise.all([...this.#running].map((one) => one.stop()));
  }
}

export interface Exit {
  readonly code: number | undefined;
  readonly signal: string | undefined;
}

export class LabProcess {
  readonly name: string;
  readonly log: string;
  /** Never rejects. A program that can't be started ends with code 127. */
  readonly exited: Promise<Exit>;
  /** Both outputs so far. */
  readonly lines: string[] = [];
  readonly #child: ChildProcess;
  #exit: Exit | undefined;

  constructor(options: StartOptions, child: ChildProcess, log: string) {
    this.name = options.name;
    this.log = log;
    this.#child = child;
    const file = createWriteStream(log, { flags: "a" });
    file.on("error", () => {});
    const takeLine = (line: string): void => {
      file.write(`${line}\n`);
      this.lines.push(line);
      options.onLine?.(line);
    };
    for (const stream of [child.stdout, child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on("line", takeLine);
    }
    this.exited = new Promise((resolve) => {
      const end = (exit: Exit): void => {
        this.#exit = exit;
        // What it said last is in the log by then.
        file.on("close", () => resolve(exit)).end();
      };
      child.on("error", (error) => {
        takeLine(error.message);
        end({ code: 127, signal: undefined });
      });
      child.on("close", (code, signal) => end({ code: code ?? undefined, signal: signal ?? undefined }));
    });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** Waits until `condition` gives a value. @throws OperationError when the program ends or the time is up before */
  async ready<T>(what: string, timeoutMs: number, condition: () => T | undefined): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const value = condition();
      if (value !== undefined) return value;
      if (this.#exit !== undefined)
        throw this.#failure(`ended (${this.#exit.signal ?? this.#exit.code}) before ${what}`);
      if (performance.now() > deadline)
        throw this.#failure(`did not get to ${what} within ${timeoutMs / 1000} s`);
      await sleep(POLL_MS);
    }
  }

  readyLine(pattern: RegExp, timeoutMs: number): Promise<string> {
    return this.ready(`printing ${pattern}`, timeoutMs, () => this.lines.find((line) => pattern.test(line)));
  }

  readyFile(path: string, timeoutMs: number): Promise<true> {
    return this.ready(`making ${path}`, timeoutMs, () => (existsSync(path) ? true : undefined));
  }

  /** SIGTERM, and SIGKILL if that is not enough. */
  async stop(): Promise<Exit> {
    this.#child.kill("SIGTERM");
    const exit = await within(this.exited, STOP_GRACE_MS);
    if (exit !== undefined) return exit;
    this.#child.kill("SIGKILL");
    return this.exited;
  }

  #failure(what: string): OperationError {
    const last = this.lines.slice(-5).join("\n  ");
    return new OperationError("lab-process", `${this.name} ${what}; its last words:\n  ${last}`);
  }
}

const POLL_MS = 10;

/** The user's own SALLYPORT_* variables would change the agents of the lab. */
function withoutSettings(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith("SALLYPORT_")));
}

async function within<T>(promise: Promise<T>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
