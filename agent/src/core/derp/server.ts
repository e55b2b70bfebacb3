/**
 * A relay: many connections, and packets passed between them by public key.
 *
 * It never reads what it carries. A slow reader loses its own oldest packets and holds nobody
 * back. Packets are forwarded in the bytes they came in: the header of a `send packet` becomes
 * that of a `recv packet` in place, and what one chunk holds for one reader leaves as one write.
 *
 * Not served: the mesh between relays of one region; its frames end the connection.
 */
import type { IpPort } from "../../base/address.ts";
import { KEY_LENGTH, type NodePrivate, NodePublic } from "../../base/keys.ts";
import { type Random, randomFraction } from "../../base/random.ts";
import { after, earliest, type Instant, type Millis, millis, seconds } from "../../base/time.ts";
import type { Suite } from "../../crypto/suite.ts";
import {
  decodeFrame,
  encodeFrame,
  FrameType,
  GoneReason,
  HEADER_LENGTH,
  looksLikeDisco,
  MAX_PACKET_LENGTH,
} from "./frame.ts";
import type { RawFrame } from "./frame-reader.ts";
import { sameKey } from "./key-name.ts";
import { encodeServerInfo, loginKey, openClientInfo, PROTOCOL_VERSION, publicOf } from "./login.ts";
import { joinFrames } from "./packet-queue.ts";
import { ServerConnection } from "./server-connection.ts";
import { newCounters, type DerpCounters, type DropReason } from "./server-counters.ts";
import { PeerTable } from "./server-peers.ts";

export interface DerpServerOptions {
  readonly suite: Suite;
  readonly random: Random;
  readonly serverKey: NodePrivate;
  /** Whether a key may use this relay. @default everybody may */
  readonly allow?: (key: NodePublic, remote: IpPort) => boolean;
}

export interface DerpTransmit {
  readonly conn: number;
  readonly bytes: Uint8Array;
}

export interface DerpClose {
  readonly conn: number;
  readonly why: string;
}

/** ts: derpserver's limit for the whole login. */
const LOGIN_LIMIT: Millis = seconds(10);
/** ts: derp.KeepAlive, and up to 5 s more so that the clients of a restarted relay spread out. */
const KEEP_ALIVE: Millis = seconds(60);
const KEEP_ALIVE_JITTER: Millis = seconds(5);
/** ts: derper's --tcp-write-timeout. */
const WRITE_LIMIT: Millis = seconds(2);
/** Deadlines are looked at no more often than this, since each look passes over all connections. */
const TIMER_STEP: Millis = millis(100);
const KEEP_ALIVE_FRAME = encodeFrame({ kind: "keep-alive" });

export class DerpServer {
  readonly publicKey: NodePublic;
  readonly counters: DerpCounters = newCounters();
  readonly #options: DerpServerOptions;
  readonly #greeting: Uint8Array;
  readonly #connections = new Map<number, ServerConnection>();
  readonly #peers = new PeerTable();
  #pending: ServerConnection[] = [];
  readonly #closing: DerpClose[] = [];
  #wakeAt: Instant | undefined;

  constructor(options: DerpServerOptions) {
    this.#options = options;
    this.publicKey = publicOf(options.suite, options.serverKey);
    this.#greeting = encodeFrame({ kind: "server-key", serverKey: this.publicKey });
  }

