/** Gives the coordination machine its clock, its disk and the open map streams. */
import type { MachinePublic } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import type { Instant } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import type { MapRequest, RegisterRequest } from "../core/control/messages.ts";
import type { Coordination, MapAnswer } from "../engine/coordination.ts";
import type { SessionId } from "../engine/coordination-streams.ts";
import { now, Wakeup } from "./clock.ts";
import { type CoordinationStore, StateSaver } from "./coordination-store.ts";

/** Where the messages of a map stream go. */
export interface MapSink {
  write(message: JsonObject): void;
  end(): void;
}

export class CoordinationDriver {
  readonly coordination: Coordination;
  readonly #saver: StateSaver;
  readonly #sinks = new Map<SessionId, MapSink>();
  readonly #wakeup = new Wakeup({ keepAlive: false });
  #drainDue = false;
  #closed = false;

  constructor(coordination: Coordination, store: CoordinationStore, log: Log) {
    this.coordination = coordination;
    this.#saver = new StateSaver(store, () => coordination.exportState(), log);
  }

  /** The answer comes when a change has been saved. @throws OperationError when it can not be */
  register(machine: MachinePublic, request: RegisterRequest): Promise<JsonObject> {
    return this.change((at) => this.coordination.handleRegister(machine, request, at));
  }

  /** `sink` is used only where the answer is a stream; then call the session's end `closed`. */
  map(machine: MachinePublic, request: MapRequest, sink: MapSink): MapAnswer {
    const answer = this.coordination.handleMapRequest(machine, request, now());
    if (answer.kind === "stream") this.#sinks.set(answer.session, sink);
    this.#drainSoon();
    return answer;
  }

  closed(session: SessionId): void {
    this.#sinks.delete(session);
    this.coordination.handleSessionClosed(session, now());
    this.#drainSoon();
  }

  /** A change that must outlive the process, such as an administrator's. @throws OperationError when it is not saved */
  async change<T>(make: (at: Instant) => T): Promise<T> {
    const result = make(now());
    this.#drain();
    await this.#saver.flush();
    return result;
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#wakeup.cancel();
    for (const sink of this.#sinks.values()) sink.end();
    this.#sinks.clear();
    await this.#saver.close();
  }

  /** What happens in one turn of the event loop goes out together. */
  #drainSoon(): void {
    if (this.#drainDue) return;
    this.#drainDue = true;
    setImmediate(() => {
      this.#drainDue = false;
      this.#drain();
    });
  }

  #drain(): void {
    if (this.#closed) return;
    const machine = this.coordination;
    for (let out = machine.pollTransmit(); out !== undefined; out = machine.pollTransmit()) {
      this.#sinks.get(out.session)?.write(out.message);
    }
    for (let event = machine.pollEvent(); event !== undefined; event = machine.pollEvent()) {
      switch (event.kind) {
        case "changed":
          this.#saver.changed();
          break;
        case "end-session":
          this.#sinks.get(event.session)?.end();
          this.#sinks.delete(event.session);
          break;
      }
    }
    this.#wakeup.wakeAt(machine.pollTimeout(), () => {
      machine.handleTimeout(now());
      this.#drain();
    });
  }
}
