/** A connection to or from a coordination server: the Noise handshake, then a stream of bytes in sealed records. */
import { Duplex } from "node:stream";
import { OperationError } from "../base/errors.ts";
import { FrameType, type Initiator, type SessionKeys } from "../core/control/noise.ts";
import { EarlyPayloadReader, FrameReader, RecordOpener, RecordSealer } from "../core/control/record.ts";
import type { Suite } from "../crypto/suite.ts";

/** The far side has this long to answer a handshake. */
const HANDSHAKE_TIMEOUT_MS = 10_000;

/** HTTP/2 runs over it as over a socket. Destroying it destroys the socket, and the other way round. */
export class NoiseStream extends Duplex {
  readonly #socket: Duplex;
  readonly #sealer: RecordSealer;
  readonly #opener: RecordOpener;
  readonly #early: EarlyPayloadReader | undefined;

  /** @param head what was read from the socket after the handshake */
  constructor(options: {
    readonly socket: Duplex;
    readonly suite: Suite;
    readonly keys: SessionKeys;
    readonly head: Uint8Array;
    /** Only a client is sent an early payload. */
    readonly mayBeginEarly: boolean;
  }) {
    super({ allowHalfOpen: true });
    this.#socket = options.socket;
    this.#sealer = new RecordSealer(options.suite, options.keys.send);
    this.#opener = new RecordOpener(options.suite, options.keys.receive);
    this.#early = options.mayBeginEarly ? new EarlyPayloadReader() : undefined;
    this.#socket.on("data", (bytes: Uint8Array) => this.#receive(bytes));
    this.#socket.on("end", () => this.push(null));
    this.#socket.on("close", () => this.destroy());
    this.#socket.on("error", (error) => this.destroy(error));
    if (options.head.length > 0) this.#receive(options.head);
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    this.#socket.write(this.#sealer.seal(chunk), done);
  }

  /** What piled up while the socket was busy goes out as one write. */
  override _writev(
    chunks: readonly { readonly chunk: Uint8Array }[],
    done: (error?: Error | null) => void,
  ): void {
    this.#socket.write(this.#sealer.seal(Buffer.concat(chunks.map(({ chunk }) => chunk))), done);
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(() => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }

  #receive(bytes: Uint8Array): void {
    this.#opener.push(bytes);
    for (let next = this.#opener.poll(); next !== undefined; next = this.#opener.poll()) {
      const plaintext = typeof next === "string" ? next : (this.#early?.push(next) ?? next);
      if (typeof plaintext === "string") {
        this.destroy(new OperationError("noise-record", `the encrypted stream is damaged (${plaintext})`));
        return;
      }
      if (plaintext.length > 0 && !this.push(plaintext)) this.#socket.pause();
    }
  }
}

/** The client's side, once the upgrade was granted: reads the server's answer to `initiator`. */
export async function openNoiseStream(
  socket: Duplex,
  head: Uint8Array,
  initiator: Initiator,
  suite: Suite,
): Promise<NoiseStream> {
  const frames = new FrameReader();
  frames.push(head);
  const frame = await firstFrame(socket, frames);
  const keys = initiator.finish(frame);
  if (!("kind" in keys)) {
    return new NoiseStream({ socket, suite, keys, head: frames.rest(), mayBeginEarly: true });
  }
  socket.destroy();
  switch (keys.kind) {
    case "server-error":
      throw new OperationError(
        "noise-refused",
        `the coordination server refused the handshake: ${keys.text}`,
      );
    case "malformed":
    case "not-authentic":
      throw new OperationError(
        "noise-not-authentic",
        "the coordination server could not prove the key it published: " +
          "something between here and there may be changing the traffic, or the server was just replaced; try again",
      );
  }
}

function firstFrame(socket: Duplex, frames: FrameReader): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const finish = (outcome: () => void): void => {
      clearTimeout(timer);
      socket.off("data", onData).off("error", onClosed).off("close", onClosed).off("end", onClosed);
      socket.pause();
      outcome();
    };
    const fail = (reason: string): void => {
      finish(() => {
        socket.destroy();
        reject(
          new OperationError(
            "noise-handshake",
            `the handshake with the coordination server failed: ${reason}`,
          ),
        );
      });
    };
    const poll = (): void => {
      const frame = frames.poll();
      if (frame === "too-long") fail("its answer is none");
      else if (frame !== undefined && frame[0] === FrameType.initiation) fail("its answer is none");
      else if (frame !== undefined) finish(() => resolve(frame));
    };
    const onData = (bytes: Uint8Array): void => {
      frames.push(bytes);
      poll();
    };
    const onClosed = (): void => fail("the connection was closed");
    const timer = setTimeout(() => fail("no answer came"), HANDSHAKE_TIMEOUT_MS);
    socket.on("error", onClosed).on("close", onClosed).on("end", onClosed).on("data", onData);
    poll();
  });
}
