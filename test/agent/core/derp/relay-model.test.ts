import fc from "fast-check";
import { NodePrivate } from "../../../../agent/src/base/keys.ts";
import { publicOf } from "../../../../agent/src/core/derp/login.ts";
import { RelayWorld, suite } from "./support.ts";

const keys = [1, 2, 3].map((n) => new NodePrivate(new Uint8Array(32).fill(n)));
const names = keys.map((key) => publicOf(suite, key).text);
const keyAt = (n: number): NodePrivate => keys[n] ?? new NodePrivate(new Uint8Array(32));

type Step =
  | { readonly do: "join"; readonly key: number }
  | { readonly do: "leave"; readonly nth: number }
  | { readonly do: "send"; readonly nth: number; readonly to: number };

/** The rules of a relay, as short as they can be said. */
class Model {
  /** Connections in the order they were opened. */
  readonly connections: { readonly conn: number; readonly key: number }[] = [];
  readonly #active = new Map<number, number>();
  /** "key of the sender>connection that received" */
  readonly #heard = new Set<string>();

  join(conn: number, key: number): void {
    this.connections.push({ conn, key });
    this.#active.set(key, conn);
  }

  /** @returns the connection that receives it */
  send(conn: number, to: number): number | undefined {
    const from = this.connections.find((c) => c.conn === conn)?.key ?? -1;
    this.#active.set(from, conn);
    const receiver = this.#active.get(to);
    if (receiver !== undefined) this.#heard.add(`${from}>${receiver}`);
    return receiver;
  }

  /** @returns the connections that are told */
  leave(conn: number): readonly number[] {
    const at = this.connections.findIndex((c) => c.conn === conn);
    const key = this.connections.splice(at, 1)[0]?.key ?? -1;
    const remaining = this.connections.findLast((c) => c.key === key);
    if (remaining !== undefined) {
      if (this.#active.get(key) === conn) this.#active.set(key, remaining.conn);
      return [];
    }
    this.#active.delete(key);
    const told = this.connections.filter((c) => this.#heard.has(`${key}>${c.conn}`)).map((c) => c.conn);
    for (const each of told) this.#heard.delete(`${key}>${each}`);
    return told;
  }
}

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  fc.record({ do: fc.constant("join" as const), key: fc.nat(2) }),
  fc.record({ do: fc.constant("leave" as const), nth: fc.nat(9) }),
  { weight: 4, arbitrary: fc.record({ do: fc.constant("send" as const), nth: fc.nat(9), to: fc.nat(2) }) },
);

test("whoever joins, leaves and sends, the relay keeps to the rules", () => {
  fc.assert(
    fc.property(fc.array(anyStep, { maxLength: 40 }), (steps) => {
      const [world, model] = [new RelayWorld(), new Model()];
      const pick = (nth: number): number | undefined =>
        model.connections[nth % Math.max(1, model.connections.length)]?.conn;
      for (const step of steps) {
        const conn = step.do === "join" ? world.join(keyAt(step.key)) : pick(step.nth);
        if (conn === undefined) continue;
        for (const c of model.connections) world.take(c.conn);
        if (step.do === "join") {
          model.join(conn, step.key);
        } else if (step.do === "send") {
          const receiver = model.send(conn, step.to);
          world.send(conn, keyAt(step.to), new TextEncoder().encode("x"));
          const got = model.connections.filter((c) => world.packets(c.conn).length === 1).map((c) => c.conn);
          expect(got).toEqual(receiver === undefined ? [] : [receiver]);
        } else {
          const key = model.connections.find((c) => c.conn === conn)?.key ?? -1;
          const told = model.leave(conn);
          world.leave(conn);
          const got = model.connections.filter((c) =>
            world.take(c.conn).some((e) => e.kind === "peer-gone" && e.peer.text === names[key]),
          );
          expect(got.map((c) => c.conn)).toEqual(told);
        }
      }
    }),
  );
});
