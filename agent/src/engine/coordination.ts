/**
 * The coordination server: who is in the network, and what each node must know of the others.
 *
 * Pure: HTTP, sockets, the disk and the clock are the owner's. It answers registrations and map requests, and yields
 * messages for the map streams that are open (`pollTransmit`). A change reaches every stream as soon as the owner
 * polls; changes between two polls go out as one message.
 */
import type { Prefix } from "../base/address.ts";
import type { MachinePublic } from "../base/keys.ts";
import type { Random } from "../base/random.ts";
import { formatRfc3339 } from "../base/rfc3339.ts";
import {
  after,
  type Calendar,
  earliest,
  type Instant,
  instant,
  type Millis,
  millis,
  minutes,
  seconds,
} from "../base/time.ts";
import { asObject, type JsonObject } from "../core/control/json.ts";
import type { FilterRuleJson } from "../core/control/map-response.ts";
import {
  type MapRequest,
  MIN_CAPABILITY_VERSION,
  type RegisterRequest,
  routableIps,
} from "../core/control/messages.ts";
import { CoordinationAdmission } from "./coordination-admission.ts";
import { changesJson, concernsSelf, type NodeChange } from "./coordination-map.ts";
import { type AuthKeyOptions, CoordinationRegistry } from "./coordination-registry.ts";
import type { AuthKeyRecord, CoordinationNode } from "./coordination-state.ts";
import { CoordinationStreams, type MapTransmit, type SessionId } from "./coordination-streams.ts";
import { CoordinationView, type RouteApproval } from "./coordination-view.ts";

/** headscale's: a client that reconnects at once was never gone. */
const OFFLINE_GRACE: Millis = seconds(10);
/** headscale's default. */
const EPHEMERAL_GRACE: Millis = minutes(30);

export interface CoordinationOptions {
  readonly random: Random;
  readonly calendar: Calendar;
  /** What the nodes' names end with, such as "lab" in "web.lab". */
  readonly domain: string;
  /** DERPMap in the wire's form. One set later by `setDerpMap` wins, also after a restart. */
  readonly derpMap: JsonObject;
  /** @default everything from everyone */
  readonly packetFilter?: readonly FilterRuleJson[] | undefined;
  /** Approve offered default routes of every node, or of nodes with one of these tags. @default false */
  readonly autoApproveExitNodes?: boolean | readonly string[] | undefined;
  /** Approve offered routes in these networks. @default none */
  readonly autoApproveRoutes?: readonly RouteApproval[] | undefined;
  /** Let everyone in who reaches the server, without an auth key. For tests and closed labs. @default false */
  readonly admitWithoutKey?: boolean | undefined;
  /** How long a registration lasts; tagged nodes' lasts for ever. @default for ever */
  readonly keyLifetime?: Millis | undefined;
  /** @default 30 minutes */
  readonly ephemeralGrace?: Millis | undefined;
}

export type MapAnswer =
  | { readonly kind: "refused"; readonly status: number; readonly message: string }
  /** A lite update: 200 and an empty body. */
  | { readonly kind: "stored" }
  | { readonly kind: "once"; readonly message: JsonObject }
  /** Keep the answer open and write to it what `pollTransmit` yields for this session. */
  | { readonly kind: "stream"; readonly session: SessionId };

export type CoordinationEvent =
  /** The state is to be saved. */
  | { readonly kind: "changed" }
  /** End this stream: the node opened another, or has to come back to be told anew. */
  | { readonly kind: "end-session"; readonly session: SessionId };

/** For `GET /nodes`: what an administrator sees of a node. */
export interface NodeSummary {
  readonly id: number;
  readonly name: string;
  readonly addresses: readonly string[];
  readonly user: string;
  readonly tags: readonly string[];
  readonly online: boolean;
  readonly expired: boolean;
  readonly ephemeral: boolean;
  /** What it offers, what an administrator approved, and what of it counts: approved by hand or by rule. */
  readonly offeredRoutes: readonly string[];
  readonly approvedRoutes: readonly string[];
  readonly routes: readonly string[];
  readonly lastSeen: string;
}

