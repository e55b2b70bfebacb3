/**
 * The engine and the fast path with the same sessions, given the same reads of the device and the same datagrams, and
 * compared after each. What either of them does differently is an error here.
 *
 * The engine is the whole node with one plain WireGuard peer; the fast path is a whole data plane on real sockets.
 */
import { IpPort, Prefix } from "../../../agent/src/base/address.ts";
import { concat } from "../../../agent/src/base/bytes.ts";
import { clampPrivateKey, DiscoPrivate, NodePrivate, type NodePublic } from "../../../agent/src/base/keys.ts";
import { randomBytes } from "../../../agent/src/base/random.ts";
import { type Instant, instant, wallTime } from "../../../agent/src/base/time.ts";
import type { MapNode, NetMap } from "../../../agent/src/core/control/net-map.ts";
import type { FilterRuleJson } from "../../../agent/src/core/filter/filter.ts";
import type { FlowStore } from "../../../agent/src/core/filter/flow-table.ts";
import { buildUdp } from "../../../agent/src/core/ip/build.ts";
import { cutPacket, decodeVirtioHeader } from "../../../agent/src/core/ip/offload.ts";
import { emptyDerpMap } from "../../../agent/src/core/path/derp-map.ts";
import { direct } from "../../../agent/src/core/path/path.ts";
import {
  LocalCounters,
  type OpenedSession,
  type SessionCounters,
  type SessionStore,
} from "../../../agent/src/core/wireguard/counters.ts";
import { decodeMessage } from "../../../agent/src/core/wireguard/messages.ts";
import { WireGuard } from "../../../agent/src/core/wireguard/wireguard.ts";
import type { Suite } from "../../../agent/src/crypto/suite.ts";
import { Counter, Kind } from "../../../agent/src/dataplane/messages.ts";
import { type PlaneParts } from "../../../agent/src/dataplane/plane.ts";
import { Node } from "../../../agent/src/engine/node.ts";
import { SessionTable } from "../../../agent/src/dataplane/session-table.ts";
import { encodeSockaddr } from "../../../agent/src/io/ffi/libc.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { seededRandom } from "../../sim/random.ts";
import { type Ends, MTU, openEnds, type PeerSocket } from "./planes.ts";

/** What a test makes wrong on purpose, on one side. */
export interface Mutation {
  readonly suite?: Suite;
  readonly mtu?: number;
  readonly allowedIps?: readonly string[];
  readonly counters?: () => SessionCounters;
  readonly cut?: typeof cutPacket;
  /** Where the engine remembers flows, and what it lets in instead of what the map says. */
  readonly flows?: FlowStore;
  readonly rules?: readonly FilterRuleJson[];
  readonly fast?: (parts: { -readonly [K in keyof PlaneParts]: PlaneParts[K] }) => void;
}

export type Fate = "pass" | "lost" | "twice" | "damaged" | "misnumbered" | "late" | "again" | "stranger";

export type Step =
  | { readonly kind: "out"; readonly header: Uint8Array; readonly bytes: Uint8Array }
  | { readonly kind: "in"; readonly packet: Uint8Array; readonly fate: Fate; readonly at: number }
  | { readonly kind: "rekey"; readonly byPeer: boolean }
  /** The peer is at its other address from now on. */
  | { readonly kind: "roam" }
  /** The map has other rules, one of `RULES`. */
  | { readonly kind: "filter"; readonly rules: number };

const ALLOWED = ["100.0.0.0/8", "fd00::/8"];
const US = IpPort.parse("192.0.2.1:1");
const PEER = IpPort.parse("192.0.2.2:2");
const PEER_ELSEWHERE = IpPort.parse("192.0.2.3:3");
/** Messages that may be sent a second time. */
const REMEMBERED = 40;
const SLOTS = 16;
const INITIATION = 1;
/** Until an unanswered packet makes the engine begin a handshake: 15 s and up to 333 ms. */
const PATIENCE = 16_000;
const QUESTION = {
  header: new Uint8Array(10),
  bytes: buildUdp(IpPort.parse("100.64.0.1:1"), IpPort.parse("100.64.0.2:2"), new Uint8Array(8)),
};

