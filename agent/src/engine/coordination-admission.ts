/** Who may join: the rules by which the coordination server answers a registration. */
import type { MachinePublic } from "../base/keys.ts";
import { type Calendar, type Millis, type WallTime, wallTime } from "../base/time.ts";
import type { JsonObject } from "../core/control/json.ts";
import { MIN_CAPABILITY_VERSION, type RegisterRequest } from "../core/control/messages.ts";
import type { CoordinationRegistry } from "./coordination-registry.ts";
import type { AuthKeyRecord, CoordinationNode } from "./coordination-state.ts";

export interface AdmissionOptions {
  readonly calendar: Calendar;
  readonly domain: string;
  readonly admitWithoutKey?: boolean | undefined;
  readonly keyLifetime?: Millis | undefined;
}

export interface Admission {
  readonly answer: JsonObject;
  /** A node that is new or changed. */
  readonly touched: CoordinationNode | undefined;
  /** A node that logged out. */
  readonly left: CoordinationNode | undefined;
}

const MAKE_A_KEY = "make one on the server with `sallyport control auth-key create`";

export class CoordinationAdmission {
  readonly #registry: CoordinationRegistry;
  readonly #options: AdmissionOptions;

  constructor(registry: CoordinationRegistry, options: AdmissionOptions) {
    this.#registry = registry;
    this.#options = options;
  }

  isExpired(node: CoordinationNode): boolean {
    return node.keyExpiry !== undefined && node.keyExpiry <= this.#options.calendar.now();
  }

  /** Nothing changes when the answer is an error. */
  register(machine: MachinePublic, request: RegisterRequest): Admission {
    if (request.version < MIN_CAPABILITY_VERSION) return refused("this client is too old: update it");
    const known = this.#registry.nodeByKey(request.nodeKey);
    if (known !== undefined && known.machine.text !== machine.text) {
      return refused(
        "this node key belongs to another machine: delete the copied state and join as a new node",
      );
    }
    if (request.expiry !== undefined && request.expiry <= this.#options.calendar.now()) {
      return this.#logout(known);
    }
    if (known !== undefined && !this.isExpired(known)) return this.#welcome(known, undefined);
    return this.#admit(machine, request, known);
  }

  #logout(node: CoordinationNode | undefined): Admission {
    if (node !== undefined) node.keyExpiry = this.#options.calendar.now();
    return { answer: answerJson({ MachineAuthorized: false }), touched: node, left: node };
  }

  /** A node that is new, whose registration has ended, or that changes its key. */
  #admit(machine: MachinePublic, request: RegisterRequest, expired: CoordinationNode | undefined): Admission {
    const authKey = request.authKey === undefined ? undefined : this.#checkAuthKey(request.authKey);
    if (typeof authKey === "string") return refused(authKey);
    const tags = authKey?.tags ?? [];
    const wished = (request.hostinfo.RequestTags ?? []).filter((tag) => !tags.includes(tag));
    if (wished.length > 0) {
      return refused(`the tags ${wished.join(", ")} are not permitted: tags come from the auth key here`);
    }
    if (authKey === undefined) {
      const rotated = this.#rotate(machine, request);
      if (rotated !== undefined) return rotated;
      if (expired !== undefined && this.#options.admitWithoutKey !== true) {
        return { answer: answerJson({ NodeKeyExpired: true }), touched: undefined, left: undefined };
      }
      if (this.#options.admitWithoutKey !== true) {
        return refused(`this server admits nodes by auth key only: ${MAKE_A_KEY} and join with it`);
      }
    }
    return this.#join(machine, request, authKey);
  }

  /** A new key for a node whose registration still runs needs no auth key, and does not prolong it. */
  #rotate(machine: MachinePublic, request: RegisterRequest): Admission | undefined {
    const old = request.oldNodeKey === undefined ? undefined : this.#registry.nodeByKey(request.oldNodeKey);
    if (old === undefined || old.machine.text !== machine.text || this.isExpired(old)) return undefined;
    this.#registry.rekey(old, request.nodeKey);
    return this.#welcome(old, old);
  }

  /** A machine that was here before is the same node again, with its name and addresses. */
  #join(machine: MachinePublic, request: RegisterRequest, authKey: AuthKeyRecord | undefined): Admission {
    const now = this.#options.calendar.now();
    const fields = {
      user: authKey?.user ?? this.#registry.user(this.#options.domain).id,
      tags: authKey?.tags ?? [],
      ephemeral: request.ephemeral || authKey?.ephemeral === true,
      keyExpiry: this.#keyExpiry(authKey, now),
    };
    const { nodeKey: key, hostinfo, version: cap } = request;
    let node = this.#registry.nodeByMachine(machine);
    if (node === undefined) {
      node = this.#registry.addNode({ machine, key, hostinfo, cap, ...fields }, now);
      if (node === undefined) return refused("every address of this network is taken: delete unused nodes");
    } else {
      this.#registry.rekey(node, key);
      Object.assign(node, fields);
    }
    if (authKey !== undefined) authKey.used = true;
    return this.#welcome(node, node);
  }

  #keyExpiry(authKey: AuthKeyRecord | undefined, now: WallTime): WallTime | undefined {
    const lifetime = this.#options.keyLifetime;
    if (lifetime === undefined || (authKey?.tags.length ?? 0) > 0) return undefined;
    return wallTime(now + lifetime);
  }

  #checkAuthKey(text: string): AuthKeyRecord | string {
    const record = this.#registry.findAuthKey(text);
    if (record === undefined) return `this auth key is not known here: check it, or ${MAKE_A_KEY}`;
    if (record.expiry !== undefined && record.expiry <= this.#options.calendar.now()) {
      return `this auth key has expired: ${MAKE_A_KEY}`;
    }
    if (record.used && !record.reusable) {
      return `this auth key was for one node and has been used: ${MAKE_A_KEY}`;
    }
    return record;
  }

  #welcome(node: CoordinationNode, touched: CoordinationNode | undefined): Admission {
    const user = this.#registry.users.find(({ id }) => id === node.user);
    const name = user?.loginName ?? String(node.user);
    const answer = answerJson({
      User: { ID: node.user, DisplayName: name },
      Login: { ID: node.user, Provider: "", LoginName: name, DisplayName: name },
      MachineAuthorized: true,
    });
    return { answer, touched, left: undefined };
  }
}

function refused(error: string): Admission {
  return { answer: answerJson({ Error: error }), touched: undefined, left: undefined };
}

function answerJson(fields: JsonObject): JsonObject {
  return {
    User: { ID: 0, DisplayName: "" },
    Login: { ID: 0, Provider: "", LoginName: "", DisplayName: "" },
    NodeKeyExpired: false,
    MachineAuthorized: false,
    AuthURL: "",
    NodeKeySignature: null,
    Error: "",
    ...fields,
  };
}
