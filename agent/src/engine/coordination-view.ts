/** What the coordination server's streams have been told of each node, and what they must be told now. */
import type { Prefix } from "../base/address.ts";
import { formatRfc3339 } from "../base/rfc3339.ts";
import type { Calendar } from "../base/time.ts";
import { asObject, type JsonObject } from "../core/control/json.ts";
import type { FilterRuleJson } from "../core/control/map-response.ts";
import type { CoordinationAdmission } from "./coordination-admission.ts";
import { approvedRoutes, type NodeChange, nodeJson } from "./coordination-map.ts";
import type { CoordinationRegistry } from "./coordination-registry.ts";
import type { CoordinationNode } from "./coordination-state.ts";

/** Everything from everyone: what a network without a policy does. */
const ALLOW_ALL: readonly FilterRuleJson[] = [
  { SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65535 } }] },
];

export interface ViewOptions {
  readonly calendar: Calendar;
  readonly domain: string;
  readonly derpMap: JsonObject;
  readonly packetFilter?: readonly FilterRuleJson[] | undefined;
  readonly autoApproveExitNodes?: boolean | readonly string[] | undefined;
  readonly autoApproveRoutes?: readonly RouteApproval[] | undefined;
}

/** Routes in `network` count at once: every node's, or those of nodes with a tag. */
export interface RouteApproval {
  readonly network: Prefix;
  readonly tag: string | undefined;
}

export class CoordinationView {
  /** The nodes that have a stream, or had one a moment ago. */
  readonly online = new Set<number>();
  readonly #registry: CoordinationRegistry;
  readonly #admission: CoordinationAdmission;
  readonly #options: ViewOptions;
  /** Each node as the streams have last been told of it. */
  readonly #published = new Map<number, JsonObject>();
  readonly #dirty = new Set<number>();
  /** Which node carries a subnet route that several offer. */
  #primaries = new Map<string, number>();

  constructor(registry: CoordinationRegistry, admission: CoordinationAdmission, options: ViewOptions) {
    this.#registry = registry;
    this.#admission = admission;
    this.#options = options;
  }

  /** Something about this node may have changed. */
  touch(id: number): void {
    this.#dirty.add(id);
  }

  /** Nobody has been told anything. */
  clear(): void {
    this.#published.clear();
  }

  toldExpired(id: number): boolean {
    return this.#published.get(id)?.["Expired"] === true;
  }

  /** What has changed since it was last asked; from now on the streams count as told. */
  collectChanges(): readonly NodeChange[] {
    if (this.#dirty.size === 0) return [];
    this.#choosePrimaries();
    const changes: NodeChange[] = [];
    for (const id of this.#dirty) {
      const node = this.#registry.node(id);
      const before = this.#published.get(id);
      const now = node === undefined ? undefined : this.#nodeJson(node);
      if (now === undefined) this.#published.delete(id);
      else this.#published.set(id, now);
      changes.push({ id, before, after: now });
    }
    this.#dirty.clear();
    return changes;
  }

  /** With it a stream begins. Call it when every change was collected. */
  completeMap(node: CoordinationNode): JsonObject {
    const peers = this.#admission.isExpired(node)
      ? []
      : [...this.#published].filter(([id]) => id !== node.id).sort(([a], [b]) => a - b);
    return {
      Node: this.#published.get(node.id),
      DERPMap: this.#derpMap(),
      ...(peers.length === 0 ? {} : { Peers: peers.map(([, peer]) => peer) }),
      Domain: this.#options.domain,
      PacketFilters: { base: this.#registry.packetFilter ?? this.#options.packetFilter ?? ALLOW_ALL },
      UserProfiles: this.profiles(),
      Debug: { DisableLogTail: true },
      ControlTime: formatRfc3339(this.#options.calendar.now()),
    };
  }

  profiles(): readonly JsonObject[] {
    return this.#registry.users.map(profileJson);
  }

  /** What a node offers that is approved. */
  routes(node: CoordinationNode): readonly Prefix[] {
    const auto = this.#options.autoApproveExitNodes ?? false;
    const mayExit = typeof auto === "boolean" ? auto : node.tags.some((tag) => auto.includes(tag));
    const approved = new Set(node.approvedRoutes.map((route) => route.text));
    const byRule = (route: Prefix): boolean =>
      (this.#options.autoApproveRoutes ?? []).some(
        ({ network, tag }) =>
          network.bits <= route.bits &&
          network.contains(route.ip) &&
          (tag === undefined || node.tags.includes(tag)),
      );
    return approvedRoutes(
      node,
      (route) => approved.has(route.text) || (route.isDefault ? mayExit : byRule(route)),
    );
  }

  #nodeJson(node: CoordinationNode): JsonObject {
    const routes = this.routes(node);
    const regions = asObject(this.#derpMap()["Regions"]) ?? {};
    return nodeJson(node, {
      domain: this.#options.domain,
      online: this.online.has(node.id),
      expired: this.#admission.isExpired(node),
      routes,
      primaryRoutes: routes.filter((route) => this.#primaries.get(route.text) === node.id),
      hasRegion: (region) => regions[String(region)] !== undefined,
    });
  }

  #derpMap(): JsonObject {
    return this.#registry.derpMap ?? this.#options.derpMap;
  }

  /** Who carries a route keeps it while online; otherwise the first online one, otherwise the first. */
  #choosePrimaries(): void {
    const carriers = new Map<string, number[]>();
    for (const node of this.#registry.nodes) {
      for (const route of this.routes(node)) {
        if (!route.isDefault) carriers.set(route.text, [...(carriers.get(route.text) ?? []), node.id]);
      }
    }
    const chosen = new Map<string, number>();
    for (const [route, ids] of carriers) {
      const previous = this.#primaries.get(route);
      const online = ids.filter((id) => this.online.has(id));
      const candidates = online.length > 0 ? online : ids;
      const id = candidates.find((candidate) => candidate === previous) ?? candidates[0];
      if (id === undefined) continue;
      chosen.set(route, id);
      if (previous !== undefined && previous !== id) this.#dirty.add(previous).add(id);
    }
    this.#primaries = chosen;
  }
}

function profileJson(user: { readonly id: number; readonly loginName: string }): JsonObject {
  return { ID: user.id, LoginName: user.loginName, DisplayName: user.loginName };
}
