/** The coordination server's memory: nodes, users and auth keys, with the rules that keep each of them unique. */
import type { Ip, Prefix } from "../base/address.ts";
import { toHex, utf8 } from "../base/bytes.ts";
import { OperationError } from "../base/errors.ts";
import type { MachinePublic, NodePublic } from "../base/keys.ts";
import { type Random, randomBytes } from "../base/random.ts";
import type { WallTime } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import type { Hostinfo } from "../core/control/messages.ts";
import { sha256 } from "../crypto/sha256.ts";
import { labelFrom, nextAddress, uniqueLabel, v6For } from "./coordination-address.ts";
import {
  type AuthKeyRecord,
  type CoordinationNode,
  formatState,
  parseState,
  type UserRecord,
} from "./coordination-state.ts";

/** Tagged nodes belong to nobody; the ID and name are headscale's, which clients show well. */
const TAGGED_DEVICES: UserRecord = { id: 2_147_455_555, loginName: "tagged-devices" };
const AUTH_KEY_PREFIX = "spkey-";

export interface AuthKeyOptions {
  /** @default false, for one node only */
  readonly reusable?: boolean | undefined;
  /** Such as "tag:exit". Nodes with tags belong to no user and their keys never expire. @default none */
  readonly tags?: readonly string[] | undefined;
  /** The server forgets nodes that join with it when they are gone. @default false */
  readonly ephemeral?: boolean | undefined;
  /** @default never */
  readonly expiry?: WallTime | undefined;
  /** Whom nodes without tags belong to. @default the server's domain */
  readonly user?: string | undefined;
}

export interface NewNode {
  readonly machine: MachinePublic;
  readonly key: NodePublic;
  readonly hostinfo: Hostinfo;
  readonly cap: number;
  readonly user: number;
  readonly tags: readonly string[];
  readonly ephemeral: boolean;
  readonly keyExpiry: WallTime | undefined;
}

