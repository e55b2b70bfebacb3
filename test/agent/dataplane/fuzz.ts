/**
 * Hostile bytes through both directions: from the device with any virtio header, and from a peer that seals whatever it
 * likes, or does not bother to seal. Nothing may be written outside of its area, each datagram is counted as something,
 * and the data plane must go on as before.
 */
import { concat, viewOf } from "../../../agent/src/base/bytes.ts";
import { instant } from "../../../agent/src/base/time.ts";
import { Keypair } from "../../../agent/src/core/wireguard/keypair.ts";
import { Counter, Kind } from "../../../agent/src/dataplane/messages.ts";
import type { PlaneParts } from "../../../agent/src/dataplane/plane.ts";
import { SESSION_SIZE } from "../../../agent/src/dataplane/session-table.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { closePlanes, type Ends, KEYS, MTU, openEnds } from "./planes.ts";
import { type Flow, makePacket, pattern, virtio } from "./support.ts";

/** Between looks at the memory, and words about how far it is. */
const ROUND = 20_000;
const SAY_EVERY_MS = 10_000;
/** Made once: what is hostile about them is new each time. */
const POOL = 2_000;
/** Between areas and slots: what runs over its own comes here first. */
export const GAP = 256;
/** In and out, before the data plane gets its turn. */
const BATCH = 32;

let state = 0;

/** Mulberry32: a good look matters less than speed. */
function draw(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
}

function pick<T>(...choices: readonly [T, ...T[]]): T {
  return choices[draw(choices.length)] ?? choices[0];
}

interface Made {
  readonly flow: Flow;
  readonly bytes: Uint8Array;
}

function anyFlow(): Flow {
  return {
    version: pick(4, 6),
    isTcp: draw(2) === 0,
    port: draw(5),
    sequence: draw(2 ** 32),
    flags: pick(0x10, 0x18, 0x02, 0x12, 0x11, 0xff, 0),
    options: pick(0, 4, 12, 40),
    id: draw(65_536),
    dontFragment: draw(2) === 0,
    trafficClass: draw(256),
  };
}

function makePool(longest: readonly [number, ...number[]]): readonly Made[] {
  return Array.from({ length: POOL }, () => {
    const flow = anyFlow();
    return { flow, bytes: makePacket(flow, pattern(draw(pick(...longest)), draw(256))) };
  });
}

/** A packet that is right, or nearly so. */
function anyOf(pool: readonly Made[]): Made {
  const made = pool[draw(pool.length)];
  if (made === undefined) throw new Error("an empty pool");
  const bytes = made.bytes.slice();
  for (let i = draw(4); i > 0; i--) bytes[draw(Math.min(bytes.length, 80))] = pick(0, 0xff, 0x7f, draw(256));
  return { flow: made.flow, bytes: draw(8) === 0 ? bytes.subarray(0, draw(bytes.length + 1)) : bytes };
}

function anyRead(pool: readonly Made[]): Uint8Array {
  const { flow, bytes } = anyOf(pool);
  const header = virtio(draw(3) === 0 ? undefined : flow, pick(0, 500, 1200, 1201, 65_535));
  // Few bytes each: only of short packets, or this alone would take all the time.
  if (bytes.length < 200 && draw(8) === 0) viewOf(header).setUint16(4, pick(1, 8), true);
  if (draw(3) === 0) header[pick(0, 1, 2, 3, 6, 7, 8, 9)] = draw(256);
  return draw(500) === 0 ? header.subarray(0, draw(10)) : concat(header, bytes);
}

function anyMessage(pool: readonly Made[], peer: Keypair): Uint8Array {
  const kind = draw(20);
  if (kind === 0) return pattern(draw(200), draw(256));
  const message = peer.seal(draw(50) === 0 ? new Uint8Array(0) : anyOf(pool).bytes, MTU);
  if (kind <= 3) message[draw(message.length)] = draw(256);
  if (kind === 4) message.set([pick(1, 2, 3, 4, 5)], 0);
  return kind <= 6 ? message.subarray(0, draw(message.length + 1)) : message;
}

const REASONS = [
  "malformed",
  "noPeer",
  "notIp",
  "wrongSource",
  "unauthenticated",
  "replay",
  "filtered",
] as const;

export interface FuzzOptions {
  readonly packets: number;
  readonly seed: number;
  /** Hears every ten seconds how far it is, and what came of it in the end. */
  readonly say: (text: string) => void;
  /** What a test makes wrong on purpose. */
  readonly mutate?: (parts: { -readonly [K in keyof PlaneParts]: PlaneParts[K] }) => void;
}

