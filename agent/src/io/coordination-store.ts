/** Where a coordination server's state lives. A file here; the interface is all that a database would have to offer. */
import { seconds } from "../base/time.ts";
import type { Log } from "../base/log.ts";
import { readStateFile, writeFileAtomic } from "./state-store.ts";

export interface CoordinationStore {
  /** @returns undefined where there is none yet. @throws OperationError when it is there and can not be read */
  load(): Promise<string | undefined>;
  /** Replaces it as a whole. @throws OperationError */
  save(state: string): Promise<void>;
}

export function fileCoordinationStore(path: string): CoordinationStore {
  return {
    load: () => readStateFile(path),
    save: (state) => writeFileAtomic(path, state),
  };
}

/** For a network that is to be forgotten with the process. */
export function memoryCoordinationStore(): CoordinationStore {
  let kept: string | undefined;
  return {
    load: () => Promise.resolve(kept),
    save: (state) => {
      kept = state;
      return Promise.resolve();
    },
  };
}

/** Endpoints change often and come again after a restart: they may wait for the next save so long. */
const LAZY_MS = 250;
const RETRY_MS = seconds(5);

/** Saves the newest state, one save at a time. */
export class StateSaver {
  readonly #store: CoordinationStore;
  readonly #state: () => string;
  readonly #log: Log;
  #dirty = false;
  #saving: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(store: CoordinationStore, state: () => string, log: Log) {
    this.#store = store;
    this.#state = state;
    this.#log = log;
  }

  /** Something changed: it will be saved soon. */
  changed(): void {
    this.#dirty = true;
    this.#wait(LAZY_MS);
  }

  /** Resolves once everything is saved. @throws OperationError when it can not be */
  async flush(): Promise<void> {
    while (this.#dirty || this.#saving !== undefined) {
      this.#saving ??= this.#save();
      await this.#saving;
    }
  }

  /** Saves what is left, and nothing after that. */
  async close(): Promise<void> {
    await this.flush().catch(() => {});
    clearTimeout(this.#timer);
  }

  async #save(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#dirty = false;
    try {
      await this.#store.save(this.#state());
    } catch (error) {
      this.#dirty = true;
      this.#log.error("coordination-state", {
        message: error instanceof Error ? error.message : String(error),
      });
      this.#wait(RETRY_MS);
      throw error;
    } finally {
      this.#saving = undefined;
    }
  }

  #wait(ms: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.flush().catch(() => {}); // logged, and tried again
    }, ms);
  }
}
