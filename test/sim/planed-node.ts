/**
 * A node with a data plane beside it, as the program has: it takes the packets of peers for which the engine has
 * said how, and leaves everything else to the engine. Plain and slow; what it shows is that the two together keep
 * every promise that the engine keeps alone.
 */
import type { IpPort } from "../../agent/src/base/address.ts";
import { concat } from "../../agent/src/base/bytes.ts";
import type { NodePublic } from "../../agent/src/base/keys.ts";
import type { Instant } from "../../agent/src/base/time.ts";
import { FlowTable } from "../../agent/src/core/filter/flow-table.ts";
import {
  addressLength,
  destinationOffset,
  type Packet,
  parsePacket,
  protocol,
} from "../../agent/src/core/ip/packet.ts";
import type { RegionId } from "../../agent/src/core/path/path.ts";
import { PrefixTable } from "../../agent/src/core/ip/prefix-table.ts";
import { BASE_MTU } from "../../agent/src/core/path/path-mtu.ts";
import {
  LocalCounters,
  type OpenedSession,
  type SessionCounters,
  type SessionStore,
} from "../../agent/src/core/wireguard/counters.ts";
import { decodeMessage, encodeTransport } from "../../agent/src/core/wireguard/messages.ts";
import type { Suite } from "../../agent/src/crypto/suite.ts";
import type { SendTo } from "../../agent/src/engine/fast-path.ts";
import type { Datagram } from "../../agent/src/engine/machine.ts";
import { Node, type NodeOptions } from "../../agent/src/engine/node.ts";

interface Session extends OpenedSession {
  readonly counters: SessionCounters;
}

class Store implements SessionStore {
  readonly sessions = new Map<number, Session>();

  open(session: OpenedSession): SessionCounters {
    const counters = new LocalCounters(65_536);
    const { send, receive } = session.keys;
    this.sessions.set(session.localIndex, {
      ...session,
      keys: { send: send.slice(), receive: receive.slice() },
      counters,
    });
    return counters;
  }

  close(localIndex: number): void {
    this.sessions.delete(localIndex);
  }
}

export class PlanedNode extends Node {
  /** Packets that passed without the engine. */
  passed = 0;
  readonly #store: Store;
  /** What came by a relay and was not opened yet. */
  readonly #relayed: Uint8Array[];
  readonly #flows: FlowTable;
  readonly #suite: Suite;
  readonly #routes = new PrefixTable<NodePublic>();
  readonly #sending = new Map<string, SendTo>();
  readonly #mtus = new Map<string, number>();
  readonly #receiving: Map<number, NodePublic>;
  readonly #sent: Datagram[] = [];

  constructor(options: NodeOptions) {
    const store = new Store();
    const flows = new FlowTable(512);
    const relayed: Uint8Array[] = [];
    const receiving = new Map<number, NodePublic>();
    const openRelayed = (message: Uint8Array): boolean => {
      const decoded = decodeMessage(message);
      const isOurs =
        typeof decoded !== "string" && decoded.kind === "transport" && receiving.has(decoded.receiver);
      if (isOurs) relayed.push(message);
      return isOurs;
    };
    super({ ...options, sessions: store, flows, openRelayed });
    this.#relayed = relayed;
    this.#receiving = receiving;
    this.#flows = flows;
    this.#store = store;
    this.#suite = options.suite;
  }

