/** Runs the coordination client over the network: one connection, its requests and its map stream. */
import * as http2 from "node:http2";
import { OperationError } from "../base/errors.ts";
import { fromUtf8 } from "../base/bytes.ts";
import type { DiscoPublic, MachinePrivate, NodePrivate } from "../base/keys.ts";
import type { Log } from "../base/log.ts";
import type { Random } from "../base/random.ts";
import { type Instant, millis, type Millis } from "../base/time.ts";
import {
  type ControlAction,
  ControlClient,
  type ControlEvent,
  type ControlState,
  type RequestId,
} from "../core/control/client.ts";
import type { JsonObject } from "../core/control/json.ts";
import { isZstd, MAX_MAP_FRAME, MapFrameReader } from "../core/control/map-frame.ts";
import type { Endpoint, Hostinfo, NetInfo } from "../core/control/messages.ts";
import type { NetMap } from "../core/control/net-map.ts";
import type { Suite } from "../crypto/suite.ts";
import { systemCalendar } from "./calendar.ts";
import { now as clock, Wakeup } from "./clock.ts";
import { type ControlConnection, dialControl, parseControlServer } from "./control-dial.ts";
import type { OwnNetwork } from "./own-network.ts";
import { zstdDecompress } from "./zstd.ts";

/** A short answer takes no longer; a registration that waits for a person is held by the server. */
const MAX_ANSWER = 1024 * 1024;
/** Errors after which trying again alone will not help. */
const FATAL: ReadonlySet<string> = new Set([
  "wrong-pin",
  "control-certificate",
  "control-speaks-http",
  "control-speaks-tls",
  "not-a-control-server",
]);

export interface ControlCallbacks {
  onNetMap(netMap: NetMap): void;
  onState(state: ControlState): void;
  /** A person must open it to log this node in. */
  onAuthUrl(url: string): void;
  /** One sentence for the user. `fatal`: it will not mend itself, though attempts go on. */
  onError(message: string, detail: { readonly fatal: boolean }): void;
  /** The node key has expired and this is the new one: keep it. Without this callback keys are never changed. */
  onNodeKey?(nodeKey: NodePrivate): void;
}

export interface ControlSessionOptions {
  readonly serverUrl: string;
  readonly certPin?: string | undefined;
  readonly machineKey: MachinePrivate;
  readonly nodeKey: NodePrivate;
  readonly discoKey: DiscoPublic;
  readonly authKey?: string | undefined;
  /** The server is to forget this node when it is gone. @default false */
  readonly ephemeral?: boolean | undefined;
  /** These keys registered before: the auth key is sent only if the server wants a login. @default false */
  readonly registeredBefore?: boolean | undefined;
  readonly hostinfo: Hostinfo;
  readonly log: Log;
  readonly suite: Suite;
  readonly random: Random;
  readonly callbacks: ControlCallbacks;
  /** @default as every program connects */
  readonly network?: OwnNetwork | undefined;
}

export class ControlSession {
  readonly #options: ControlSessionOptions;
  readonly #client: ControlClient;
  readonly #streams = new Map<RequestId, http2.ClientHttp2Stream>();
  readonly #wakeup = new Wakeup();
  #link: ControlConnection | undefined;
  /** Counts connections, so that what belongs to an old one is not taken for the new one's. */
  #connection = 0;
  #closed = false;
  #logoutDone: (() => void) | undefined;