export class Coordination {
  readonly #options: CoordinationOptions;
  readonly #registry: CoordinationRegistry;
  readonly #admission: CoordinationAdmission;
  readonly #view: CoordinationView;
  readonly #streams = new CoordinationStreams();
  readonly #offlineAt = new Map<number, Instant>();
  readonly #forgetAt = new Map<number, Instant>();
  #changed = false;
  #expiryAt: Instant | undefined;
  #now: Instant = instant(0);

  constructor(options: CoordinationOptions) {
    this.#options = options;
    this.#registry = new CoordinationRegistry(options.random);
    this.#admission = new CoordinationAdmission(this.#registry, options);
    this.#view = new CoordinationView(this.#registry, this.#admission, options);
  }

  /** The answer to POST /machine/register; `machine` is whom the Noise channel has proven. */
  handleRegister(machine: MachinePublic, request: RegisterRequest, now: Instant): JsonObject {
    this.#now = now;
    const { answer, touched, left } = this.#admission.register(machine, request);
    if (touched !== undefined) this.#touch(touched);
    if (left !== undefined) this.#leave(left);
    return answer;
  }

  handleMapRequest(machine: MachinePublic, request: MapRequest, now: Instant): MapAnswer {
    this.#now = now;
    if (request.version < MIN_CAPABILITY_VERSION) {
      const message = `this client is too old (capability version ${request.version}): update it`;
      return { kind: "refused", status: 400, message };
    }
    const node = this.#registry.nodeByKey(request.nodeKey);
    if (node === undefined || node.machine.text !== machine.text) {
      return { kind: "refused", status: 404, message: "node not found" };
    }
    if (request.stream) return { kind: "stream", session: this.#openSession(node, now) };
    this.#store(node, request);
    if (request.omitPeers) return { kind: "stored" };
    this.#flush();
    return { kind: "once", message: this.#view.completeMap(node) };
  }

  /** The stream is gone, whoever ended it. */
  handleSessionClosed(id: SessionId, now: Instant): void {
    this.#now = now;
    const node = this.#streams.close(id);
    if (node !== undefined && this.#registry.node(node.id) === node) this.#becameSilent(node, now);
  }

  handleTimeout(now: Instant): void {
    this.#now = now;
    this.#streams.handleTimeout(now);
    for (const [id, at] of this.#offlineAt) if (now >= at) this.#goOffline(id);
    for (const [id, at] of this.#forgetAt) {
      const node = this.#registry.node(id);
      if (now >= at && node !== undefined) this.#forget(node);
    }
    if (this.#expiryAt !== undefined && now >= this.#expiryAt) this.#expire();
  }

  pollTransmit(): MapTransmit | undefined {
    this.#flush();
    return this.#streams.pollTransmit();
  }

  pollEvent(): CoordinationEvent | undefined {
    const session = this.#streams.pollEnded();
    if (session !== undefined) return { kind: "end-session", session };
    if (!this.#changed) return undefined;
    this.#changed = false;
    return { kind: "changed" };
  }

  pollTimeout(): Instant | undefined {
    let at = earliest(this.#expiryAt, this.#streams.pollTimeout());
    for (const deadline of [...this.#offlineAt.values(), ...this.#forgetAt.values()])
      at = earliest(at, deadline);
    return at;
  }

  /** @throws OperationError when a tag is none */
  createAuthKey(options: AuthKeyOptions): { id: string; text: string } {
    const created = this.#registry.createAuthKey(options, this.#options.domain, this.#options.calendar.now());
    this.#changed = true;
    return created;
  }

  /** Takes a key made elsewhere. One that is known already stays as it is, so a used one stays used. */
  adoptAuthKey(text: string, options: AuthKeyOptions): void {
    this.#registry.adoptAuthKey(options, text, this.#options.domain, this.#options.calendar.now());
    this.#changed = true;
  }

  removeAuthKey(id: string): boolean {
    const removed = this.#registry.removeAuthKey(id);
    this.#changed ||= removed;
    return removed;
  }

  /** Without their hashes. */
  listAuthKeys(): readonly Omit<AuthKeyRecord, "hash">[] {
    return this.#registry.authKeys.map(({ hash: _hash, ...rest }) => rest);
  }

  listNodes(): readonly NodeSummary[] {
    const users = new Map(this.#registry.users.map((user) => [user.id, user.loginName]));
    return this.#registry.nodes.map((node) => ({
      id: node.id,
      name: `${node.label}.${this.#options.domain}`,
      addresses: [node.ipv4.text, node.ipv6.text],
      user: users.get(node.user) ?? String(node.user),
      tags: node.tags,
      online: this.#view.online.has(node.id),
      expired: this.#admission.isExpired(node),
      ephemeral: node.ephemeral,
      offeredRoutes: routableIps(node.hostinfo).map((route) => route.text),
      approvedRoutes: node.approvedRoutes.map((route) => route.text),
      routes: this.#view.routes(node).map((route) => route.text),
      lastSeen: formatRfc3339(node.lastSeen),
    }));
  }

  /** False when there is no such node. */
  deleteNode(id: number, now: Instant): boolean {
    this.#now = now;
    const node = this.#registry.node(id);
    if (node !== undefined) this.#forget(node);
    return node !== undefined;
  }

  /** Ends a registration now: the node has to log in again. */
  expireNode(id: number, now: Instant): boolean {
    this.#now = now;
    const node = this.#registry.node(id);
    if (node === undefined) return false;
    node.keyExpiry = this.#options.calendar.now();
    this.#expire();
    return true;
  }

  /** Replaces the routes that this node may carry, once it offers them. */
  approveRoutes(id: number, routes: readonly Prefix[], now: Instant): boolean {
    this.#now = now;
    const node = this.#registry.node(id);
    if (node === undefined) return false;
    this.#registry.approveRoutes(node, routes);
    this.#touch(node);
    return true;
  }

  setDerpMap(derpMap: JsonObject, now: Instant): void {
    this.#now = now;
    this.#registry.derpMap = derpMap;
    this.#changed = true;
    for (const node of this.#registry.nodes) this.#view.touch(node.id);
    this.#broadcast({ DERPMap: derpMap });
  }

  setPacketFilter(rules: readonly FilterRuleJson[], now: Instant): void {
    this.#now = now;
    this.#registry.packetFilter = rules.map((rule) => asObject(rule) ?? {});
    this.#changed = true;
    this.#broadcast({ PacketFilters: { base: rules } });
  }

  exportState(): string {
    return this.#registry.exportState();
  }

  /** Call it before anything else. @throws ParseError, and then nothing has changed */
  importState(text: string, now: Instant): void {
    this.#now = now;
    this.#registry.importState(text);
    this.#view.clear();
    for (const node of this.#registry.nodes) {
      this.#view.touch(node.id);
      if (node.ephemeral) this.#forgetAt.set(node.id, after(now, this.#ephemeralGrace()));
    }
  }

  #openSession(node: CoordinationNode, now: Instant): SessionId {
    const id = this.#streams.open(node, now);
    this.#offlineAt.delete(node.id);
    this.#forgetAt.delete(node.id);
    if (!this.#view.online.has(node.id)) {
      this.#view.online.add(node.id);
      this.#touch(node);
    }
    return id;
  }

  /** What a node says of itself in a lite update. */
  #store(node: CoordinationNode, request: MapRequest): void {
    const before = JSON.stringify([node.discoKey, node.endpoints, node.cap, node.hostinfo]);
    const hostname = node.hostinfo.Hostname;
    node.discoKey = request.discoKey ?? node.discoKey;
    node.endpoints = request.endpoints;
    node.cap = request.version;
    node.hostinfo = request.hostinfo ?? node.hostinfo;
    if (JSON.stringify([node.discoKey, node.endpoints, node.cap, node.hostinfo]) === before) return;
    if (node.hostinfo.Hostname !== hostname) this.#registry.relabel(node);
    this.#touch(node);
  }

  #touch(node: CoordinationNode): void {
    this.#view.touch(node.id);
    this.#changed = true;
  }

  #becameSilent(node: CoordinationNode, now: Instant): void {
    if (this.#streams.has(node)) return;
    this.#offlineAt.set(node.id, after(now, OFFLINE_GRACE));
    if (node.ephemeral) this.#forgetAt.set(node.id, after(now, this.#ephemeralGrace()));
  }

  #ephemeralGrace(): Millis {
    return this.#options.ephemeralGrace ?? EPHEMERAL_GRACE;
  }

  #goOffline(id: number): void {
    this.#offlineAt.delete(id);
    this.#view.online.delete(id);
    const node = this.#registry.node(id);
    if (node === undefined) return;
    node.lastSeen = this.#options.calendar.now();
    this.#touch(node);
  }

  /** A node logged out: it is gone at once, for ever when it was ephemeral. */
  #leave(node: CoordinationNode): void {
    if (node.ephemeral) {
      this.#forget(node);
      return;
    }
    this.#streams.end(node);
    this.#goOffline(node.id);
  }

  #forget(node: CoordinationNode): void {
    this.#streams.end(node);
    this.#registry.removeNode(node);
    this.#view.online.delete(node.id);
    this.#offlineAt.delete(node.id);
    this.#forgetAt.delete(node.id);
    this.#touch(node);
  }

  /** Tells of every node whose time has run out; its own stream ends, so that it comes back and learns of it. */
  #expire(): void {
    this.#expiryAt = undefined;
    for (const node of this.#registry.nodes) {
      const known = this.#view.toldExpired(node.id);
      if (known || !this.#admission.isExpired(node)) continue;
      this.#streams.end(node);
      this.#becameSilent(node, this.#now);
      this.#touch(node);
    }
    this.#planExpiry();
  }

  #flush(): void {
    const changes = this.#view.collectChanges();
    const wall = this.#options.calendar.now();
    const forAll = changesJson(changes, wall);
    const own = new Map(changes.map((change) => [change.id, change]));
    for (const stream of this.#streams.all) {
      if (!stream.complete) {
        stream.complete = true;
        this.#streams.send(stream, this.#view.completeMap(stream.node), this.#now);
      } else if (changes.length > 0 && !this.#admission.isExpired(stream.node)) {
        const mine = own.get(stream.node.id);
        const message = mine === undefined ? forAll : this.#changesFor(mine, changes);
        if (Object.keys(message).length > 0) {
          this.#streams.send(stream, this.#withProfiles(message), this.#now);
        }
      }
    }
    if (changes.length > 0) this.#planExpiry();
  }

  /** A node never stands in its own list of peers; what it must hear of itself is `Node`. */
  #changesFor(mine: NodeChange, changes: readonly NodeChange[]): JsonObject {
    const others = changesJson(
      changes.filter((change) => change !== mine),
      this.#options.calendar.now(),
    );
    return concernsSelf(mine) ? { Node: mine.after, ...others } : others;
  }

  /** A peer that is new may belong to a user that is new. */
  #withProfiles(message: JsonObject): JsonObject {
    if (message["PeersChanged"] === undefined) return message;
    return { ...message, UserProfiles: this.#view.profiles() };
  }

  #broadcast(message: JsonObject): void {
    this.#flush();
    this.#streams.broadcast(message, this.#now);
  }

  #planExpiry(): void {
    const wall = this.#options.calendar.now();
    this.#expiryAt = undefined;
    for (const { keyExpiry } of this.#registry.nodes) {
      if (keyExpiry === undefined || keyExpiry <= wall) continue;
      this.#expiryAt = earliest(this.#expiryAt, after(this.#now, millis(keyExpiry - wall)));
    }
  }
}
