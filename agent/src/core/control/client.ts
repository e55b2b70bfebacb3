/**
 * The client of a coordination server: registers, follows the map, tells of changed endpoints.
 *
 * Pure: it asks for a connection and for requests on it (`pollAction`), is told how they went, and yields network maps
 * and what the user must know (`pollEvent`). Connections, HTTP/2 and the clock are the owner's.
 */
import { type DiscoPublic, NodePrivate, NodePublic, clampPrivateKey } from "../../base/keys.ts";
import { type Random, randomBytes } from "../../base/random.ts";
import { after, type Calendar, earliest, type Instant, type Millis, seconds } from "../../base/time.ts";
import type { Suite } from "../../crypto/suite.ts";
import { Backoff } from "./backoff.ts";
import { type JsonObject, parseJson } from "./json.ts";
import { parseMapResponse } from "./map-response.ts";
import {
  CAPABILITY_VERSION,
  type Endpoint,
  type Hostinfo,
  logoutRequestJson,
  MAP_PATH,
  mapRequestJson,
  type NetInfo,
  parseRegisterResponse,
  REGISTER_PATH,
  registerRequestJson,
  type RegisterRequest,
} from "./messages.ts";
import { type NetMap, NetMapFolder } from "./net-map.ts";

/** The stock client's: a server must send at least a keepalive about every 50 s. */
const WATCHDOG: Millis = seconds(120);

export type RequestId = number;

export type ControlAction =
  /** Dial, shake hands, open HTTP/2; then `handleConnected` or `handleConnectFailed`. */
  | { readonly kind: "connect" }
  | { readonly kind: "disconnect" }
  /** POST it; then `handleResponse` or `handleRequestFailed`. */
  | { readonly kind: "post"; readonly id: RequestId; readonly path: string; readonly body: JsonObject }
  /** POST it and read the endless answer; then `handleFrame` for each frame, and `handleRequestFailed` at its end. */
  | { readonly kind: "stream"; readonly id: RequestId; readonly path: string; readonly body: JsonObject }
  | { readonly kind: "abort"; readonly id: RequestId };

export type ControlState =
  | "stopped"
  | "connecting"
  | "registering"
  | "needs-login"
  | "waiting-for-map"
  | "running"
  | "expired"
  | "logged-out";

export type ControlEvent =
  | { readonly kind: "state"; readonly state: ControlState }
  | { readonly kind: "net-map"; readonly netMap: NetMap }
  | { readonly kind: "auth-url"; readonly url: string }
  /** The node has a new key: keep it, and use it from now on. */
  | { readonly kind: "node-key"; readonly nodeKey: NodePrivate }
  /** `fatal`: it will not mend itself. Attempts go on all the same, seldom. */
  | { readonly kind: "error"; readonly message: string; readonly fatal: boolean }
  | { readonly kind: "logged-out" };

export interface ControlClientOptions {
  readonly suite: Suite;
  readonly random: Random;
  readonly calendar: Calendar;
  readonly nodeKey: NodePrivate;
  readonly discoKey: DiscoPublic;
  readonly authKey: string | undefined;
  readonly ephemeral: boolean;
  /** This machine and node key registered before: the auth key is kept back unless the server asks. */
  readonly registeredBefore: boolean;
  /** Whether the owner can take a new node key when the old one has expired. */
  readonly mayRotate: boolean;
  readonly hostinfo: Hostinfo;
  /** Whether the owner can decompress Zstandard. */
  readonly compress: boolean;
}

type Pending = "register" | "logout" | "update" | "map";

export class ControlClient {
  readonly #options: ControlClientOptions;
  readonly #backoff: Backoff;
  readonly #folder = new NetMapFolder();
  readonly #actions: ControlAction[] = [];
  readonly #events: ControlEvent[] = [];
  readonly #pending = new Map<RequestId, Pending>();
  #nodeKey: NodePrivate;
  #oldNodeKey: NodePublic | undefined;
  #sendAuthKey: boolean;
  #rotated = false;
  #followup = "";
  #hostinfo: Hostinfo;
  #endpoints: readonly Endpoint[] = [];
  #state: ControlState = "stopped";
  #started = false;
  #logoutWanted = false;
  #link: "down" | "dialing" | "up" = "down";
  #registered = false;
  #updateDue = true;
  #retryAt: Instant | undefined;
  #watchdogAt: Instant | undefined;
  #expiryAt: Instant | undefined;
  #nextId: RequestId = 1;