  override handlePacket(packet: Uint8Array, now: Instant): void {
    this.#takeDecisions();
    const parsed = parsePacket(packet);
    const peer =
      typeof parsed === "string"
        ? undefined
        : this.#routes.lookupBytes(parsed.bytes, destinationOffset(parsed), addressLength(parsed));
    const to = peer === undefined ? undefined : this.#sending.get(peer.text);
    const session = to === undefined ? undefined : this.#store.sessions.get(to.session.localIndex);
    const isTooLong = packet.length > (this.#mtus.get(peer?.text ?? "") ?? BASE_MTU);
    if (
      isTooLong ||
      peer === undefined ||
      to === undefined ||
      session === undefined ||
      now >= to.session.expiresAt
    ) {
      super.handlePacket(packet, now);
      return;
    }
    const counter = session.counters.next();
    const padded = concat(packet, new Uint8Array(-packet.length & 15));
    const sealed = this.#suite.aeadSeal(session.keys.send, nonceOf(counter), padded);
    const payload = encodeTransport({ receiver: session.remoteIndex, counter, sealed });
    this.passed++;
    if (typeof parsed !== "string") this.#noteFlow(parsed);
    if (to.address === undefined) {
      this.handleSealed(peer, [payload], now);
    } else {
      this.#sent.push({ to: to.address, payload });
      this.handleSentMessage(peer, payload, now);
    }
    this.#report(peer, now, { sentBytes: payload.length, sentData: true });
  }

  override handleDatagram(from: IpPort, payload: Uint8Array, now: Instant): void {
    this.#takeDecisions();
    if (!this.#open(payload, now)) super.handleDatagram(from, payload, now);
  }

  /** Returns false where it is the engine's to handle. */
  #open(payload: Uint8Array, now: Instant): boolean {
    const message = decodeMessage(payload);
    const isTransport = typeof message !== "string" && message.kind === "transport";
    const peer = isTransport ? this.#receiving.get(message.receiver) : undefined;
    const session = isTransport ? this.#store.sessions.get(message.receiver) : undefined;
    if (!isTransport || peer === undefined || session === undefined) return false;
    if (!session.counters.isFresh(message.counter)) return true;
    const opened = this.#suite.aeadOpen(session.keys.receive, nonceOf(message.counter), message.sealed);
    if (opened === undefined || !session.counters.mark(message.counter)) return true;
    this.passed++;
    this.#report(peer, now, { receivedBytes: payload.length, receivedData: opened.length > 0 });
    if (opened.length > 0) this.handleOpenedPacket(peer, opened, now);
    return true;
  }

  override handleRelayBytes(region: RegionId, chunk: Uint8Array, now: Instant): void {
    super.handleRelayBytes(region, chunk, now);
    for (let next = this.#relayed.shift(); next !== undefined; next = this.#relayed.shift())
      this.#open(next, now);
  }

  override pollDatagram(): Datagram | undefined {
    return super.pollDatagram() ?? this.#sent.shift();
  }

  #report(peer: NodePublic, now: Instant, traffic: object): void {
    const nothing = { sentPackets: 1, sentBytes: 0, sentData: false, receivedPackets: 1, receivedBytes: 0 };
    this.handlePassed(
      peer,
      { ...nothing, receivedData: false, sentLast: "sentBytes" in traffic, ...traffic },
      now,
    );
  }

  #noteFlow(packet: Packet): void {
    if (packet.protocol === protocol.udp || packet.protocol === protocol.sctp) this.#flows.note(packet);
  }

  #takeDecisions(): void {
    for (let next = this.pollDecision(); next !== undefined; next = this.pollDecision()) {
      switch (next.kind) {
        case "peer":
          for (const prefix of next.prefixes) this.#routes.set(prefix, next.peer);
          break;
        case "receive":
          for (const { localIndex } of next.sessions) this.#receiving.set(localIndex, next.peer);
          break;
        case "send":
          if (next.to === undefined) this.#sending.delete(next.peer.text);
          else this.#sending.set(next.peer.text, next.to);
          break;
        case "mtu":
          this.#mtus.set(next.peer.text, next.mtu);
          break;
        case "forget":
          this.#sending.delete(next.peer.text);
          break;
        case "filter":
          break; // every opened packet is the engine's to judge
      }
    }
  }
}

function nonceOf(counter: bigint): Uint8Array {
  const nonce = new Uint8Array(12);
  new DataView(nonce.buffer).setBigUint64(4, counter, true);
  return nonce;
}