  /** A connection whose HTTP upgrade is done. `conn` is the caller's number for it, never used again. */
  handleOpen(conn: number, remote: IpPort, now: Instant): void {
    const keepAliveEvery = millis(KEEP_ALIVE + randomFraction(this.#options.random) * KEEP_ALIVE_JITTER);
    const connection = new ServerConnection(conn, remote, after(now, LOGIN_LIMIT), keepAliveEvery, now);
    this.#connections.set(conn, connection);
    this.counters.accepts++;
    this.counters.connections++;
    connection.control.push(this.#greeting);
    this.#markPending(connection);
    this.#wakeBy(connection.loginUntil);
  }

  /** Takes the next bytes of a connection. They are not the caller's any more: the relay changes and sends them. */
  handleBytes(conn: number, chunk: Uint8Array, now: Instant): void {
    const connection = this.#connections.get(conn);
    if (connection === undefined) return;
    this.counters.bytesReceived += chunk.length;
    const { reader } = connection;
    reader.feed(chunk);
    for (let frame = reader.next(); frame !== undefined; frame = reader.next()) {
      const refused =
        frame === "too-large" ? "a frame was too large" : this.#handleFrame(connection, frame, now);
      if (refused !== undefined) {
        this.#close(connection, refused);
        return;
      }
    }
    this.counters.unknownFrames += reader.skipped;
    reader.skipped = 0;
  }

  /**
   * Tells whether a connection takes bytes. While it does not, its packets wait, and it is closed after 2 s;
   * saying `false` again, because some bytes have left, begins the 2 s anew.
   */
  handleWritable(conn: number, writable: boolean, now: Instant): void {
    const connection = this.#connections.get(conn);
    if (connection === undefined) return;
    connection.blockedUntil = writable ? undefined : after(now, WRITE_LIMIT);
    if (connection.blockedUntil !== undefined) this.#wakeBy(connection.blockedUntil);
    else this.#markPending(connection);
  }

  /** The connection is gone. */
  handleClosed(conn: number, _now: Instant): void {
    const connection = this.#connections.get(conn);
    if (connection !== undefined) this.#remove(connection);
  }

  handleTimeout(now: Instant): void {
    if (this.#wakeAt === undefined || now < this.#wakeAt) return;
    let next: Instant | undefined;
    for (const connection of this.#connections.values()) {
      const overdue = this.#checkDeadlines(connection, now);
      if (overdue === undefined) next = earliest(next, connection.nextDeadline());
      else this.#close(connection, overdue);
    }
    const soonest = after(now, TIMER_STEP);
    this.#wakeAt = next === undefined || next > soonest ? next : soonest;
  }

  pollTimeout(): Instant | undefined {
    return this.#wakeAt;
  }

  /** The next write: everything that waits for one connection. */
  pollTransmit(): DerpTransmit | undefined {
    for (let next = this.#pending.pop(); next !== undefined; next = this.#pending.pop()) {
      next.isPending = false;
      const bytes = next.isOpen && next.blockedUntil === undefined ? joinFrames(next.takeAll()) : undefined;
      if (bytes === undefined) continue;
      this.counters.bytesSent += bytes.length;
      return { conn: next.id, bytes };
    }
    return undefined;
  }

  /** The next connection to close, and why, for the log. Ask after the transmits. */
  pollClose(): DerpClose | undefined {
    return this.#closing.shift();
  }

  /** @returns why the connection must end, if it must */
  #handleFrame(connection: ServerConnection, raw: RawFrame, now: Instant): string | undefined {
    if (connection.login === undefined) return this.#handleLogin(connection, raw, now);
    connection.login.peer.active = connection;
    switch (raw.type) {
      case FrameType.sendPacket:
        return this.#forward(connection, raw, now);
      case FrameType.notePreferred:
      case FrameType.ping:
        return this.#handleNote(connection, raw);
      case FrameType.forwardPacket:
      case FrameType.watchConns:
      case FrameType.closePeer:
        return "it is not a mesh peer";
      default:
        this.counters.unknownFrames++; // the server's own types, which mean nothing from a client
        return undefined;
    }
  }

  #handleLogin(connection: ServerConnection, raw: RawFrame, now: Instant): string | undefined {
    const frame = decodeFrame(raw.type, raw.body);
    if (typeof frame === "string" || frame.kind !== "client-info")
      return "its first frame was no client info";
    const { suite, serverKey, random, allow } = this.#options;
    const boxKey = loginKey(suite, serverKey, frame.client);
    const info = openClientInfo(boxKey, frame.nonce, frame.box);
    if (boxKey === undefined || typeof info === "string")
      return "its client info was not sealed for this relay";
    if (allow !== undefined && !allow(frame.client, connection.remote)) return "its key is not allowed here";
    connection.logIn({ key: frame.client, peer: this.#peers.add(frame.client, connection) }, now);
    connection.reader.limit = KEY_LENGTH + MAX_PACKET_LENGTH;
    connection.control.push(
      encodeServerInfo(boxKey, { version: PROTOCOL_VERSION, bytesPerSecond: 0, burstBytes: 0 }, random),
    );
    this.#markPending(connection);
    this.#wakeBy(connection.keepAliveAt);
    return undefined;
  }

  #handleNote(connection: ServerConnection, raw: RawFrame): string | undefined {
    const frame = decodeFrame(raw.type, raw.body);
    if (typeof frame === "string") return "it sent a malformed frame";
    if (frame.kind === "note-preferred" && frame.preferred !== connection.isHome) {
      connection.isHome = frame.preferred;
      this.counters.homeConnections += frame.preferred ? 1 : -1;
    }
    if (frame.kind === "ping") {
      this.counters.pings++;
      connection.control.push(encodeFrame({ kind: "pong", data: frame.data }));
      this.#markPending(connection);
    }
    return undefined;
  }

  #forward(from: ServerConnection, raw: RawFrame, now: Instant): string | undefined {
    const { bytes, body } = raw;
    if (body.length < KEY_LENGTH || body.length > KEY_LENGTH + MAX_PACKET_LENGTH)
      return "a packet had a wrong length";
    const isDisco = looksLikeDisco(body.subarray(KEY_LENGTH));
    this.counters.packetsReceived++;
    if (isDisco) this.counters.discoReceived++;
    const to = this.#route(from, body);
    if (to === undefined) {
      this.#drop("unknownDestination", 1);
      if (isDisco && from.mayComplain(now)) this.#sendNotHere(from, body);
      return undefined;
    }
    bytes[0] = FrameType.recvPacket;
    bytes.set(from.keyBytes, HEADER_LENGTH);
    // A waiting frame must not keep the whole chunk it came in.
    const frame = to.blockedUntil === undefined ? bytes : bytes.slice();
    const dropped = (isDisco ? to.disco : to.data).push(frame);
    if (dropped !== undefined) this.#drop("queueFull", dropped.packets);
    this.counters.packetsSent++;
    this.#markPending(to);
    return undefined;
  }

  /** The connection that a packet goes to. Remembers the last one, since packets come in runs. */
  #route(from: ServerConnection, body: Uint8Array): ServerConnection | undefined {
    const last = from.lastRoute;
    if (last !== undefined && last.active.isOpen && sameKey(last.keyBytes, body, 0)) {
      if (last.active !== from.lastTo) this.#peers.noteHeard(from, last);
      return last.active;
    }
    const peer = this.#peers.find(body, 0);
    if (peer === undefined) return undefined;
    this.#peers.noteHeard(from, peer);
    return peer.active;
  }

  #sendNotHere(to: ServerConnection, body: Uint8Array): void {
    const frame = encodeFrame({
      kind: "peer-gone",
      peer: NodePublic.fromBytes(body.subarray(0, KEY_LENGTH)),
      reason: GoneReason.notHere,
    });
    this.counters.peerGoneNotHere++;
    to.control.push(frame);
    this.#markPending(to);
  }

