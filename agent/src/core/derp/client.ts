/**
 * A client's side of one relay connection: login, packets, and the relay's notes about peers.
 *
 * It sees the byte stream after the HTTP upgrade and knows nothing of TLS, HTTP or which regions
 * there are. A client that knows the relay's key from its certificate logs in with its first bytes
 * and may send packets right behind; else it waits for the key, which costs one round trip.
 */
import { KEY_LENGTH, type NodePrivate, type NodePublic } from "../../base/keys.ts";
import { type Random, randomBytes } from "../../base/random.ts";
import { after, earliest, type Instant, type Millis, seconds } from "../../base/time.ts";
import type { BoxKey } from "../../crypto/box.ts";
import type { Suite } from "../../crypto/suite.ts";
import {
  decodeFrame,
  encodeFrame,
  FrameType,
  HEADER_LENGTH,
  looksLikeDisco,
  MAX_FRAME_LENGTH,
  MAX_PACKET_LENGTH,
  PING_LENGTH,
} from "./frame.ts";
import { FrameReader, type RawFrame } from "./frame-reader.ts";
import { KeyCache } from "./key-name.ts";
import { encodeClientInfo, loginKey, openServerInfo, plainClientInfo, publicOf } from "./login.ts";
import { joinFrames, PacketQueue } from "./packet-queue.ts";
import { TokenBucket } from "./token-bucket.ts";

export interface DerpClientOptions {
  readonly suite: Suite;
  readonly random: Random;
  readonly nodeKey: NodePrivate;
  /** Known from the relay's certificate: then the login needs no answer to begin. */
  readonly serverKey: NodePublic | undefined;
  /** Whether this relay is the home, where peers look for this node. */
  readonly preferred: boolean;
}

export type DerpClientEvent =
  | { readonly kind: "ready"; readonly serverKey: NodePublic }
  /** `packet` is a view of the received bytes. */
  | { readonly kind: "packet"; readonly from: NodePublic; readonly packet: Uint8Array }
  | { readonly kind: "peer-gone"; readonly peer: NodePublic; readonly reason: number }
  /** Empty when the relay takes back its complaint. */
  | { readonly kind: "health"; readonly text: string }
  | { readonly kind: "restarting"; readonly reconnectIn: Millis; readonly tryFor: Millis }
  /** The end: nothing more is sent or taken. */
  | { readonly kind: "closed"; readonly why: string };

/** ts: derphttp's connect timeout. */
const LOGIN_LIMIT: Millis = seconds(10);
/** A relay keeps alive every 60–65 s; two in a row missing is the end (ts: derp's read timeout). */
const SILENCE_LIMIT: Millis = seconds(120);
/** What may wait while the connection takes no bytes: more would only arrive too late. */
const QUEUE_LIMIT = { packets: 256, bytes: 512 * 1024 };
const CONTROL_LIMIT = { packets: 64, bytes: 16 * 1024 };

export class DerpClient {
  readonly #options: DerpClientOptions;
  readonly #reader = new FrameReader(MAX_FRAME_LENGTH);
  readonly #keys = new KeyCache();
  readonly #events: DerpClientEvent[] = [];
  readonly #control = new PacketQueue(CONTROL_LIMIT);
  readonly #disco = new PacketQueue(QUEUE_LIMIT);
  readonly #data = new PacketQueue(QUEUE_LIMIT);
  readonly #loginUntil: Instant;
  #state: "greeting" | "logging-in" | "ready" | "closed" = "greeting";
  #serverKey: NodePublic | undefined;
  #boxKey: BoxKey | undefined;
  #preferred: boolean;
  #writable = true;
  #lastFrameAt: Instant;
  #limit: TokenBucket | undefined;

  constructor(options: DerpClientOptions, now: Instant) {
    this.#options = options;
    this.#preferred = options.preferred;
    this.#lastFrameAt = now;
    this.#loginUntil = after(now, LOGIN_LIMIT);
    if (options.serverKey !== undefined) this.#logIn(options.serverKey);
  }

  get ready(): boolean {
    return this.#state === "ready";
  }

  /** When the relay was last heard. */
  get lastFrameAt(): Instant {
    return this.#lastFrameAt;
  }

