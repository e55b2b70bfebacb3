/** The map streams that are open: whose they are, what is to be written to them, and their keepalives. */
import { after, earliest, type Instant, type Millis, seconds } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import type { CoordinationNode } from "./coordination-state.ts";

export type SessionId = number;

export interface MapTransmit {
  readonly session: SessionId;
  /** The same object may go to many sessions: encode it once. */
  readonly message: JsonObject;
}

export interface MapStream {
  readonly id: SessionId;
  readonly node: CoordinationNode;
  /** Has it had the complete map that a stream begins with? */
  complete: boolean;
  keepAliveAt: Instant;
}

/** Clients give up after 120 s of silence; the hosted service sends one about every 50 s. */
const KEEP_ALIVE: Millis = seconds(50);

export class CoordinationStreams {
  readonly #open = new Map<SessionId, MapStream>();
  readonly #outbox: MapTransmit[] = [];
  readonly #ended: SessionId[] = [];
  #nextSession: SessionId = 1;

  get all(): Iterable<MapStream> {
    return this.#open.values();
  }

  has(node: CoordinationNode): boolean {
    return [...this.#open.values()].some((stream) => stream.node === node);
  }

  /** A node's newest stream is its only one. */
  open(node: CoordinationNode, now: Instant): SessionId {
    this.end(node);
    const id = this.#nextSession++;
    this.#open.set(id, { id, node, complete: false, keepAliveAt: after(now, KEEP_ALIVE) });
    return id;
  }

  end(node: CoordinationNode): void {
    for (const stream of this.#open.values()) {
      if (stream.node !== node) continue;
      this.#open.delete(stream.id);
      this.#ended.push(stream.id);
    }
  }

  /** The stream is gone, whoever ended it. Returns whose it was, if it was open until now. */
  close(id: SessionId): CoordinationNode | undefined {
    const stream = this.#open.get(id);
    this.#open.delete(id);
    return stream?.node;
  }

  send(stream: MapStream, message: JsonObject, now: Instant): void {
    stream.keepAliveAt = after(now, KEEP_ALIVE);
    this.#outbox.push({ session: stream.id, message });
  }

  /** To every stream that has had its complete map. */
  broadcast(message: JsonObject, now: Instant): void {
    for (const stream of this.#open.values()) if (stream.complete) this.send(stream, message, now);
  }

  handleTimeout(now: Instant): void {
    for (const stream of this.#open.values()) {
      if (now >= stream.keepAliveAt) this.send(stream, { KeepAlive: true }, now);
    }
  }

  pollTransmit(): MapTransmit | undefined {
    return this.#outbox.shift();
  }

  /** A stream that is to be ended. */
  pollEnded(): SessionId | undefined {
    return this.#ended.shift();
  }

  pollTimeout(): Instant | undefined {
    let at: Instant | undefined;
    for (const stream of this.#open.values()) at = earliest(at, stream.keepAliveAt);
    return at;
  }
}