  #checkDeadlines(connection: ServerConnection, now: Instant): string | undefined {
    if (connection.login === undefined && now >= connection.loginUntil)
      return "it did not log in within 10 s";
    if (connection.blockedUntil !== undefined && now >= connection.blockedUntil) {
      this.counters.writeTimeouts++;
      return "it took no bytes for 2 s";
    }
    if (connection.login !== undefined && now >= connection.keepAliveAt) {
      connection.keepAliveAt = after(now, connection.keepAliveEvery);
      connection.control.push(KEEP_ALIVE_FRAME);
      this.#markPending(connection);
    }
    return undefined;
  }

  #close(connection: ServerConnection, why: string): void {
    this.#closing.push({ conn: connection.id, why });
    this.#remove(connection);
  }

  #remove(connection: ServerConnection): void {
    connection.isOpen = false;
    this.#connections.delete(connection.id);
    this.counters.connections--;
    this.#drop("gone", connection.disco.size + connection.data.size);
    if (connection.isHome) this.counters.homeConnections--;
    if (connection.login === undefined) return;
    const listeners = this.#peers.remove(connection, connection.login.peer);
    if (listeners.length === 0) return;
    const frame = encodeFrame({
      kind: "peer-gone",
      peer: connection.login.key,
      reason: GoneReason.disconnected,
    });
    for (const listener of listeners) {
      this.counters.peerGoneDisconnected++;
      listener.control.push(frame);
      this.#markPending(listener);
    }
  }

  #drop(reason: DropReason, packets: number): void {
    this.counters.dropped[reason] += packets;
  }

  #markPending(connection: ServerConnection): void {
    if (connection.isPending || connection.blockedUntil !== undefined) return;
    connection.isPending = true;
    this.#pending.push(connection);
  }

  #wakeBy(at: Instant): void {
    this.#wakeAt = earliest(this.#wakeAt, at);
  }
}