  /** Takes the next bytes from the relay. They are not the caller's any more: packets are views of them. */
  handleBytes(chunk: Uint8Array, now: Instant): void {
    if (this.#state === "closed") return;
    this.#reader.feed(chunk);
    for (let frame = this.#reader.next(); frame !== undefined; frame = this.#reader.next()) {
      if (frame === "too-large") {
        this.#close("the relay sent a frame of more than 1 MiB");
        return;
      }
      this.#lastFrameAt = now;
      this.#handleFrame(frame, now);
      if (this.isClosed) return;
    }
  }

  /**
   * Sends a packet (at most 65,536 bytes, copied) to a peer that this relay may know.
   *
   * @returns false where it was dropped at once: too large, above the relay's limit, or all is over
   */
  send(to: NodePublic, packet: Uint8Array, now: Instant): boolean {
    if (this.isClosed || packet.length > MAX_PACKET_LENGTH) return false;
    if (this.#limit?.take(HEADER_LENGTH + KEY_LENGTH + packet.length, now) === false) return false;
    const queue = looksLikeDisco(packet) ? this.#disco : this.#data;
    queue.push(encodeFrame({ kind: "send-packet", to, packet }));
    return true;
  }

  /** Says whether this relay is the home now. */
  notePreferred(preferred: boolean): void {
    if (this.#preferred === preferred) return;
    this.#preferred = preferred;
    if (this.#hasIntroducedItself) this.#pushPreferred();
  }

  /** Asks for a sign of life: `lastFrameAt` moves when the relay answers. Does nothing before the login. */
  ping(): void {
    if (!this.#hasIntroducedItself) return;
    const data = randomBytes(this.#options.random, PING_LENGTH);
    this.#control.push(encodeFrame({ kind: "ping", data }));
  }

  /** Tells whether the connection takes bytes. While it does not, packets wait and the oldest are dropped. */
  handleWritable(writable: boolean): void {
    this.#writable = writable;
  }

  handleTimeout(now: Instant): void {
    if (this.isClosed) return;
    if (!this.ready && now >= this.#loginUntil) {
      this.#close("the relay did not answer the login within 10 s");
    } else if (now >= after(this.#lastFrameAt, SILENCE_LIMIT)) {
      this.#close("the relay was silent for 120 s");
    }
  }

  pollTimeout(): Instant | undefined {
    if (this.isClosed) return undefined;
    return earliest(this.ready ? undefined : this.#loginUntil, after(this.#lastFrameAt, SILENCE_LIMIT));
  }

  /** Everything that may be sent now, as one write. */
  pollTransmit(): Uint8Array | undefined {
    if (!this.#writable || !this.#hasIntroducedItself) return undefined;
    const frames: Uint8Array[] = [];
    for (const queue of [this.#control, this.#disco, this.#data]) queue.drainTo(frames);
    return joinFrames(frames);
  }

  pollEvent(): DerpClientEvent | undefined {
    return this.#events.shift();
  }

  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** The first frame must be the client info. */
  get #hasIntroducedItself(): boolean {
    return this.#state === "logging-in" || this.#state === "ready";
  }

  #handleFrame(raw: RawFrame, now: Instant): void {
    if (raw.type === FrameType.recvPacket) {
      this.#handlePacket(raw.body);
      return;
    }
    const frame = decodeFrame(raw.type, raw.body);
    if (typeof frame === "string") {
      if (this.#state === "greeting") this.#close("the server does not speak DERP");
      return;
    }
    switch (frame.kind) {
      case "server-key":
        if (this.#state === "greeting") this.#logIn(frame.serverKey);
        return;
      case "server-info":
        this.#handleServerInfo(frame.nonce, frame.box, now);
        return;
      case "ping":
        if (this.#hasIntroducedItself) this.#control.push(encodeFrame({ kind: "pong", data: frame.data }));
        return;
      case "peer-gone":
        this.#events.push(frame);
        return;
      case "health":
        this.#events.push({ kind: "health", text: frame.problem });
        return;
      case "restarting":
        this.#events.push(frame);
        return;
      // All there is to learn from these is that the relay lives.
      case "keep-alive":
      case "pong":
      case "peer-present":
      case "client-info":
      case "send-packet":
      case "recv-packet":
      case "note-preferred":
      case "forward-packet":
      case "watch-conns":
      case "close-peer":
        return;
    }
  }

  #handlePacket(body: Uint8Array): void {
    if (!this.ready || body.length < KEY_LENGTH || body.length > KEY_LENGTH + MAX_PACKET_LENGTH) return;
    const from = this.#keys.at(body, 0);
    this.#events.push({ kind: "packet", from, packet: body.subarray(KEY_LENGTH) });
  }

  #logIn(serverKey: NodePublic): void {
    const { suite, random, nodeKey } = this.#options;
    const boxKey = loginKey(suite, nodeKey, serverKey);
    if (boxKey === undefined) {
      this.#close("the relay's key is not a valid key");
      return;
    }
    this.#state = "logging-in";
    this.#serverKey = serverKey;
    this.#boxKey = boxKey;
    this.#control.push(encodeClientInfo(boxKey, publicOf(suite, nodeKey), plainClientInfo, random));
    if (this.#preferred) this.#pushPreferred();
  }

  #handleServerInfo(nonce: Uint8Array, box: Uint8Array, now: Instant): void {
    if (this.#state !== "logging-in" || this.#serverKey === undefined) return;
    const info = openServerInfo(this.#boxKey, nonce, box);
    if (typeof info === "string") {
      this.#close("the relay could not prove that it owns its key");
      return;
    }
    if (info.bytesPerSecond > 0) this.#limit = new TokenBucket(info.bytesPerSecond, info.burstBytes, now);
    this.#state = "ready";
    this.#events.push({ kind: "ready", serverKey: this.#serverKey });
  }

  #pushPreferred(): void {
    this.#control.push(encodeFrame({ kind: "note-preferred", preferred: this.#preferred }));
  }

  #close(why: string): void {
    this.#state = "closed";
    this.#events.push({ kind: "closed", why });
  }
}
