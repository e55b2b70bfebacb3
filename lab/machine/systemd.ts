/**
 * systemd's part on a machine of the lab: it starts units, keeps them running and stops them, as `systemctl` on the machine asks.
 *
 * `systemctl` there is a script that writes a line into a pipe and waits at a pipe of its own for the answer; so it returns, as
 * the real one does, when what it asked for is done.
 */
import { existsSync, readFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import type { LabProcess } from "../processes.ts";
import { parseUnit, type Unit, unitScript } from "./unit.ts";

export interface SystemdOptions {
  /** Starts a program on the machine, as root. */
  readonly start: (name: string, command: readonly string[], onLine?: (line: string) => void) => LabProcess;
  /** The path on the host of a file that was written on the machine. */
  readonly file: (path: string) => string;
  /** Before the first unit is started. */
  readonly prepare: () => Promise<void>;
  readonly say: (line: string) => void;
}

interface Running {
  process: LabProcess | undefined;
  wanted: boolean;
}

const FOLDER = "/run/lab";
const READY = "lab: systemctl is listened to";
const READY_TIMEOUT_MS = 5_000;

/** The program in the place of systemctl. Its name for itself is the pipe that it waits at. */
export const SYSTEMCTL = `#!/bin/sh
[ "$1" = cat ] && exec cat "/etc/systemd/system/$2"
answer=${FOLDER}/answer.$$
mkfifo "$answer"
trap 'rm -f "$answer"' EXIT
# Open before it asks: an answer into a pipe that nobody has open is lost.
exec 4<> "$answer"
echo "$answer $*" > ${FOLDER}/asked
read -r code text <&4
[ -z "$text" ] || { [ "$code" = 0 ] && echo "$text" || echo "$text" >&2; }
exit "$code"
`;

const LISTEN = `mkdir -p -m 0700 ${FOLDER}; mkfifo ${FOLDER}/asked; exec 3<> ${FOLDER}/asked; echo '${READY}'
while read -r line <&3; do echo "$line"; done`;

/** What it says, with 0 where all is well. */
type Answer = readonly [code: number, text: string];
const DONE: Answer = [0, ""];

export class Systemd {
  readonly #options: SystemdOptions;
  readonly #units = new Map<string, Running>();
  #prepared: Promise<void> | undefined;
  #over = false;

  constructor(options: SystemdOptions) {
    this.#options = options;
  }

  async listen(): Promise<void> {
    const listener = this.#options.start("systemd", ["sh", "-c", LISTEN], (line) => {
      if (line.startsWith(FOLDER)) void this.#answer(line);
    });
    await listener.readyLine(new RegExp(`^${READY}$`), READY_TIMEOUT_MS);
  }

  /** Nothing is started again. */
  end(): void {
    this.#over = true;
  }

  async #answer(line: string): Promise<void> {
    const [pipe = "", ...asked] = line.split(" ");
    const [code, text] = await this.#do(asked).catch((error: unknown): Answer => [
      1,
      error instanceof Error ? error.message : String(error),
    ]);
    // Who asked may have been killed meanwhile, and then nobody reads.
    await writeFile(this.#options.file(pipe), `${code} ${text.replaceAll("\n", " ")}\n`, {
      flag: "r+",
    }).catch(() => {});
  }

  async #do(asked: readonly string[]): Promise<Answer> {
    const flags = asked.filter((word) => word.startsWith("-"));
    const [verb = "", ...units] = asked.filter((word) => !word.startsWith("-"));
    const stray = flags.find((flag) => flag !== "--now" && flag !== "--quiet");
    if (stray !== undefined) return [1, `systemctl ${stray} is not in the lab`];
    switch (verb) {
      case "daemon-reload":
        return DONE;
      case "enable":
        return flags.includes("--now") ? await this.#startAll(units) : (this.#missing(units) ?? DONE);
      case "start":
        return await this.#startAll(units);
      case "stop":
        await Promise.all(units.map((unit) => this.#stop(unit)));
        return DONE;
      case "disable":
        if (flags.includes("--now")) await Promise.all(units.map((unit) => this.#stop(unit)));
        return DONE;
      case "restart":
        await Promise.all(units.map((unit) => this.#stop(unit)));
        return await this.#startAll(units);
      case "is-active":
        return units.every((unit) => this.#units.get(unit)?.process !== undefined)
          ? [0, "active"]
          : [3, "inactive"];
      default:
        return [1, `systemctl ${verb} is not in the lab`];
    }
  }

  #missing(units: readonly string[]): Answer | undefined {
    const missing = units.find((unit) => !existsSync(this.#file(unit)));
    return missing === undefined ? undefined : [1, `Failed to enable unit: ${missing} does not exist.`];
  }

  async #startAll(units: readonly string[]): Promise<Answer> {
    const missing = this.#missing(units);
    if (missing !== undefined) return missing;
    this.#prepared ??= this.#options.prepare();
    await this.#prepared;
    for (const name of units) {
      const code = await this.#start(name, parseUnit(name, readFileSync(this.#file(name), "utf8")));
      if (code !== 0)
        return [1, `Job for ${name} failed because the control process exited with error code.`];
    }
    return DONE;
  }

  /** The exit code of what has to end; 0 for what goes on. */
  async #start(name: string, unit: Unit): Promise<number> {
    if (this.#units.get(name)?.wanted === true) return 0;
    const state: Running = { process: undefined, wanted: !unit.isOneShot };
    this.#units.set(name, state);
    if (!unit.isOneShot) {
      void this.#keepRunning(name, unit, state);
      return 0;
    }
    const { code } = await this.#run(name, unit).exited;
    return code ?? 1;
  }

  async #keepRunning(name: string, unit: Unit, state: Running): Promise<void> {
    for (;;) {
      state.process = this.#run(name, unit);
      const { code, signal } = await state.process.exited;
      state.process = undefined;
      if (this.#over || !state.wanted) return;
      state.wanted = unit.restart === "always" || (unit.restart === "on-failure" && code !== 0);
      if (!state.wanted) return;
      this.#options.say(`${name} ended (${signal ?? code}) and is started again`);
      await new Promise((resolve) => setTimeout(resolve, unit.restartAfterMs).unref());
      if (this.#over || !state.wanted) return;
    }
  }

  #run(name: string, unit: Unit): LabProcess {
    return this.#options.start(name.replace(/\.service$/, ""), ["sh", "-c", unitScript(unit)]);
  }

  async #stop(name: string): Promise<void> {
    const state = this.#units.get(name);
    if (state === undefined) return;
    state.wanted = false;
    await state.process?.stop();
  }

  #file(unit: string): string {
    return this.#options.file(`etc/systemd/system/${unit}`);
  }
}