export class Twins {
  readonly #ends: Ends;
  readonly #node: Node;
  readonly #peer: WireGuard;
  readonly #store: Store;
  readonly #random = seededRandom(7);
  readonly #cut: typeof cutPacket;
  readonly #former: Uint8Array[] = [];
  /** The peer's other socket; whether it is there, and whether the engine and the fast path think so. */
  readonly #elsewhere: PeerSocket;
  #isElsewhere = false;
  #isSentElsewhere = false;
  #late: Uint8Array[] = [];
  /** Begun by either side. */
  handshakes = 0;
  #now: Instant = instant(1_000);
  #netMap: NetMap;
  readonly #rules: readonly FilterRuleJson[] | undefined;

  constructor(mutation: Mutation = {}) {
    const { suite = nodeSuite, mtu = MTU, allowedIps = ALLOWED, fast, counters, flows } = mutation;
    this.#rules = mutation.rules;
    this.#cut = mutation.cut ?? cutPacket;
    this.#ends = openEnds({ maxSessions: SLOTS });
    this.#elsewhere = this.#ends.openSocket();
    fast?.(this.#ends.plane.parts);
    this.#store = new Store(this.#ends, counters ?? ((): SessionCounters => new LocalCounters(65_536)));
    const calendar = { now: () => wallTime(1_790_000_000_000 + this.#now) };
    const key = (): Uint8Array => clampPrivateKey(randomBytes(this.#random, 32));
    this.#node = new Node({
      ...{ suite, random: this.#random, calendar, mtu, flows, sessions: this.#store },
      nodeKey: new NodePrivate(key()),
      discoKey: new DiscoPrivate(key()),
      ...{ localPort: 1, portIsFixed: true, explicit: [] },
    });
    this.#peer = new WireGuard({
      ...{ suite: nodeSuite, random: this.#random, calendar, mtu: MTU },
      privateKey: new NodePrivate(key()),
    });
    this.#peer.configurePeer({ key: this.#node.publicKey, allowedIps: [] }, this.#now);
    this.#netMap = mapOf(this.#node.publicKey, this.#peer.publicKey, allowedIps);
    this.#node.handleNetMap(this.#netMap, this.#now);
    this.#peer.startHandshake(this.#node.publicKey, this.#now);
    this.#shakeHands();
  }

  close(): void {
    this.#ends.close();
  }

  do(step: Step): void {
    switch (step.kind) {
      case "out":
        this.#send(step.header, step.bytes);
        break;
      case "in":
        for (const message of this.#messages(step)) this.#receive(message);
        break;
      case "rekey":
        this.#rekey(step.byPeer);
        break;
      case "roam":
        this.#isElsewhere = !this.#isElsewhere;
        break;
      case "filter":
        this.#setRules(RULES[step.rules] ?? []);
        break;
    }
  }

  #rekey(byPeer: boolean): void {
    if (byPeer) {
      this.#now = instant(this.#now + 1_000);
      this.#peer.renewSession(this.#node.publicKey, this.#now);
    } else {
      // Nothing came back for a while: then the engine begins.
      const { header, bytes } = QUESTION;
      this.#send(header, bytes);
      this.#now = instant(this.#now + PATIENCE);
      this.#node.handleTimeout(this.#now);
    }
    this.#shakeHands();
  }

  /** Handshakes are the engine's; the data plane hears of the session. */
  #shakeHands(): void {
    for (;;) {
      let isQuiet = true;
      for (let out = this.#peer.pollTransmit(); out !== undefined; out = this.#peer.pollTransmit()) {
        isQuiet = false;
        if (out.kind === "initiation") this.handshakes++;
        this.#store.note(out.payload);
        this.#node.handleDatagram(this.#from, out.payload, this.#now);
      }
      for (let out = this.#node.pollDatagram(); out !== undefined; out = this.#node.pollDatagram()) {
        isQuiet = false;
        if (out.payload[0] === INITIATION) this.handshakes++;
        this.#peer.handleMessage(out.payload, direct(US), this.#now);
      }
      if (isQuiet) break;
    }
    while (this.#peer.pollEvent() !== undefined) continue;
    this.#drainNode();
    this.#tellAddress();
  }

  #setRules(rules: readonly FilterRuleJson[]): void {
    this.#netMap = { ...this.#netMap, packetFilter: this.#rules ?? rules };
    this.#node.handleNetMap(this.#netMap, this.#now);
    this.#drainNode();
    this.#ends.plane.apply({ kind: "filter", rules, localAddresses: EVERYWHERE, excluded: [] });
  }

  get #from(): IpPort {
    return this.#isElsewhere ? PEER_ELSEWHERE : PEER;
  }

  /** Tells the fast path what the engine decides: in which session to send, and where to. */
  #tellAddress(): void {
    this.#isSentElsewhere = this.#node.status(this.#now)[0]?.directAddress?.text === PEER_ELSEWHERE.text;
    this.#store.synchronize(this.#isSentElsewhere ? this.#elsewhere.address : this.#ends.peerAddress);
  }

