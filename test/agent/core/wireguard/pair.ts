/** Two peers and the wires between them, with a clock that jumps from one deadline to the next. */
import { Ip, IpPort, Prefix } from "../../../../agent/src/base/address.ts";
import { viewOf } from "../../../../agent/src/base/bytes.ts";
import { NodePrivate, type NodePublic } from "../../../../agent/src/base/keys.ts";
import type { Random } from "../../../../agent/src/base/random.ts";
import {
  after,
  earliest,
  type Instant,
  instant,
  type Millis,
  millis,
  wallTime,
} from "../../../../agent/src/base/time.ts";
import { direct, type Path } from "../../../../agent/src/core/path/path.ts";
import { decodeMessage } from "../../../../agent/src/core/wireguard/messages.ts";
import type { WireGuardEvent, WireGuardTransmit } from "../../../../agent/src/core/wireguard/output.ts";
import { WireGuard, type WireGuardOptions } from "../../../../agent/src/core/wireguard/wireguard.ts";
import { portableSuite } from "../../../../agent/src/crypto/portable.ts";
import { seededRandom } from "../../../sim/random.ts";

/** 2026-11-22T00:00:00Z, in ms: any date will do. */
const CALENDAR_START = 1_795_305_600_000;

export interface Sent extends WireGuardTransmit {
  readonly at: Instant;
}
export type Happened = WireGuardEvent & { readonly at: Instant };

/** How long each copy of a message takes; none for a message that is lost. */
export type Wire = (sent: Sent, by: Side) => readonly Millis[];

export class Side {
  readonly wg: WireGuard;
  readonly path: Path;
  readonly address: string;
  readonly sent: Sent[] = [];
  readonly happened: Happened[] = [];
  /** What the calendar is ahead of the clock by. */
  calendarOffset = CALENDAR_START;
  draws = 0;

  constructor(name: number, clock: () => Instant, options: Partial<WireGuardOptions> = {}) {
    const seeded = seededRandom(name);
    const random: Random = { fill: (out) => ((this.draws += 1), seeded.fill(out)) };
    const privateKey = new NodePrivate(new Uint8Array(32).fill(name + 1));
    const calendar = { now: () => wallTime(clock() + this.calendarOffset) };
    this.wg = new WireGuard({ suite: portableSuite, random, calendar, privateKey, ...options });
    this.address = `100.64.0.${name}`;
    this.path = udp(`203.0.113.${name}:41641`);
  }

  get key(): NodePublic {
    return this.wg.publicKey;
  }

  get packets(): readonly Uint8Array[] {
    return this.happened.flatMap((event) => (event.kind === "packet" ? [event.packet] : []));
  }

  sentKinds(): readonly string[] {
    return this.sent.map(({ kind }) => kind);
  }

  /** When messages of `kind` were sent, in seconds. */
  sentAt(kind: WireGuardTransmit["kind"]): readonly number[] {
    return this.sent.filter((sent) => sent.kind === kind).map(({ at }) => at / 1000);
  }

  count(kind: WireGuardEvent["kind"]): number {
    return this.happened.filter((event) => event.kind === kind).length;
  }

  /** All that can be seen from outside without touching it. */
  digest(...peers: readonly NodePublic[]): unknown {
    return {
      timeout: this.wg.pollTimeout(),
      stats: peers.map((key) => this.wg.peerStats(key)),
      draws: this.draws,
      output: [this.wg.pollTransmit(), this.wg.pollEvent()],
    };
  }
}