export class CoordinationRegistry {
  readonly #random: Random;
  readonly #nodes = new Map<number, CoordinationNode>();
  readonly #byKey = new Map<string, CoordinationNode>();
  readonly #addresses = new Set<string>();
  readonly #labels = new Set<string>();
  readonly #users = new Map<number, UserRecord>([[TAGGED_DEVICES.id, TAGGED_DEVICES]]);
  readonly #authKeys = new Map<string, AuthKeyRecord>();
  #nextId = 1;
  #lastAddress: Ip | undefined;
  derpMap: JsonObject | undefined;
  packetFilter: readonly JsonObject[] | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  get nodes(): readonly CoordinationNode[] {
    return [...this.#nodes.values()];
  }

  get users(): readonly UserRecord[] {
    return [...this.#users.values()];
  }

  get authKeys(): readonly AuthKeyRecord[] {
    return [...this.#authKeys.values()];
  }

  node(id: number): CoordinationNode | undefined {
    return this.#nodes.get(id);
  }

  nodeByKey(key: NodePublic): CoordinationNode | undefined {
    return this.#byKey.get(key.text);
  }

  nodeByMachine(machine: MachinePublic): CoordinationNode | undefined {
    return this.nodes.find((node) => node.machine.text === machine.text);
  }

  /** `undefined` when every address of the range is taken. */
  addNode(fields: NewNode, now: WallTime): CoordinationNode | undefined {
    const ipv4 = nextAddress(this.#lastAddress, (ip) => this.#addresses.has(ip.text));
    if (ipv4 === undefined) return undefined;
    this.#lastAddress = ipv4;
    const label = uniqueLabel(labelFrom(fields.hostinfo.Hostname ?? ""), (name) => this.#labels.has(name));
    const node: CoordinationNode = {
      ...fields,
      id: this.#nextId++,
      created: now,
      lastSeen: now,
      ipv4,
      ipv6: v6For(ipv4),
      label,
      discoKey: undefined,
      endpoints: [],
      approvedRoutes: [],
    };
    this.#index(node);
    return node;
  }

  removeNode(node: CoordinationNode): void {
    this.#nodes.delete(node.id);
    this.#byKey.delete(node.key.text);
    this.#addresses.delete(node.ipv4.text);
    this.#labels.delete(node.label);
  }

  rekey(node: CoordinationNode, key: NodePublic): void {
    this.#byKey.delete(node.key.text);
    node.key = key;
    this.#byKey.set(key.text, node);
  }

  /** A host that was renamed gets the name it would have had from the start. */
  relabel(node: CoordinationNode): void {
    this.#labels.delete(node.label);
    node.label = uniqueLabel(labelFrom(node.hostinfo.Hostname ?? ""), (name) => this.#labels.has(name));
    this.#labels.add(node.label);
  }

  approveRoutes(node: CoordinationNode, routes: readonly Prefix[]): void {
    node.approvedRoutes = routes;
  }

  user(loginName: string): UserRecord {
    const known = this.users.find((user) => user.loginName === loginName);
    if (known !== undefined) return known;
    const id = 1 + Math.max(0, ...[...this.#users.keys()].filter((key) => key !== TAGGED_DEVICES.id));
    const user = { id, loginName };
    this.#users.set(id, user);
    return user;
  }

  /** The text is told once and kept nowhere. */
  createAuthKey(options: AuthKeyOptions, user: string, now: WallTime): { id: string; text: string } {
    const tags = options.tags ?? [];
    const id = toHex(randomBytes(this.#random, 6));
    const text = `${AUTH_KEY_PREFIX}${id}-${toHex(randomBytes(this.#random, 24))}`;
    this.#addAuthKey({ ...options, tags }, id, text, user, now);
    return { id, text };
  }

  /** Takes a key whose text was made elsewhere (a file of initial keys); one already known stays as it is. */
  adoptAuthKey(options: AuthKeyOptions, text: string, user: string, now: WallTime): void {
    if (this.findAuthKey(text) !== undefined) return;
    this.#addAuthKey(options, toHex(sha256(utf8(text)).subarray(0, 6)), text, user, now);
  }

  findAuthKey(text: string): AuthKeyRecord | undefined {
    return this.#authKeys.get(hashOf(text));
  }

  removeAuthKey(id: string): boolean {
    const record = this.authKeys.find((key) => key.id === id);
    return record !== undefined && this.#authKeys.delete(record.hash);
  }

  exportState(): string {
    return formatState({
      nextId: this.#nextId,
      lastAddress: this.#lastAddress,
      users: this.users,
      authKeys: this.authKeys,
      nodes: this.nodes,
      derpMap: this.derpMap,
      packetFilter: this.packetFilter,
    });
  }

  /** Takes the place of everything known. @throws ParseError, and then nothing has changed */
  importState(text: string): void {
    const state = parseState(text);
    for (const map of [this.#nodes, this.#byKey, this.#authKeys]) map.clear();
    this.#addresses.clear();
    this.#labels.clear();
    this.#nextId = state.nextId;
    this.#lastAddress = state.lastAddress;
    this.derpMap = state.derpMap;
    this.packetFilter = state.packetFilter;
    for (const user of state.users) this.#users.set(user.id, user);
    for (const key of state.authKeys) this.#authKeys.set(key.hash, key);
    for (const node of state.nodes) this.#index(node);
  }

  #index(node: CoordinationNode): void {
    this.#nodes.set(node.id, node);
    this.#byKey.set(node.key.text, node);
    this.#addresses.add(node.ipv4.text);
    this.#labels.add(node.label);
  }

  #addAuthKey(options: AuthKeyOptions, id: string, text: string, user: string, now: WallTime): void {
    const tags = options.tags ?? [];
    const bad = tags.find((tag) => !/^tag:[a-zA-Z][a-zA-Z0-9-]*$/.test(tag));
    if (bad !== undefined) {
      throw new OperationError(
        "auth-key-tag",
        `"${bad}" is no tag: a tag is "tag:" and letters, digits or "-"`,
      );
    }
    const hash = hashOf(text);
    this.#authKeys.set(hash, {
      id,
      hash,
      reusable: options.reusable ?? false,
      ephemeral: options.ephemeral ?? false,
      tags,
      user: tags.length > 0 ? TAGGED_DEVICES.id : this.user(options.user ?? user).id,
      created: now,
      expiry: options.expiry,
      used: false,
    });
  }
}

function hashOf(text: string): string {
  return toHex(sha256(utf8(text)));
}
