/**
 * An Internet in memory: hosts, NATs, relays and time, and nothing else.
 *
 * No socket, no thread, no real clock: `run` jumps from event to event, so an hour of
 * keep-alives takes a moment and a failure repeats exactly. The machines in it are the
 * product's own: the node engine and the relay.
 */
import { type Ip, IpPort } from "../../agent/src/base/address.ts";
import type { NodePublic } from "../../agent/src/base/keys.ts";
import { type Random, randomFraction } from "../../agent/src/base/random.ts";
import { after, type Instant, instant, type Millis, millis } from "../../agent/src/base/time.ts";
import type { DerpServer } from "../../agent/src/core/derp/server.ts";
import type { RegionId } from "../../agent/src/core/path/path.ts";
import { answerBindingRequest } from "../../agent/src/core/stun/message.ts";
import type { Node, NodeEvent } from "../../agent/src/engine/node.ts";
import type { Nat } from "./nat.ts";
import { Queue } from "./queue.ts";

export interface Host {
  readonly name: string;
  /** Replaced when the host's program restarts. */
  node: Node;
  /** The address on its own interface. Equal to the public one where there is no NAT. */
  readonly inside: IpPort;
  readonly nat: Nat | undefined;
  /** One way, from the host to the middle of the network. */
  readonly latency: Millis;
  /** Longer packets are lost on its link, with IP and UDP around them; a datagram that may be cut passes. @default any length passes */
  mtu?: number | undefined;
  /** Datagrams that are too long and may be cut arrive all the same. @default false */
  readonly fragments?: boolean;
  /** Nothing but the relay's TCP passes. */
  readonly udpBlocked: boolean;
  /** What its own firewall does to datagrams of others: lets none in, or only answers. STUN's always come. @default all come in */
  firewall?: Firewall | undefined;
}

export type Firewall = "closed" | "answers";

export interface Relay {
  readonly region: RegionId;
  readonly server: DerpServer;
  readonly serverKey: NodePublic;
  readonly stun: IpPort;
  readonly latency: Millis;
}

export interface Observer {
  packet(host: Host, packet: Uint8Array, now: Instant): void;
  event(host: Host, event: NodeEvent, now: Instant): void;
}

interface Stream {
  readonly id: number;
  readonly host: Host;
  readonly relay: Relay;
  open: boolean;
}

/** TCP, TLS and the upgrade: round trips before a relay connection carries frames. */
const DIAL_ROUND_TRIPS = 3;

const [V4_HEADERS, V6_HEADERS] = [20 + 8, 40 + 8];

export class Internet {
  readonly hosts: Host[] = [];
  readonly #random: Random;
  readonly #observer: Observer;
  readonly #relays: Relay[] = [];
  readonly #streams: Stream[] = [];
  readonly #inFlight = new Queue<(now: Instant) => void>();
  readonly #cuts = new Set<string>();
  /** Who has ever sent to whom. */
  readonly #asked = new Set<string>();
  #streamIds = 0;
  /** The chance that a datagram is lost. */
  loss = 0;
  /** Datagrams between hosts arrive up to this much later than their latency. */
  jitter: Millis = millis(0);
  now: Instant = instant(0);

  constructor(random: Random, observer: Observer) {
    this.#random = random;
    this.#observer = observer;
  }

  get regions(): readonly RegionId[] {
    return this.#relays.map(({ region }) => region);
  }

  addHost(host: Host): void {
    this.hosts.push(host);
  }

  addRelay(relay: Relay): void {
    this.#relays.push(relay);
  }

  /** Datagrams between the two are lost, both ways, until `mend`. */
  cut(a: Host, b: Host): void {
    this.#cuts.add(pairOf(a, b));
  }

  mend(a: Host, b: Host): void {
    this.#cuts.delete(pairOf(a, b));
  }

  /** The relay's process dies: its connections break. It answers again at once. */
  breakStreams(region: RegionId): void {
    for (const stream of this.#streams.filter(({ relay }) => relay.region === region)) {
      this.#close(stream, "connection reset");
    }
  }