  /** @throws UsageError when the URL or the pin is none */
  constructor(options: ControlSessionOptions) {
    parseControlServer(options.serverUrl, options.certPin);
    this.#options = options;
    this.#client = new ControlClient({
      suite: options.suite,
      random: options.random,
      calendar: systemCalendar,
      nodeKey: options.nodeKey,
      discoKey: options.discoKey,
      authKey: options.authKey,
      ephemeral: options.ephemeral ?? false,
      registeredBefore: options.registeredBefore ?? false,
      mayRotate: options.callbacks.onNodeKey !== undefined,
      hostinfo: options.hostinfo,
      compress: true,
    });
  }

  get state(): ControlState {
    return this.#client.state;
  }

  start(): void {
    this.#input((now) => this.#client.start(now));
  }

  updateEndpoints(endpoints: readonly Endpoint[]): void {
    this.#input((now) => this.#client.updateEndpoints(endpoints, now));
  }

  updateNetInfo(netInfo: NetInfo): void {
    this.#input((now) => this.#client.updateNetInfo(netInfo, now));
  }

  /** Replaces the fields named in `patch`. */
  updateHostinfo(patch: Hostinfo): void {
    this.#input((now) => this.#client.updateHostinfo(patch, now));
  }

  /** Ends this node's registration. Resolves when the server has confirmed it; close() gives up waiting. */
  logout(): Promise<void> {
    return new Promise((resolve) => {
      this.#logoutDone = resolve;
      this.#input((now) => this.#client.logout(now));
    });
  }

  /** Ends the connection; the node stays registered. No callback comes after it. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#client.stop();
    this.#closed = true;
    this.#wakeup.cancel();
    const session = this.#link?.session;
    this.#disconnect();
    this.#logoutDone?.();
    if (session === undefined || session.destroyed) return;
    await new Promise<void>((resolve) => session.once("close", () => resolve()));
  }

  #input(give: (now: Instant) => void): void {
    if (this.#closed) return;
    give(clock());
    this.#drain();
  }

  #drain(): void {
    for (let action = this.#client.pollAction(); action !== undefined; action = this.#client.pollAction()) {
      this.#perform(action);
    }
    for (let event = this.#client.pollEvent(); event !== undefined; event = this.#client.pollEvent()) {
      this.#tell(event);
      if (this.#closed) return;
    }
    this.#wakeup.wakeAt(this.#client.pollTimeout(), () =>
      this.#input((now) => this.#client.handleTimeout(now)),
    );
  }

  #perform(action: ControlAction): void {
    switch (action.kind) {
      case "connect":
        void this.#connect();
        return;
      case "disconnect":
        this.#disconnect();
        return;
      case "post":
        this.#request(action.id, action.path, action.body, false);
        return;
      case "stream":
        this.#request(action.id, action.path, action.body, true);
        return;
      case "abort":
        this.#streams.get(action.id)?.close(http2.constants.NGHTTP2_CANCEL);
        this.#streams.delete(action.id);
        return;
    }
  }

  #tell(event: ControlEvent): void {
    const { callbacks, log } = this.#options;
    switch (event.kind) {
      case "net-map":
        callbacks.onNetMap(event.netMap);
        return;
      case "state":
        log.info("control-state", { state: event.state });
        callbacks.onState(event.state);
        return;
      case "auth-url":
        callbacks.onAuthUrl(event.url);
        return;
      case "node-key":
        callbacks.onNodeKey?.(event.nodeKey);
        return;
      case "error":
        log.warn("control-error", { message: event.message, fatal: event.fatal });
        callbacks.onError(event.message, { fatal: event.fatal });
        return;
      case "logged-out":
        this.#logoutDone?.();
        return;
    }
  }

  async #connect(): Promise<void> {
    const connection = ++this.#connection;
    try {
      const link = await dialControl({ ...this.#options, certPin: this.#options.certPin });
      if (this.#closed || connection !== this.#connection) {
        link.end();
        return;
      }
      this.#link = link;
      link.session.on("close", () => {
        if (connection !== this.#connection) return;
        this.#link = undefined;
        this.#input((now) => this.#client.handleDisconnected(now));
      });
      this.#input((now) => this.#client.handleConnected(now));
    } catch (error) {
      if (connection !== this.#connection) return;
      const message = error instanceof Error ? error.message : String(error);
      const fatal = error instanceof OperationError && FATAL.has(error.code);
      this.#input((now) => this.#client.handleConnectFailed(message, fatal, now));
    }
  }

  #disconnect(): void {
    this.#connection++;
    this.#streams.clear();
    this.#link?.end();
    this.#link = undefined;
  }

  #request(id: RequestId, path: string, body: JsonObject, endless: boolean): void {
    const session = this.#link?.session;
    if (session === undefined || session.closed || session.destroyed) {
      this.#later(() => this.#failed(id, "the connection to the coordination server was lost"));
      return;
    }
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/json",
    });
    this.#streams.set(id, stream);
    let status = 0;
    let retryAfter: Millis | undefined;
    const parts: Uint8Array[] = [];
    const frames = new MapFrameReader();
    const read = (bytes: Uint8Array): void => {
      if (endless && status === 200) this.#readFrames(id, frames, bytes);
      else if (parts.reduce((sum, part) => sum + part.length, bytes.length) <= MAX_ANSWER) parts.push(bytes);
      else stream.close(http2.constants.NGHTTP2_CANCEL);
    };
    stream.on("response", (headers) => {
      status = headers[":status"] ?? 0;
      const seconds = Number(headers["retry-after"]);
      if (seconds > 0) retryAfter = millis(seconds * 1000);
      stream.on("data", read); // not sooner: data can come before this event does
    });
    stream.on("error", () => {}); // "close" follows
    stream.on("close", () => {
      if (this.#streams.get(id) !== stream) return;
      this.#streams.delete(id);
      if (status === 0 || !stream.readableEnded || (endless && status === 200)) {
        this.#failed(id, "the coordination server ended a request without an answer");
      } else {
        const text = fromUtf8(Buffer.concat(parts));
        this.#input((now) => this.#client.handleResponse(id, status, text, now, retryAfter));
      }
    });
    stream.end(JSON.stringify(body));
  }

  #readFrames(id: RequestId, frames: MapFrameReader, bytes: Uint8Array): void {
    frames.push(bytes);
    for (let frame = frames.poll(); frame !== undefined; frame = frames.poll()) {
      const json =
        frame === "too-long" ? undefined : isZstd(frame) ? zstdDecompress(frame, MAX_MAP_FRAME) : frame;
      const text = json === undefined ? "" : fromUtf8(json);
      this.#input((now) => this.#client.handleFrame(id, text, now));
      if (frame === "too-long") return;
    }
  }

  #failed(id: RequestId, message: string): void {
    this.#input((now) => this.#client.handleRequestFailed(id, message, now));
  }

  /** Not inside the drain that asked for it. */
  #later(run: () => void): void {
    setImmediate(run);
  }
}
