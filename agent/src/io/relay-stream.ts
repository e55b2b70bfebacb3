import type { TLSSocket } from "node:tls";
import { Ip, IpPort } from "../base/address.ts";
import { concat, utf8 } from "../base/bytes.ts";
import type { NodePublic } from "../base/keys.ts";

/** A stream of DERP frames to and from one relay. */
export interface RelayConnection {
  /** The relay's key, where its certificates told it: then the login may be sent at once. */
  readonly serverKey: NodePublic | undefined;
  readonly localAddress: IpPort | undefined;
  /** False when no more should be written until `onWritable`. The bytes must not change afterwards. */
  write(bytes: Uint8Array): boolean;
  /** The chunks belong to the receiver. Nothing is received before this is called. */
  onData(receive: (chunk: Uint8Array) => void): void;
  onWritable(resume: () => void): void;
  /** Called once, unless `close` was. */
  onClose(closed: (why: string) => void): void;
  close(): void;
}

/** What may lie in Node and OpenSSL before the relay counts as one that takes no bytes. */
const WRITE_AHEAD = 256 * 1024;
/** More than any HTTP answer to an upgrade needs. */
const MAX_HEAD = 16 * 1024;

/** The TLS connection once it carries frames. With a fast start the request goes in front of the first of them. */
export class RelayStream implements RelayConnection {
  readonly serverKey: NodePublic | undefined;
  readonly localAddress: IpPort | undefined;
  readonly #socket: TLSSocket;
  #request: string | undefined;
  #ended: string | undefined;
  #isClosed = false;
  #onClose: ((why: string) => void) | undefined;

  constructor(socket: TLSSocket, serverKey: NodePublic | undefined, request: string | undefined) {
    this.#socket = socket;
    this.serverKey = serverKey;
    this.#request = request;
    const ip = Ip.tryParse(socket.localAddress ?? "");
    this.localAddress = ip === undefined ? undefined : new IpPort(ip, socket.localPort ?? 0);
    let why = "the relay ended the connection";
    socket.on("error", (error) => (why = error.message));
    socket.on("close", () => this.#end(why));
    if (request !== undefined) setImmediate(() => this.#flushRequest());
  }

  write(bytes: Uint8Array): boolean {
    if (this.#socket.destroyed) return true;
    const request = this.#request;
    this.#request = undefined;
    this.#socket.write(request === undefined ? bytes : concat(utf8(request), bytes));
    return this.#socket.writableLength <= WRITE_AHEAD;
  }

  onData(receive: (chunk: Uint8Array) => void): void {
    this.#socket.on("data", (chunk: Buffer) => receive(plain(chunk)));
    this.#socket.resume();
  }

  onWritable(resume: () => void): void {
    this.#socket.on("drain", resume);
  }

  onClose(closed: (why: string) => void): void {
    this.#onClose = closed;
    const ended = this.#ended;
    if (ended !== undefined) queueMicrotask(() => this.#tell(ended));
  }

  close(): void {
    this.#isClosed = true;
    this.#socket.destroy();
  }

  /** Nothing was written right away: the relay still gets to know what we want. */
  #flushRequest(): void {
    if (this.#request !== undefined) this.write(new Uint8Array(0));
  }

  #end(why: string): void {
    this.#ended = why;
    this.#tell(why);
  }

  #tell(why: string): void {
    if (this.#isClosed || this.#onClose === undefined) return;
    this.#isClosed = true;
    this.#onClose(why);
  }
}

/**
 * Reads the head of an HTTP answer, and leaves the socket paused with what follows.
 * @returns its lines, or nothing where the connection ends before
 */
export function readHead(socket: TLSSocket, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    let received: Buffer = Buffer.alloc(0);
    const finish = (settle: () => void): void => {
      socket.pause();
      socket.off("data", onData).off("close", onClose);
      signal.removeEventListener("abort", onAbort);
      settle();
    };
    const onData = (chunk: Buffer): void => {
      received = Buffer.concat([received, chunk]);
      const end = received.indexOf("\r\n\r\n");
      if (end < 0 && received.length < MAX_HEAD) return;
      finish(() => {
        if (end >= 0 && end + 4 < received.length) socket.unshift(received.subarray(end + 4));
        resolve(received.subarray(0, Math.max(0, end)).toString("latin1"));
      });
    };
    const onClose = (): void => finish(() => resolve(""));
    const onAbort = (): void => finish(() => reject(signal.reason as Error));
    socket.on("data", onData).on("close", onClose);
    signal.addEventListener("abort", onAbort);
  });
}

/** The same bytes without Buffer's methods, whose `slice` does not copy. */
function plain(chunk: Buffer): Uint8Array {
  return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
}
