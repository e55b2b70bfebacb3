/** What changed in a fleet while somebody looked: since when each node is as it is, and the changes, newest first. */
import type { Fleet, FleetNode } from "./fleet.ts";

export interface FleetChange {
  /** Counted from 1: what is no longer kept counts, too. */
  readonly number: number;
  readonly at: string;
  readonly region: string;
  readonly instance: string;
  readonly name: string;
  readonly what: "path" | "health" | "came" | "gone";
  readonly from: string;
  readonly to: string;
}

export interface Since {
  readonly at: string;
  /** It was so when we first looked: longer, nobody knows how much. */
  readonly orLonger: boolean;
}

export interface FleetView {
  readonly fleet: Fleet;
  /** Of path and health, by instance id. */
  readonly since: Readonly<Record<string, Since>>;
  readonly changes: readonly FleetChange[];
}

/** Enough for a day of a busy fleet; a page of more is no page. */
const KEPT = 500;

export class FleetHistory {
  readonly #known = new Map<string, { node: FleetNode; since: Since }>();
  readonly #changes: FleetChange[] = [];
  #told = 0;
  #fleet: Fleet | undefined;

  handle(fleet: Fleet): void {
    const isFirst = this.#fleet === undefined;
    this.#fleet = fleet;
    for (const node of fleet.nodes) this.#note(node, fleet.at, isFirst);
    this.#noteGone(fleet);
  }

  get view(): FleetView | undefined {
    if (this.#fleet === undefined) return undefined;
    const since = Object.fromEntries([...this.#known].map(([id, known]) => [id, known.since]));
    return { fleet: this.#fleet, since, changes: this.#changes };
  }

  #note(node: FleetNode, at: string, isFirst: boolean): void {
    const known = this.#known.get(node.instance);
    if (known === undefined) {
      if (!isFirst) this.#tell(node, at, "came", "", node.path);
      this.#known.set(node.instance, { node, since: { at, orLonger: isFirst } });
      return;
    }
    const { node: former } = known;
    if (former.path !== node.path) this.#tell(node, at, "path", former.path, node.path);
    if (former.health !== node.health) this.#tell(node, at, "health", former.health, node.health);
    if (former.path !== node.path || former.health !== node.health) known.since = { at, orLonger: false };
    known.node = node;
  }

  /** A region that could not be read says nothing of its nodes. */
  #noteGone(fleet: Fleet): void {
    const present = new Set(fleet.nodes.map(({ instance }) => instance));
    const unread = new Set(fleet.failures.map(({ region }) => region));
    for (const [id, { node }] of this.#known) {
      if (present.has(id) || unread.has(node.region)) continue;
      this.#tell(node, fleet.at, "gone", node.path, "");
      this.#known.delete(id);
    }
  }

  #tell(
    { region, instance, name }: FleetNode,
    at: string,
    what: FleetChange["what"],
    from: string,
    to: string,
  ): void {
    this.#changes.unshift({ number: ++this.#told, at, region, instance, name, what, from, to });
    this.#changes.length = Math.min(this.#changes.length, KEPT);
  }
}