  constructor(options: ControlClientOptions) {
    this.#options = options;
    this.#backoff = new Backoff(options.random);
    this.#nodeKey = options.nodeKey;
    this.#sendAuthKey = options.authKey !== undefined && !options.registeredBefore;
    this.#hostinfo = options.hostinfo;
  }

  get state(): ControlState {
    return this.#state;
  }

  start(now: Instant): void {
    this.#started = true;
    this.#proceed(now);
  }

  /** Ends everything; nothing more is asked or told. */
  stop(): void {
    this.#started = false;
    this.#dropLink();
    this.#enter("stopped");
  }

  /** Ends this node's registration; the event "logged-out" says when it is done. */
  logout(now: Instant): void {
    this.#logoutWanted = true;
    this.#started = true;
    this.#proceed(now);
  }

  updateEndpoints(endpoints: readonly Endpoint[], now: Instant): void {
    const text = (list: readonly Endpoint[]): string =>
      list.map(({ endpoint, type }) => `${endpoint.text} ${type}`).join();
    if (text(endpoints) === text(this.#endpoints)) return;
    this.#endpoints = endpoints;
    this.#changed(now);
  }

  updateNetInfo(netInfo: NetInfo, now: Instant): void {
    this.updateHostinfo({ NetInfo: netInfo }, now);
  }

  /** Replaces the fields named in `patch`. */
  updateHostinfo(patch: Hostinfo, now: Instant): void {
    const hostinfo: Hostinfo = { ...this.#hostinfo, ...patch };
    if (JSON.stringify(hostinfo) === JSON.stringify(this.#hostinfo)) return;
    this.#hostinfo = hostinfo;
    this.#changed(now);
  }

  handleConnected(now: Instant): void {
    if (this.#link !== "dialing") return;
    this.#link = "up";
    this.#proceed(now);
  }

  handleConnectFailed(message: string, fatal: boolean, now: Instant): void {
    if (this.#link !== "dialing") return;
    this.#link = "down";
    this.#enter("connecting");
    this.#fail(message, fatal, now);
  }

  handleDisconnected(now: Instant): void {
    if (this.#link !== "up") return;
    this.#dropLink();
    this.#enter("connecting");
    this.#retryAt = after(now, this.#backoff.next());
  }

  /** @param retryAfter what the server asked for in the header of that name */
  handleResponse(id: RequestId, status: number, body: string, now: Instant, retryAfter?: Millis): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    this.#conclude(pending, status, body, now);
    if (retryAfter !== undefined && status !== 200) this.#retryAt = after(now, retryAfter);
  }

  /** A request that brought no answer, or the end of the map stream. */
  handleRequestFailed(id: RequestId, message: string, now: Instant): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    this.#pending.delete(id);
    if (pending === "update") this.#updateDue = true;
    if (pending === "map") this.#watchdogAt = undefined;
    this.#retryAt ??= after(now, this.#backoff.next());
    if (pending !== "map") this.#events.push({ kind: "error", message, fatal: false });
  }

  /** One frame of the map stream, decompressed. */
  handleFrame(id: RequestId, body: string, now: Instant): void {
    if (this.#pending.get(id) !== "map") return;
    this.#watchdogAt = after(now, WATCHDOG);
    const update = parseMapResponse(parseJson(body));
    if (typeof update === "string") {
      this.#abortMap(id, `the coordination server sent a map that can not be read (${update})`, now);
      return;
    }
    if (update.locked === true) {
      this.#abortMap(id, TAILNET_LOCKED, now, true);
      return;
    }
    const netMap = this.#folder.apply(update, this.#options.calendar.now());
    if (netMap === "no-node") {
      this.#abortMap(id, "the coordination server began a map without this node", now);
    } else if (netMap !== undefined) {
      this.#backoff.reset();
      this.#publish(netMap, now);
    }
  }

  handleTimeout(now: Instant): void {
    if (this.#watchdogAt !== undefined && now >= this.#watchdogAt) {
      this.#watchdogAt = undefined;
      this.#events.push({ kind: "error", message: "the coordination server fell silent", fatal: false });
      this.#dropLink();
      this.#enter("connecting");
      this.#retryAt = after(now, this.#backoff.next());
    }
    if (this.#expiryAt !== undefined && now >= this.#expiryAt) {
      const netMap = this.#folder.current(this.#options.calendar.now());
      if (netMap !== undefined) this.#publish(netMap, now);
    }
    if (this.#retryAt !== undefined && now >= this.#retryAt) {
      this.#retryAt = undefined;
      this.#proceed(now);
    }
  }

  pollAction(): ControlAction | undefined {
    return this.#actions.shift();
  }

  pollEvent(): ControlEvent | undefined {
    return this.#events.shift();
  }

  pollTimeout(): Instant | undefined {
    if (!this.#started) return undefined;
    return earliest(this.#retryAt, earliest(this.#watchdogAt, this.#expiryAt));
  }

  /** Asks for whatever is next and not yet under way. */
  #proceed(now: Instant): void {
    if (!this.#started || (this.#retryAt !== undefined && now < this.#retryAt)) return;
    this.#retryAt = undefined;
    if (this.#link === "down") {
      if (this.#state === "stopped" || this.#state === "logged-out") this.#enter("connecting");
      this.#link = "dialing";
      this.#actions.push({ kind: "connect" });
    }
    if (this.#link !== "up") return;
    if (this.#logoutWanted) this.#askToRegister("logout", logoutRequestJson);
    else if (!this.#registered) this.#askToRegister("register", registerRequestJson);
    else this.#askForMap(now);
  }

  #askToRegister(pending: "register" | "logout", write: (request: RegisterRequest) => JsonObject): void {
    if (this.#isPending(pending)) return;
    if (pending === "register" && this.#state === "connecting") this.#enter("registering");
    this.#ask("post", pending, REGISTER_PATH, write(this.#registerRequest()));
  }

  #askForMap(now: Instant): void {
    if (this.#updateDue && !this.#isPending("update")) {
      this.#updateDue = false;
      this.#ask("post", "update", MAP_PATH, this.#mapRequest(false));
    }
    if (this.#isPending("map")) return;
    this.#folder.beginPoll();
    this.#watchdogAt = after(now, WATCHDOG);
    if (this.#state === "connecting" || this.#state === "registering" || this.#state === "needs-login") {
      this.#enter("waiting-for-map");
    }
    this.#ask("stream", "map", MAP_PATH, this.#mapRequest(true));
  }

  #ask(kind: "post" | "stream", pending: Pending, path: string, body: JsonObject): void {
    const id = this.#nextId++;
    this.#pending.set(id, pending);
    this.#actions.push({ kind, id, path, body });
  }

  #isPending(kind: Pending): boolean {
    return [...this.#pending.values()].includes(kind);
  }

  #registerRequest(): RegisterRequest {
    return {
      version: CAPABILITY_VERSION,
      nodeKey: this.#nodePublic(),
      oldNodeKey: this.#oldNodeKey,
      authKey: this.#sendAuthKey ? this.#options.authKey : undefined,
      expiry: undefined,
      followup: this.#followup,
      ephemeral: this.#options.ephemeral,
      hostinfo: this.#hostinfo,
    };
  }

  #mapRequest(stream: boolean): JsonObject {
    return mapRequestJson({
      version: CAPABILITY_VERSION,
      nodeKey: this.#nodePublic(),
      discoKey: this.#options.discoKey,
      stream,
      omitPeers: !stream,
      compress: this.#options.compress,
      endpoints: this.#endpoints,
      hostinfo: this.#hostinfo,
    });
  }

  #nodePublic(): NodePublic {
    return this.#nodeKey.expose((secret) => NodePublic.fromBytes(this.#options.suite.x25519Public(secret)));
  }

  #conclude(pending: Pending, status: number, body: string, now: Instant): void {
    switch (pending) {
      case "logout":
        this.#started = false;
        this.#dropLink();
        this.#enter("logged-out");
        this.#events.push({ kind: "logged-out" });
        return;
      case "register":
        this.#handleRegistered(status, body, now);
        return;
      case "update":
      case "map":
        if (status !== 200) this.#handleMapRefused(status, body, now);
        this.#proceed(now);
        return;
    }
  }

  #handleRegistered(status: number, body: string, now: Instant): void {
    const response = parseRegisterResponse(parseJson(body));
    if (status !== 200 || response === undefined) {
      const reason = body.trim().slice(0, 200);
      this.#fail(`the coordination server answered ${status} to the registration: ${reason}`, false, now);
    } else if (this.#keyHeldBack() && (response.error !== "" || response.authUrl !== "")) {
      this.#sendAuthKey = true;
      this.#proceed(now);
    } else if (response.error !== "") {
      this.#enter("needs-login");
      this.#fail(`the coordination server refused this node: ${response.error}`, true, now);
    } else if (response.locked) {
      this.#fail(TAILNET_LOCKED, true, now);
    } else if (response.nodeKeyExpired) {
      this.#handleExpired(now);
    } else if (response.authUrl !== "") {
      this.#handleAuthUrl(response.authUrl, now);
    } else {
      this.#registered = true;
      this.#sendAuthKey = false;
      this.#followup = "";
      this.#oldNodeKey = undefined;
      this.#updateDue = true;
      this.#proceed(now);
    }
  }

  /** The auth key is for when the server wants a login, and not for each restart. */
  #keyHeldBack(): boolean {
    return this.#options.authKey !== undefined && !this.#sendAuthKey;
  }

  #handleAuthUrl(url: string, now: Instant): void {
    this.#followup = url;
    this.#enter("needs-login");
    this.#events.push({ kind: "auth-url", url });
    this.#proceed(now);
  }

  #handleExpired(now: Instant): void {
    if (!this.#options.mayRotate || this.#rotated) {
      this.#enter("expired");
      this.#fail(KEY_EXPIRED, true, now);
      return;
    }
    this.#rotated = true;
    for (const [id, pending] of this.#pending) if (pending === "map") this.#abort(id);
    this.#oldNodeKey = this.#nodePublic();
    this.#nodeKey = new NodePrivate(clampPrivateKey(randomBytes(this.#options.random, 32)));
    this.#sendAuthKey = this.#options.authKey !== undefined;
    this.#events.push({ kind: "node-key", nodeKey: this.#nodeKey });
    this.#registered = false;
    this.#proceed(now);
  }

  /** The server does not know the node (any more), or does not want its request: register again. */
  #handleMapRefused(status: number, body: string, now: Instant): void {
    this.#registered = false;
    this.#updateDue = true;
    this.#watchdogAt = undefined;
    const reason = body.trim().slice(0, 200);
    this.#fail(`the coordination server answered ${status} to a map request: ${reason}`, false, now);
  }

  #publish(netMap: NetMap, now: Instant): void {
    const wait = this.#folder.untilExpiry(this.#options.calendar.now());
    this.#expiryAt = wait === undefined ? undefined : after(now, wait);
    this.#events.push({ kind: "net-map", netMap });
    if (!netMap.self.expired) {
      this.#rotated = false;
      this.#enter("running");
    } else if (this.#state !== "expired") {
      this.#enter("expired");
      if (this.#options.mayRotate && this.#options.authKey !== undefined) this.#handleExpired(now);
      else this.#events.push({ kind: "error", message: KEY_EXPIRED, fatal: true });
    }
  }

  #abortMap(id: RequestId, message: string, now: Instant, fatal = false): void {
    this.#abort(id);
    this.#fail(message, fatal, now);
  }

  #abort(id: RequestId): void {
    this.#actions.push({ kind: "abort", id });
    this.#pending.delete(id);
    this.#watchdogAt = undefined;
  }

  #changed(now: Instant): void {
    this.#updateDue = true;
    if (this.#registered) this.#proceed(now);
  }

  #fail(message: string, fatal: boolean, now: Instant): void {
    this.#events.push({ kind: "error", message, fatal });
    this.#retryAt = after(now, this.#backoff.next());
  }

  #dropLink(): void {
    if (this.#link !== "down") this.#actions.push({ kind: "disconnect" });
    this.#link = "down";
    this.#pending.clear();
    this.#watchdogAt = undefined;
    this.#updateDue = true;
  }

  #enter(state: ControlState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#events.push({ kind: "state", state });
  }
}

const KEY_EXPIRED =
  "the node key has expired: run `sallyport up` with a new auth key, or let an administrator renew the node";
const TAILNET_LOCKED =
  "this tailnet is locked (tailnet lock), and Sallyport can not sign or verify node keys: " +
  "use a tailnet without the lock";
