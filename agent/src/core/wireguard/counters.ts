/**
 * What a session counts: the messages it sent, and those it received.
 *
 * Whoever seals or opens on the same keys must share these, or a nonce would be used twice: so a data plane
 * that takes part brings its own, which several threads may use at once.
 */
import type { TransportKeys } from "./noise.ts";
import { REJECT_AFTER_MESSAGES, ReplayWindow } from "./replay.ts";

/** The paper: a new handshake begins after so many. */
export const REKEY_AFTER_MESSAGES: bigint = 2n ** 60n;

export interface SessionCounters {
  /** Whether no more may be sent. */
  readonly exhausted: boolean;
  /** Whether so many were sent that the session should be replaced. */
  readonly worn: boolean;
  /** The number of the next message to send: never the same twice. */
  next(): bigint;
  /** Whether a received `counter` is new and not too old. */
  isFresh(counter: bigint): boolean;
  /** Remembers one whose message proved authentic. Returns false when somebody else was faster. */
  mark(counter: bigint): boolean;
}

/** A session as a data plane needs it. */
export interface OpenedSession {
  readonly keys: TransportKeys;
  /** The peer puts this one into its messages to us. */
  readonly localIndex: number;
  readonly remoteIndex: number;
}

/** Where sessions are counted when others than this machine seal and open, too. */
export interface SessionStore {
  /** The counters of a new session; `undefined` where the store is full: the session is this machine's alone. */
  open(session: OpenedSession): SessionCounters | undefined;
  /** The session is over, and its keys must be forgotten. */
  close(localIndex: number): void;
}

export class LocalCounters implements SessionCounters {
  readonly #replay: ReplayWindow;
  #counter: bigint;

  constructor(replayWindow: number, firstCounter = 0n) {
    this.#replay = new ReplayWindow(replayWindow);
    this.#counter = firstCounter;
  }

  get exhausted(): boolean {
    return this.#counter >= REJECT_AFTER_MESSAGES;
  }

  get worn(): boolean {
    return this.#counter > REKEY_AFTER_MESSAGES;
  }

  next(): bigint {
    return this.#counter++;
  }

  isFresh(counter: bigint): boolean {
    return this.#replay.isFresh(counter);
  }

  mark(counter: bigint): boolean {
    this.#replay.mark(counter);
    return true;
  }
}