export class Pair {
  readonly a: Side;
  readonly b: Side;
  wire: Wire = () => [millis(10)];
  #now: Instant = instant(0);
  #inFlight: {
    readonly at: Instant;
    readonly to: Side;
    readonly payload: Uint8Array;
    readonly from: Path;
  }[] = [];

  constructor(options: Partial<WireGuardOptions> = {}) {
    this.a = new Side(1, () => this.#now, options);
    this.b = new Side(2, () => this.#now, options);
    this.introduce();
  }

  get now(): Instant {
    return this.#now;
  }

  introduce(extra: { readonly presharedKey?: Uint8Array; readonly persistentKeepalive?: Millis } = {}): void {
    for (const [side, peer] of this.#both()) {
      side.wg.configurePeer({ key: peer.key, allowedIps: [Prefix.parse(peer.address)], ...extra }, this.#now);
    }
  }

  /** Sends a packet of `size` bytes that is told from others by `id`. */
  send(by: Side, id: number, size = 64): Uint8Array {
    const to = this.#other(by);
    const packet = ipv4Packet(by.address, to.address, size, id);
    by.wg.sendPacket(to.key, packet, this.#now);
    return packet;
  }

  /** Brings a session up, a being its initiator, and forgets how. */
  connect(): this {
    this.a.wg.startHandshake(this.b.key, this.#now);
    this.run(millis(100));
    expect([this.a, this.b].map((side) => side.wg.peerStats(this.#other(side).key)?.ready)).toEqual([
      true,
      true,
    ]);
    return this.forget();
  }

  forget(): this {
    for (const [side] of this.#both()) {
      side.sent.length = 0;
      side.happened.length = 0;
    }
    return this;
  }

  /** Lets `wait` pass, in jumps from deadline to deadline. */
  run(wait: Millis): this {
    const end = after(this.#now, wait);
    for (let rounds = 0; ; rounds++) {
      if (rounds > 100_000) throw new Error("the clock does not move on");
      this.#drain();
      const next = this.#nextDeadline();
      if (next === undefined || next > end) break;
      this.#now = instant(Math.max(this.#now, next));
      this.#deliver();
      for (const [side] of this.#both()) side.wg.handleTimeout(this.#now);
    }
    this.#now = end;
    return this;
  }

  /** The machines sleep for `wait`: nobody wakes them, and what is under way is lost. */
  suspend(wait: Millis): this {
    this.#drain();
    this.#inFlight = [];
    this.#now = after(this.#now, wait);
    return this;
  }

  #nextDeadline(): Instant | undefined {
    let next = earliest(this.a.wg.pollTimeout(), this.b.wg.pollTimeout());
    for (const { at } of this.#inFlight) next = earliest(next, at);
    return next;
  }

  #drain(): void {
    for (const [side, peer] of this.#both()) {
      for (let out = side.wg.pollTransmit(); out !== undefined; out = side.wg.pollTransmit()) {
        const sent = { ...out, at: this.#now };
        side.sent.push(sent);
        for (const delay of this.wire(sent, side)) {
          this.#inFlight.push({
            at: after(this.#now, delay),
            to: peer,
            payload: out.payload,
            from: side.path,
          });
        }
      }
      for (let event = side.wg.pollEvent(); event !== undefined; event = side.wg.pollEvent()) {
        side.happened.push({ ...event, at: this.#now });
      }
    }
  }

  #deliver(): void {
    const due = this.#inFlight.filter(({ at }) => at <= this.#now).sort((x, y) => x.at - y.at);
    this.#inFlight = this.#inFlight.filter(({ at }) => at > this.#now);
    for (const { to, payload, from } of due) to.wg.handleMessage(payload, from, this.#now);
  }

  #both(): readonly (readonly [Side, Side])[] {
    return [
      [this.a, this.b],
      [this.b, this.a],
    ];
  }

  #other(side: Side): Side {
    return side === this.a ? this.b : this.a;
  }
}

export function udp(text: string): Path {
  return direct(IpPort.parse(text));
}

export function ipv4Packet(source: string, destination: string, size: number, id = 0): Uint8Array {
  const packet = new Uint8Array(size);
  const view = viewOf(packet);
  packet[0] = 0x45;
  view.setUint16(2, size);
  packet.set(Ip.parse(source).bytes, 12);
  packet.set(Ip.parse(destination).bytes, 16);
  if (size >= 24) view.setUint32(20, id);
  return packet;
}

/** The number that `ipv4Packet` was given. */
export function idOf(packet: Uint8Array): number {
  return viewOf(packet).getUint32(20);
}

/** The next message that `side` wants to send. */
export function nextMessage(side: Side): Uint8Array {
  const sent = side.wg.pollTransmit();
  if (sent === undefined) throw new Error("nothing to send");
  return sent.payload;
}

/** The type of a message, or why it is none. */
export function kindOf(payload: Uint8Array): string {
  const message = decodeMessage(payload);
  return typeof message === "string" ? message : message.kind;
}