/** @throws Error as soon as something is not as it must be */
export function fuzz({ packets, seed, say, mutate }: FuzzOptions): void {
  state = seed;
  const ends = openEnds({ gap: GAP });
  try {
    mutate?.(ends.plane.parts);
    new Fuzz(ends, say).run(packets);
  } finally {
    ends.close();
    closePlanes();
  }
}

class Fuzz {
  readonly #ends: Ends;
  readonly #say: FuzzOptions["say"];
  readonly #began = performance.now();
  #saidAt = this.#began;
  #delivered = 0;
  #sent = 0;
  /** Datagrams that the peer has sent, and those of them that were the engine's. */
  #offered = 0;
  #handed = 0;

  constructor(ends: Ends, say: FuzzOptions["say"]) {
    this.#ends = ends;
    this.#say = say;
  }

  run(packets: number): void {
    const look = guard(this.#ends);
    const peer = new Keypair({
      suite: nodeSuite,
      keys: { send: KEYS.b, receive: KEYS.a },
      isInitiator: false,
      ...{ localIndex: 20, remoteIndex: 10, createdAt: instant(0), replayWindow: 64 },
    });
    const [reads, messages] = [makePool([100, 1_200, 1_200, 20_000]), makePool([50, 200, 1_200])];
    const before = look();
    for (let count = 0; count < packets;) {
      for (const end = Math.min(count + ROUND, packets); count < end;) {
        for (let i = 0; i < BATCH; i += 2, count += 2) {
          this.#ends.toDevice(anyRead(reads));
          this.#offer(anyMessage(messages, peer));
        }
        this.#turn();
      }
      demand(look() === before, "the memory outside of its areas is as before");
      this.#demandLife();
      this.#demandCount();
      this.#tell(count);
    }
    demand(Math.min(this.#delivered, this.#sent) > packets / 100, "a part of them gets through");
    for (const name of REASONS) demand(this.#counter(name) > 0, `some are refused as ${name}`);
    const refused = REASONS.map((name) => `${name} ${this.#counter(name)}`).join(", ");
    this.#say(`${packets} packets: ${this.#delivered} delivered, ${this.#sent} sent, ${refused}`);
  }

  #turn(): void {
    const ends = this.#ends;
    ends.turn();
    this.#sent += ends.countDatagrams();
    this.#delivered += ends.fromDevice().length;
    for (const { kind } of ends.handedOver()) if (kind === Kind.datagram) this.#handed++;
  }

  #offer(message: Uint8Array): void {
    this.#ends.toPlane(message);
    if (message.length > 0) this.#offered++;
  }

  /** A packet that is right still passes. */
  #demandLife(): void {
    const flow: Flow = { ...anyFlow(), version: 4, flags: 16 };
    this.#ends.toDevice(concat(virtio(undefined, 0), makePacket(flow, pattern(100))));
    this.#ends.turn();
    demand(this.#ends.countDatagrams() === 1, "a packet that is right still passes");
  }

  /** None of the datagrams has vanished. */
  #demandCount(): void {
    const counted = (["receivedPackets", "replay", "unauthenticated", "truncated"] as const)
      .map((name) => this.#counter(name))
      .reduce((total, one) => total + one, this.#handed);
    demand(this.#counter("ringDropped") === 0, "there is room for what is handed over");
    demand(counted === this.#offered, `${this.#offered} datagrams are counted, not ${counted}`);
  }

  #counter(name: keyof typeof Counter): number {
    return this.#ends.counter(Counter[name]);
  }

  #tell(count: number): void {
    const now = performance.now();
    if (now - this.#saidAt < SAY_EVERY_MS) return;
    this.#saidAt = now;
    const rate = Math.round((count / (now - this.#began)) * 1000);
    this.#say(`${count} packets, ${rate} a second; ${this.#delivered} delivered, ${this.#sent} sent`);
  }
}

/** Returns what shows the bytes that no packet may change: the keys, the addresses, what nobody uses, and all between the areas. */
function guard({ plane }: Ends): () => string {
  const { layout, memory } = plane.parts;
  const bytes = new Uint8Array(memory);
  const unused = [layout.sessions + SESSION_SIZE, layout.sessions + 4 * SESSION_SIZE] as const;
  const gaps = layout.gaps.map((at) => [at, at + GAP] as const);
  const areas = [
    [layout.sessions + 64, layout.sessions + 128],
    [layout.peers, layout.peers + 256],
    unused,
    ...gaps,
  ] as const;
  for (const [from, to] of [unused, ...gaps]) bytes.fill(0xa5, from, to);
  return () => areas.map(([from, to]) => Buffer.from(bytes.slice(from, to)).toString("base64")).join();
}

function demand(isSo: boolean, what: string): void {
  if (!isSo) throw new Error(`hostile packets: it does not hold that ${what}`);
}