  #compareAddresses(): void {
    const engine = this.#node.status(this.#now)[0]?.directAddress?.text === PEER_ELSEWHERE.text;
    const heard = this.#ends.roamed().at(-1);
    const fast = heard === undefined ? this.#isSentElsewhere : heard.text === this.#elsewhere.address.text;
    if (engine !== fast) throw new Error(`elsewhere: the engine says ${engine}, the fast path ${fast}`);
    if (engine !== this.#isSentElsewhere) this.#tellAddress();
  }

  #send(header: Uint8Array, bytes: Uint8Array): void {
    const before = this.#counts();
    const packets = this.#cut(bytes, decodeVirtioHeader(header), this.#ends.plane.parts.layout.largest);
    let uncut = 0;
    if (typeof packets === "string") uncut = 1;
    else for (const packet of packets) this.#node.handlePacket(packet.slice(), this.#now);
    const expected: Uint8Array[] = [];
    for (let out = this.#node.pollDatagram(); out !== undefined; out = this.#node.pollDatagram())
      expected.push(out.payload);
    this.#drainNode();
    this.#ends.toDevice(concat(header, bytes));
    this.#ends.turn();
    const left = this.#ends
      .handedOver()
      .filter(({ kind }) => kind === Kind.packet)
      .map(({ bytes }) => bytes);
    const isTooBig = typeof packets !== "string" && packets.some(({ length }) => length > MTU);
    // A read with a packet that the path does not carry is the engine's as a whole.
    same("packets left to the engine", left, isTooBig ? packets : []);
    const [at, notAt] = this.#isSentElsewhere ? [this.#elsewhere, this.#ends] : [this.#ends, this.#elsewhere];
    same("messages", at.datagrams(), isTooBig ? [] : expected);
    same("messages to where the peer is not", notAt.datagrams(), []);
    for (const message of expected) this.#peer.handleMessage(message, direct(US), this.#now);
    while (this.#peer.pollEvent() !== undefined) continue;
    // Both share one memory of flows where they work together.
    if (isTooBig) for (const packet of left) this.#ends.plane.parts.table.filter?.noteOutbound(packet);
    if (isTooBig) this.#tellAddress();
    else this.#compareCounts(before, { malformed: uncut, sentPackets: expected.length });
  }

  #messages({ packet, fate, at }: Extract<Step, { kind: "in" }>): readonly Uint8Array[] {
    this.#peer.sendPacket(this.#node.publicKey, packet, this.#now);
    const sealed: Uint8Array[] = [];
    for (let out = this.#peer.pollTransmit(); out !== undefined; out = this.#peer.pollTransmit())
      if (out.kind === "data" || out.kind === "keepalive") sealed.push(out.payload.slice());
    const late = this.#late;
    this.#late = [];
    const [first] = sealed;
    if (first === undefined) return late;
    this.#former.push(first);
    if (this.#former.length > REMEMBERED) this.#former.shift();
    switch (fate) {
      case "pass":
        return [...sealed, ...late];
      case "lost":
        return late;
      case "late":
        this.#late = sealed;
        return late;
      case "twice":
        return [first, first, ...late];
      case "again":
        return [this.#former[at % this.#former.length] ?? first, first, ...late];
      case "damaged":
        return [flipped(first, 16 + (at % (first.length - 16))), first, ...late];
      case "misnumbered":
        return [flipped(first, 8), first, ...late];
      case "stranger":
        return [flipped(first, 4 + (at % 4)), first, ...late];
    }
  }

  #receive(message: Uint8Array): void {
    const before = this.#counts();
    this.#node.handleDatagram(this.#from, message.slice(), this.#now);
    const { packets: expected } = this.#drainNode();
    (this.#isElsewhere ? this.#elsewhere : this.#ends).toPlane(message);
    this.#ends.turn();
    const handed = this.#ends.handedOver();
    const unknown = handed.filter(({ kind }) => kind === Kind.datagram).length;
    const delivered = [...this.#ends.fromDevice(), ...judged(handed)];
    same("packets", delivered, expected);
    this.#compareCounts(before, { unknown });
    this.#compareAddresses();
  }

  /** What the node wants otherwise is nothing to compare: timers, events. */
  #drainNode(): { readonly packets: readonly Uint8Array[] } {
    const packets: Uint8Array[] = [];
    for (let packet = this.#node.pollPacket(); packet !== undefined; packet = this.#node.pollPacket())
      packets.push(packet);
    while (this.#node.pollEvent() !== undefined || this.#node.pollDecision() !== undefined) continue;
    return { packets };
  }

  #counts(): Counts {
    const { drops, messageDrops } = this.#node;
    const status = this.#node.status(this.#now)[0];
    const count = (index: number): number => this.#ends.counter(index);
    return {
      engine: {
        malformed: drops.malformed,
        noPeer: drops.noPeer,
        filtered: drops.filtered,
        notIp: messageDrops["not-ip"],
        wrongSource: messageDrops["wrong-source"],
        replay: messageDrops.replay,
        unauthenticated: messageDrops.unauthenticated,
        unknown: messageDrops["unknown-index"],
        sentPackets: 0,
        sentBytes: status?.txBytes ?? 0,
        receivedBytes: status?.rxBytes ?? 0,
      },
      fast: {
        malformed: count(Counter.malformed),
        noPeer: count(Counter.noPeer),
        filtered: count(Counter.filtered),
        notIp: count(Counter.notIp),
        wrongSource: count(Counter.wrongSource),
        replay: count(Counter.replay),
        unauthenticated: count(Counter.unauthenticated),
        unknown: 0,
        sentPackets: count(Counter.sentPackets),
        sentBytes: count(Counter.sentBytes),
        receivedBytes: count(Counter.receivedBytes),
      },
    };
  }

  /** `extra`: what one side does not count by itself. */
  #compareCounts(before: Counts, extra: Partial<Record<keyof Tally, number>>): void {
    const after = this.#counts();
    for (const name of Object.keys(after.engine) as (keyof Tally)[]) {
      const added = extra[name] ?? 0;
      const engine = after.engine[name] - before.engine[name] + (name === "unknown" ? 0 : added);
      const fast = after.fast[name] - before.fast[name] + (name === "unknown" ? added : 0);
      if (engine !== fast) throw new Error(`${name}: the engine counts ${engine}, the fast path ${fast}`);
    }
  }
}

interface Tally {
  readonly malformed: number;
  readonly noPeer: number;
  readonly filtered: number;
  readonly notIp: number;
  readonly wrongSource: number;
  readonly replay: number;
  readonly unauthenticated: number;
  readonly unknown: number;
  readonly sentPackets: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

interface Counts {
  readonly engine: Tally;
  readonly fast: Tally;
}

/** The engine's sessions, which the data plane gets as well, each side with counters of its own. */
class Store implements SessionStore {
  readonly #ends: Ends;
  readonly #makeCounters: () => SessionCounters;
  readonly #slots = new Map<number, number>();
  readonly #sent = new Map<number, number>();
  readonly #heard: { readonly index: number; readonly counter: number }[] = [];
  #newest = 0;
  #nextSlot = 1;

  constructor(ends: Ends, makeCounters: () => SessionCounters) {
    this.#ends = ends;
    this.#makeCounters = makeCounters;
  }

  open(session: OpenedSession): SessionCounters {
    const slot = this.#nextSlot;
    this.#nextSlot = 1 + (slot % (SLOTS - 1));
    this.#ends.plane.parts.sessions.write(slot, session);
    this.#ends.plane.apply({ kind: "session", slot, peer: 1, until: 1e9 });
    this.#slots.set(session.localIndex, slot);
    this.#newest = session.localIndex;
    const counters = this.#makeCounters();
    const next = counters.next.bind(counters);
    counters.next = () => {
      this.#sent.set(slot, (this.#sent.get(slot) ?? 0) + 1);
      return next();
    };
    this.#sent.set(slot, 0);
    return counters;
  }

  close(localIndex: number): void {
    const slot = this.#slots.get(localIndex);
    if (slot === undefined) return;
    this.#slots.delete(localIndex);
    this.#ends.plane.apply({ kind: "close-session", slot });
  }

  /** A message that the engine gets alone. */
  note(payload: Uint8Array): void {
    const message = decodeMessage(payload);
    if (typeof message === "string" || message.kind !== "transport") return;
    this.#heard.push({ index: message.receiver, counter: Number(message.counter) });
  }

  /** The data plane goes on where the engine's handshake ended. */
  synchronize(peerAddress: IpPort): void {
    const { sessions } = this.#ends.plane.parts;
    for (const { index, counter } of this.#heard.splice(0)) {
      const slot = this.#slots.get(index);
      if (slot !== undefined) sessions.mark(slot, counter);
    }
    for (const slot of this.#slots.values())
      reserve.call(sessions, slot, (this.#sent.get(slot) ?? 0) - sessions.sent(slot));
    const slot = this.#slots.get(this.#newest) ?? 0;
    const address = encodeSockaddr(peerAddress);
    this.#ends.plane.apply({ kind: "send", peer: 1, to: { slot, until: 1e9, inDoubt: false, address } });
  }
}

/** Whatever a test does with that of one table. */
const { reserve } = SessionTable.prototype;

const ALLOW_ALL = [{ SrcIPs: ["*"], DstPorts: [{ IP: "*", Ports: { First: 0, Last: 65_535 } }] }];
const toPort = (port: number): NonNullable<FilterRuleJson["DstPorts"]> => [
  { IP: "*", Ports: { First: port, Last: port } },
];
/** Everything, nothing, some of TCP, some of UDP. */
export const RULES: readonly (readonly FilterRuleJson[])[] = [
  ALLOW_ALL,
  [],
  [{ SrcIPs: ["100.64.0.0/10"], IPProto: [6], DstPorts: toPort(80) }],
  [{ SrcIPs: ["*"], IPProto: [17, 132], DstPorts: toPort(80) }],
];
const EVERYWHERE = ["0.0.0.0/0", "::/0"];

function mapOf(self: NodePublic, peer: NodePublic, allowedIps: readonly string[]): NetMap {
  const plain = { endpoint: PEER, presharedKey: undefined, persistentKeepalive: undefined };
  return {
    self: mapNode(self, 1, { addresses: EVERYWHERE.map(Prefix.parse) }),
    peers: [mapNode(peer, 2, { allowedIps: allowedIps.map(Prefix.parse), plain })],
    ...{ derpMap: emptyDerpMap, packetFilter: ALLOW_ALL, domain: "", users: new Map(), magicDnsSuffix: "" },
  };
}

function mapNode(key: NodePublic, id: number, changes: Partial<MapNode>): MapNode {
  return {
    ...{ id, key, stableId: "", name: "", machine: undefined, discoKey: undefined, addresses: [] },
    ...{ allowedIps: [], endpoints: [], homeRegion: undefined, user: 0, hostname: "", os: "", tags: [] },
    ...{ online: undefined, lastSeen: undefined, keyExpiry: undefined, expired: false, cap: 0 },
    ...{ primaryRoutes: [], created: undefined },
    ...changes,
  };
}

/** Packets that the engine has to judge: it lets all of them pass here. */
function judged(handed: readonly { readonly kind: number; readonly bytes: Uint8Array }[]): Uint8Array[] {
  return handed.filter(({ kind }) => kind === Kind.opened).map(({ bytes }) => bytes);
}

function flipped(message: Uint8Array, at: number): Uint8Array {
  const out = message.slice();
  out[at] = (out[at] ?? 0) ^ 1;
  return out;
}

function same(what: string, fast: readonly Uint8Array[], engine: readonly Uint8Array[]): void {
  if (fast.length !== engine.length)
    throw new Error(`${what}: the engine makes ${engine.length}, the fast path ${fast.length}`);
  for (const [i, bytes] of fast.entries()) {
    const other = engine[i] ?? new Uint8Array(0);
    if (!Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).equals(other))
      throw new Error(
        `${what}: the fast path's ${Buffer.from(bytes).toString("hex")} is not the engine's ${Buffer.from(other).toString("hex")}`,
      );
  }
}
