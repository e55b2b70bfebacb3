import { IpPort } from "../../../../agent/src/base/address.ts";
import { NodePrivate } from "../../../../agent/src/base/keys.ts";
import { type Instant, instant } from "../../../../agent/src/base/time.ts";
import { nodeSuite } from "../../../../agent/src/io/node-suite.ts";
import { DerpClient, type DerpClientEvent } from "../../../../agent/src/core/derp/client.ts";
import { decodeFrame, type Frame } from "../../../../agent/src/core/derp/frame.ts";
import { FrameReader } from "../../../../agent/src/core/derp/frame-reader.ts";
import { publicOf } from "../../../../agent/src/core/derp/login.ts";
import { DerpServer, type DerpServerOptions } from "../../../../agent/src/core/derp/server.ts";
import type { Random } from "../../../../agent/src/base/random.ts";
import { seededRandom } from "../../../sim/random.ts";
import { hex, vectors } from "../../../vectors/load.ts";

export interface TranscriptLine {
  readonly dir: "client->server" | "server->client";
  readonly bytes: string;
}

export interface DerpVectors {
  readonly keys: Readonly<
    Record<"client_a" | "client_b" | "server", { readonly private: string; readonly public: string }>
  > & { readonly mesh: string };
  readonly frames: readonly {
    readonly name: string;
    readonly type: number;
    readonly frame: string;
    readonly fields: Readonly<Record<string, unknown>> | null;
  }[];
  readonly decoded_by_client: readonly {
    readonly name: string;
    readonly go_type: string;
    readonly decoded: unknown;
  }[];
  readonly meta_cert: { readonly common_name: string; readonly der: string; readonly serial: number };
  readonly transcript: {
    readonly client_a: readonly TranscriptLine[];
    readonly client_b: readonly TranscriptLine[];
  };
}

export const derpVectors = vectors<DerpVectors>("derp.json");

export const keyOf = (name: "client_a" | "client_b" | "server"): NodePrivate =>
  new NodePrivate(hex(derpVectors.keys[name].private));
export const suite = nodeSuite;
export const start = instant(0);
export const remote = IpPort.parse("203.0.113.8:54321");
export const at = (ms: number): Instant => instant(ms);

/** Gives out the same bytes again and again: the nonce of a published frame. */
export function fixedRandom(bytes: Uint8Array): Random {
  return { fill: (out) => out.set(bytes.subarray(0, out.length)) };
}

export function framesOf(bytes: Uint8Array): readonly (Frame | string)[] {
  const reader = new FrameReader(1 << 20);
  const frames: (Frame | string)[] = [];
  reader.feed(bytes);
  for (let raw = reader.next(); raw !== undefined; raw = reader.next()) {
    if (raw === "too-large") return [...frames, raw];
    frames.push(decodeFrame(raw.type, raw.body));
  }
  return frames;
}

/** A relay and its clients in memory, with the bytes between them carried at once. */
export class RelayWorld {
  readonly server: DerpServer;
  readonly clients = new Map<number, DerpClient>();
  readonly events = new Map<number, DerpClientEvent[]>();
  readonly closed = new Map<number, string>();
  now: Instant = start;
  #next = 1;

  constructor(options: Partial<DerpServerOptions> = {}) {
    this.server = new DerpServer({ suite, random: seededRandom(7), serverKey: keyOf("server"), ...options });
  }

  join(nodeKey: NodePrivate, fastStart = false): number {
    const conn = this.#next++;
    const serverKey = fastStart ? publicOf(suite, keyOf("server")) : undefined;
    const client = new DerpClient(
      { suite, random: seededRandom(100 + conn), nodeKey, serverKey, preferred: true },
      this.now,
    );
    this.clients.set(conn, client);
    this.events.set(conn, []);
    this.server.handleOpen(conn, remote, this.now);
    this.run();
    return conn;
  }

  client(conn: number): DerpClient {
    const client = this.clients.get(conn);
    if (client === undefined) throw new Error(`no client ${conn}`);
    return client;
  }

  send(conn: number, to: NodePrivate, packet: Uint8Array): void {
    this.client(conn).send(publicOf(suite, to), packet, this.now);
    this.run();
  }

  leave(conn: number): void {
    this.clients.delete(conn);
    this.server.handleClosed(conn, this.now);
    this.run();
  }

  /** Passes time to the next deadlines until `until`. */
  wait(until: Instant): void {
    for (;;) {
      const wake = [this.server, ...this.clients.values()].map((m) => m.pollTimeout() ?? Infinity);
      const next = Math.min(...wake);
      if (next > until) break;
      this.now = at(Math.max(next, this.now));
      this.server.handleTimeout(this.now);
      for (const client of this.clients.values()) client.handleTimeout(this.now);
      this.run();
    }
    this.now = until;
  }

  take(conn: number): readonly DerpClientEvent[] {
    return this.events.get(conn)?.splice(0) ?? [];
  }

  packets(conn: number): readonly string[] {
    return this.take(conn).flatMap((event) =>
      event.kind === "packet" ? [Buffer.from(event.packet).toString("utf8")] : [],
    );
  }

  run(): void {
    for (let moved = true; moved;) {
      moved = false;
      for (let out = this.server.pollTransmit(); out !== undefined; out = this.server.pollTransmit()) {
        this.clients.get(out.conn)?.handleBytes(out.bytes.slice(), this.now);
        moved = true;
      }
      for (let close = this.server.pollClose(); close !== undefined; close = this.server.pollClose()) {
        this.closed.set(close.conn, close.why);
        this.clients.delete(close.conn);
      }
      for (const [conn, client] of this.clients) {
        for (let out = client.pollTransmit(); out !== undefined; out = client.pollTransmit()) {
          this.server.handleBytes(conn, out.slice(), this.now);
          moved = true;
        }
        for (let event = client.pollEvent(); event !== undefined; event = client.pollEvent()) {
          this.events.get(conn)?.push(event);
        }
      }
    }
  }
}

/** Gives out these bytes, one after the other; a test that takes more has a mistake. */
export function scriptedRandom(...script: Uint8Array[]): Random {
  return {
    fill(out) {
      const next = script.shift();
      if (next?.length !== out.length) throw new Error(`the script has no ${out.length} bytes here`);
      out.set(next);
    },
  };
}