  /** The host's program ends: its connections do as well. */
  endStreams(host: Host): void {
    for (const stream of this.#streams.filter((one) => one.host === host))
      this.#close(stream, "process ended");
  }

  /** Does `action` at `at`, between the other things that happen. */
  schedule(at: Instant, action: (now: Instant) => void): void {
    this.#inFlight.add(at, action);
  }

  /** Runs until `until`, jumping from event to event. */
  run(until: Instant): void {
    for (;;) {
      this.#drain();
      const next = this.#nextAt();
      if (next > until) break;
      this.now = instant(Math.max(this.now, next));
      this.#land();
      this.#wake();
    }
    this.now = until;
  }

  /** The clock jumps without anything having run, as when a laptop was asleep. */
  jump(by: Millis): void {
    this.now = after(this.now, by);
  }

  #nextAt(): Instant {
    let next: number = this.#inFlight.nextAt ?? Infinity;
    for (const { node } of this.hosts) next = Math.min(next, node.pollTimeout() ?? Infinity);
    for (const { server } of this.#relays) next = Math.min(next, server.pollTimeout() ?? Infinity);
    return instant(next);
  }

  #land(): void {
    for (let land = this.#inFlight.take(this.now); land !== undefined; land = this.#inFlight.take(this.now)) {
      land(this.now);
      this.#drain();
    }
  }

  #wake(): void {
    for (const { node } of this.hosts) {
      if ((node.pollTimeout() ?? Infinity) <= this.now) node.handleTimeout(this.now);
    }
    for (const { server } of this.#relays) {
      if ((server.pollTimeout() ?? Infinity) <= this.now) server.handleTimeout(this.now);
    }
  }

  #drain(): void {
    for (const host of this.hosts) {
      const { node } = host;
      for (let out = node.pollDatagram(); out !== undefined; out = node.pollDatagram()) {
        this.#sendDatagram(host, out.to, out.payload, out.whole === true || !host.fragments);
      }
      for (let out = node.pollRelayBytes(); out !== undefined; out = node.pollRelayBytes()) {
        this.#sendToRelay(host, out.region, out.bytes);
      }
      for (let packet = node.pollPacket(); packet !== undefined; packet = node.pollPacket()) {
        this.#observer.packet(host, packet, this.now);
      }
      for (let event = node.pollEvent(); event !== undefined; event = node.pollEvent()) {
        this.#handleEvent(host, event);
      }
    }
    for (const relay of this.#relays) this.#drainRelay(relay);
  }

  #handleEvent(host: Host, event: NodeEvent): void {
    if (event.kind === "dial") this.#dial(host, event.region);
    if (event.kind === "hang-up") {
      const stream = this.#streamOf(host, event.region);
      if (stream !== undefined) this.#close(stream, "hung up");
    }
    if (event.kind === "measure-https") {
      for (const region of event.regions) this.#measure(host, region);
    }
    this.#observer.event(host, event, this.now);
  }

  #measure(host: Host, region: RegionId): void {
    const relay = this.#relays.find((one) => one.region === region);
    if (relay === undefined) return;
    const roundTrip = millis(2 * (host.latency + relay.latency));
    this.schedule(after(this.now, millis(3 * roundTrip)), (now) =>
      host.node.handleHttpsLatency(region, roundTrip, now),
    );
  }

  #sendDatagram(from: Host, to: IpPort, payload: Uint8Array, isWhole: boolean): void {
    const length = payload.length + (to.ip.isV4 ? V4_HEADERS : V6_HEADERS);
    if (isWhole && length > (from.mtu ?? Infinity)) return;
    if (from.udpBlocked || randomFraction(this.#random) < this.loss) {
      return;
    }
    const source = from.nat?.outbound(from.inside, to, this.now) ?? from.inside;
    this.#asked.add(`${from.name} ${to.text}`);
    const relay = this.#relays.find(({ stun }) => stun.text === to.text);
    if (relay !== undefined) {
      this.#answerStun(relay, from, source, payload);
      return;
    }
    const bytes = payload.slice();
    for (const host of this.hosts) {
      if (host === from || this.#cuts.has(pairOf(from, host))) continue;
      const late = randomFraction(this.#random) * this.jitter;
      const at = after(this.now, millis(from.latency + host.latency + late));
      const isFor = (ip: Ip): boolean => ip.text === to.ip.text;
      if (!isFor(host.nat?.outsideIp ?? host.inside.ip)) continue;
      if (isWhole && length > (host.mtu ?? Infinity)) continue;
      this.schedule(at, (now) => this.#arrive(host, source, to, bytes, now));
    }
  }

  #arrive(host: Host, from: IpPort, to: IpPort, payload: Uint8Array, now: Instant): void {
    const inside = host.nat === undefined ? to : host.nat.inbound(from, to, now);
    const isAsked = this.#asked.has(`${host.name} ${from.text}`);
    const isStopped = host.firewall === "closed" || (host.firewall === "answers" && !isAsked);
    if (host.udpBlocked || isStopped || inside?.text !== host.inside.text) {
      return;
    }
    host.node.handleDatagram(from, payload, now);
  }

  #answerStun(relay: Relay, host: Host, source: IpPort, payload: Uint8Array): void {
    const answer = answerBindingRequest(payload, source);
    if (answer === undefined) return;
    const at = after(this.now, millis(2 * (host.latency + relay.latency)));
    this.schedule(at, (now) => {
      const inside = host.nat === undefined ? source : host.nat.inbound(relay.stun, source, now);
      if (inside !== undefined) host.node.handleDatagram(relay.stun, answer, now);
    });
  }

  #streamOf(host: Host, region: RegionId): Stream | undefined {
    return this.#streams.find((stream) => stream.host === host && stream.relay.region === region);
  }

  #dial(host: Host, region: RegionId): void {
    const relay = this.#relays.find((one) => one.region === region);
    if (relay === undefined) return;
    const oneWay = millis(host.latency + relay.latency);
    const stream: Stream = {
      id: this.#streamIds++,
      host,
      relay,
      open: false,
    };
    this.#streams.push(stream);
    this.schedule(after(this.now, millis(2 * DIAL_ROUND_TRIPS * oneWay)), (now) => {
      if (!this.#streams.includes(stream)) return;
      stream.open = true;
      relay.server.handleOpen(
        stream.id,
        host.nat === undefined ? host.inside : new IpPort(host.nat.outsideIp, 1),
        now,
      );
      host.node.handleRelayOpened(region, relay.serverKey, now);
    });
  }

  #sendToRelay(host: Host, region: RegionId, bytes: Uint8Array): void {
    const stream = this.#streamOf(host, region);
    if (stream === undefined) return;
    const at = after(this.now, millis(host.latency + stream.relay.latency));
    const chunk = bytes.slice();
    this.schedule(at, (now) => {
      if (this.#streams.includes(stream)) stream.relay.server.handleBytes(stream.id, chunk, now);
    });
  }

  #drainRelay(relay: Relay): void {
    const { server } = relay;
    for (let out = server.pollTransmit(); out !== undefined; out = server.pollTransmit()) {
      const { conn, bytes } = out;
      const stream = this.#streams.find(({ id }) => id === conn);
      if (stream === undefined) continue;
      const chunk = bytes.slice();
      this.schedule(after(this.now, millis(stream.host.latency + relay.latency)), (now) => {
        if (this.#streams.includes(stream)) stream.host.node.handleRelayBytes(relay.region, chunk, now);
      });
    }
    for (let close = server.pollClose(); close !== undefined; close = server.pollClose()) {
      const { conn, why } = close;
      const stream = this.#streams.find(({ id }) => id === conn);
      if (stream !== undefined) this.#close(stream, why);
    }
  }

  #close(stream: Stream, why: string): void {
    const at = this.#streams.indexOf(stream);
    if (at < 0) return;
    this.#streams.splice(at, 1);
    if (stream.open) stream.relay.server.handleClosed(stream.id, this.now);
    stream.host.node.handleRelayClosed(stream.relay.region, why, this.now);
  }
}

function pairOf(a: Host, b: Host): string {
  return [a.name, b.name].sort().join(" ");
}
