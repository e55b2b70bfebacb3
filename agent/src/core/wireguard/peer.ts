/**
 * One peer: its sessions, its timers, the packets that wait for a session. What arrives here belongs
 * to this peer by index or by static key; whether the peer really sent it is decided here.
 */
import type { NodePublic } from "../../base/keys.ts";
import type { Random } from "../../base/random.ts";
import { after, type Instant, type Millis, since } from "../../base/time.ts";
import type { Path } from "../path/path.ts";
import { type AllowedIps, packetLength } from "./allowed-ips.ts";
import type { SessionStore } from "./counters.ts";
import { Handshake } from "./handshake.ts";
import type { IndexTable } from "./index-table.ts";
import { Keypair, Keypairs } from "./keypair.ts";
import type { CookieReply, Initiation, Response, Transport } from "./messages.ts";
import type { Identity, ReadInitiation, TransportKeys } from "./noise.ts";
import type { Output, WireGuardTransmit } from "./output.ts";
import type { StampClock } from "./tai64n.ts";
import {
  ERASE_TIME,
  KEEPALIVE_TIMEOUT,
  NEW_HANDSHAKE_TIMEOUT,
  REKEY_ATTEMPT_TIME,
  REKEY_ON_RECEIVE_TIME,
  REKEY_TIMEOUT,
  Timers,
  type Wakeup,
  withJitter,
} from "./timers.ts";

const NO_PRESHARED_KEY: Uint8Array = new Uint8Array(32);
const NOTHING = new Uint8Array(0);

/** Whom an index names: a pending handshake of `peer`, or one of its sessions. */
export interface Receiver {
  readonly peer: Peer;
  readonly keypair: Keypair | undefined;
}

/** What all peers of one machine share. */
export interface PeerContext {
  readonly identity: Identity;
  readonly random: Random;
  readonly stamps: StampClock;
  readonly indices: IndexTable<Receiver>;
  readonly allowedIps: AllowedIps<Peer>;
  readonly output: Output;
  readonly wakeup: Wakeup;
  /** Where sessions are counted if others seal and open, too. */
  readonly sessions: SessionStore | undefined;
  readonly mtu: number;
  readonly replayWindow: number;
  readonly maxStaged: number;
}

/** How a message came. */
export interface Arrival {
  readonly from: Path;
  readonly bytes: number;
  readonly now: Instant;
}

/** A session that others may use. */
export interface UsableSession {
  readonly localIndex: number;
  readonly expiresAt: Instant;
}

/** What passed for a peer without this machine: sealed and opened by others on its sessions. */
export interface PassedTraffic {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** Whether there was more than keepalives. */
  readonly sentData: boolean;
  readonly receivedData: boolean;
  /** Whether the last message was one that we sent. */
  readonly sentLast: boolean;
}

export interface PeerSettings {
  readonly presharedKey: Uint8Array | undefined;
  readonly persistentKeepalive: Millis | undefined;
}

export class Peer {
  readonly key: NodePublic;
  txBytes = 0;
  rxBytes = 0;
  lastHandshake: Instant | undefined;
  readonly #context: PeerContext;
  readonly #handshake: Handshake;
  readonly #keypairs = new Keypairs();
  readonly #timers: Timers;
  #staged: Uint8Array[] = [];
  #presharedKey: Uint8Array = NO_PRESHARED_KEY;
  #persistentKeepalive: Millis | undefined;
  #handshakeSentAt: Instant | undefined;
  /** Since when the peer has not answered, not counting time asleep. */
  #attemptSince: Instant | undefined;
  /** A session is replaced once because it receives at a great age. */
  #rekeyedOnReceive = false;
  #needAnotherKeepalive = false;

  constructor(key: NodePublic, context: PeerContext) {
    this.key = key;
    this.#context = context;
    this.#timers = new Timers(context.wakeup);
    const { identity, random, stamps } = context;
    this.#handshake = new Handshake({ identity, random, stamps, peerStatic: key.bytes });
  }

  /** Whether there is a session to send with. */
  get ready(): boolean {
    return this.#keypairs.current !== undefined;
  }

  configure(settings: PeerSettings, now: Instant): void {
    this.#presharedKey = settings.presharedKey?.slice() ?? NO_PRESHARED_KEY;
    const before = this.#persistentKeepalive;
    this.#persistentKeepalive = settings.persistentKeepalive;
    if (settings.persistentKeepalive === undefined) this.#timers.clear("persistent");
    else if (before === undefined) this.#sendKeepalive(now);
    else this.#anythingPassed(now);
  }

  send(packet: Uint8Array, now: Instant): void {
    const keypair = this.#staged.length === 0 ? this.#keypairs.usable(now) : undefined;
    if (keypair !== undefined) {
      this.#seal(keypair, packet, now);
      return;
    }
    this.#stage(packet);
    this.#sendStaged(now);
  }

  /** The session to send with, unless packets wait for one. */
  sendSession(now: Instant): UsableSession | undefined {
    return this.#staged.length === 0 ? this.#keypairs.usable(now) : undefined;
  }

  /** The sessions that messages may come in. */
  receiveSessions(): readonly UsableSession[] {
    return this.#keypairs.proven;
  }

  /** Does for the timers what sending and receiving would have done. */
  notePassed(traffic: PassedTraffic, now: Instant): void {
    this.txBytes += traffic.sentBytes;
    this.rxBytes += traffic.receivedBytes;
    if (traffic.sentLast && traffic.receivedBytes > 0) this.#noteReceived(traffic, now);
    if (traffic.sentBytes > 0) this.#noteSent(traffic, now);
    if (!traffic.sentLast && traffic.receivedBytes > 0) this.#noteReceived(traffic, now);
  }

  startHandshake(now: Instant): void {
    if (this.#keypairs.usable(now) === undefined) this.#beginHandshake(now);
  }

  /** The usual gap between initiations is not kept: what the last one brought is what was lost. */
  renewSession(now: Instant): void {
    if (!this.ready) return;
    this.#handshakeSentAt = undefined;
    this.#beginHandshake(now);
  }

  /** An initiation that claims, and is here found, to be from this peer. */
  handleInitiation(read: ReadInitiation, message: Initiation, arrival: Arrival): void {
    const { now, from } = arrival;
    const accepted = this.#handshake.accept(read, message, now);
    if (typeof accepted === "string") {
      this.#context.output.drop(accepted);
      return;
    }
    this.#authenticated(arrival);
    const sender = this.#context.indices.allocate({ peer: this, keypair: undefined });
    const options = { sender, receiver: message.sender, presharedKey: this.#presharedKey };
    const response = this.#handshake.respond(accepted, options, now);
    if (response === undefined) {
      this.#context.indices.release(sender);
      return;
    }
    this.#install(
      { keys: response.keys, isInitiator: false, localIndex: sender, remoteIndex: message.sender },
      now,
    );
    this.#handshakeSentAt = now;
    this.#transmit({ peer: this.key, kind: "response", payload: response.message, replyTo: from }, now);
  }

  /** A response to the pending initiation. */
  handleResponse(message: Response, arrival: Arrival): void {
    const { now } = arrival;
    if (this.#handshake.pendingIndex !== message.receiver) {
      this.#context.output.drop("unknown-index");
      return;
    }
    const keys = this.#handshake.finish(message, this.#presharedKey);
    if (keys === undefined) {
      this.#context.output.drop("unauthenticated");
      return;
    }
    this.#authenticated(arrival);
    const { receiver: localIndex, sender: remoteIndex } = message;
    this.#install({ keys, isInitiator: true, localIndex, remoteIndex }, now);
    this.#sessionUsable(now);
    if (this.#staged.length === 0) this.#sendKeepalive(now);
    else this.#sendStaged(now);
  }

  handleCookieReply(message: CookieReply, now: Instant): void {
    if (!this.#handshake.handleCookieReply(message, now)) this.#context.output.drop("unauthenticated");
  }

  handleTransport(keypair: Keypair, message: Transport, arrival: Arrival): void {
    const { now, from } = arrival;
    const { output, allowedIps } = this.#context;
    const padded = keypair.open(message, now);
    if (typeof padded === "string") {
      output.drop(padded);
      return;
    }
    this.#authenticated(arrival);
    if (this.#keypairs.isNext(keypair)) {
      this.#release(this.#keypairs.confirmNext());
      this.#tellSessions();
      this.#sessionUsable(now);
      this.#sendStaged(now);
    }
    this.#rekeyOnReceive(keypair, now);
    if (padded.length === 0) return;
    this.#dataCame(now);
    const length = packetLength(padded);
    if (length === undefined) {
      output.drop("not-ip");
    } else if (!allowedIps.mayHaveSent(this, padded)) {
      output.drop("wrong-source");
    } else {
      output.events.push({ kind: "packet", peer: this.key, packet: padded.subarray(0, length), from });
    }
  }

  handleTimeout(now: Instant): void {
    if (this.#timers.take("expiry", now) !== undefined) this.#expire(now);
    if (this.#timers.take("erase", now) !== undefined) this.#erase();
    const retryDue = this.#timers.take("retry", now);
    if (retryDue !== undefined) this.#retry(retryDue, now);
    if (this.#timers.take("newHandshake", now) !== undefined) this.#beginHandshake(now);
    if (this.#timers.take("keepalive", now) !== undefined) {
      const again = this.#needAnotherKeepalive;
      this.#sendKeepalive(now);
      if (again) this.#timers.set("keepalive", after(now, KEEPALIVE_TIMEOUT));
    }
    if (this.#timers.take("persistent", now) !== undefined) {
      this.#anythingPassed(now);
      this.#sendKeepalive(now);
    }
  }

  get nextTimeout(): Instant | undefined {
    return this.#timers.next();
  }

  /** Forgets everything; the peer must not be used any more. */
  close(): void {
    this.#forgetPending();
    this.#handshake.forgetCookie();
    this.#release(this.#keypairs.clear());
    this.#staged = [];
  }

  // Sending

  #stage(packet: Uint8Array): void {
    if (packet.length === 0 && this.#staged.length > 0) return;
    this.#staged.push(packet.slice());
    const excess = this.#staged.length - this.#context.maxStaged;
    if (excess <= 0) return;
    this.#staged.splice(0, excess);
    this.#context.output.drop("staged-overflow", excess);
  }

  #sendStaged(now: Instant): void {
    while (this.#staged.length > 0) {
      const keypair = this.#keypairs.usable(now);
      if (keypair === undefined) {
        this.#beginHandshake(now);
        return;
      }
      for (const packet of this.#staged.splice(0)) this.#seal(keypair, packet, now);
    }
  }

  #sendKeepalive(now: Instant): void {
    if (this.#staged.length === 0) this.send(NOTHING, now);
    else this.#sendStaged(now);
  }

  #seal(keypair: Keypair, packet: Uint8Array, now: Instant): void {
    const kind = packet.length === 0 ? "keepalive" : "data";
    const payload = keypair.seal(packet, this.#context.mtu);
    this.#transmit({ peer: this.key, kind, payload, replyTo: undefined }, now);
    if (kind === "data") this.#expectAnswer(now);
    if (keypair.isOld(now)) this.#beginHandshake(now);
  }

  #expectAnswer(now: Instant): void {
    if (this.#timers.isSet("newHandshake")) return;
    this.#timers.set("newHandshake", withJitter(after(now, NEW_HANDSHAKE_TIMEOUT), this.#context.random));
  }

  #noteSent({ sentData }: PassedTraffic, now: Instant): void {
    this.#sentAnything(now);
    if (sentData) this.#expectAnswer(now);
    if (this.#keypairs.current?.isOld(now) === true) this.#beginHandshake(now);
  }

  #noteReceived({ receivedData }: PassedTraffic, now: Instant): void {
    this.#receivedAnything(now);
    const { current } = this.#keypairs;
    if (current !== undefined) this.#rekeyOnReceive(current, now);
    if (receivedData) this.#dataCame(now);
  }

  #transmit(transmit: WireGuardTransmit, now: Instant): void {
    this.txBytes += transmit.payload.length;
    this.#sentAnything(now);
    this.#context.output.transmits.push(transmit);
  }

  #sentAnything(now: Instant): void {
    this.#timers.clear("keepalive");
    this.#needAnotherKeepalive = false;
    this.#anythingPassed(now);
  }

  // Receiving

  #authenticated({ from, bytes, now }: Arrival): void {
    this.rxBytes += bytes;
    this.#receivedAnything(now);
    this.#context.output.events.push({ kind: "authenticated", peer: this.key, from, bytes });
  }

  #receivedAnything(now: Instant): void {
    this.#timers.clear("newHandshake");
    this.#anythingPassed(now);
  }

  #dataCame(now: Instant): void {
    if (this.#timers.isSet("keepalive")) this.#needAnotherKeepalive = true;
    else this.#timers.set("keepalive", after(now, KEEPALIVE_TIMEOUT));
  }

  #anythingPassed(now: Instant): void {
    if (this.#persistentKeepalive === undefined) return;
    this.#timers.set("persistent", after(now, this.#persistentKeepalive));
  }

  // Sessions

  /** Something wants a session now: it is worth trying for another 90 s. */
  #beginHandshake(now: Instant): void {
    this.#attemptSince = now;
    this.#initiate(now);
  }

  #initiate(now: Instant): void {
    const { indices, random } = this.#context;
    const allowedAt = this.#handshakeSentAt === undefined ? now : after(this.#handshakeSentAt, REKEY_TIMEOUT);
    if (now < allowedAt) {
      if (!this.#timers.isSet("retry")) this.#timers.set("retry", withJitter(allowedAt, random));
      return;
    }
    this.#forgetPending();
    const index = indices.allocate({ peer: this, keypair: undefined });
    const payload = this.#handshake.initiate(index, now);
    if (payload === undefined) {
      indices.release(index);
      this.#giveUp(now);
      return;
    }
    this.#handshakeSentAt = now;
    this.#timers.set("retry", withJitter(after(now, REKEY_TIMEOUT), random));
    this.#transmit({ peer: this.key, kind: "initiation", payload, replyTo: undefined }, now);
  }

  #retry(due: Instant, now: Instant): void {
    const late = since(due, now);
    if (late > REKEY_TIMEOUT && this.#attemptSince !== undefined) {
      this.#attemptSince = after(this.#attemptSince, late); // the machine slept: that was not the peer's silence
    }
    if (this.#attemptSince === undefined || now >= after(this.#attemptSince, REKEY_ATTEMPT_TIME))
      this.#giveUp(now);
    else this.#initiate(now);
  }

  #giveUp(now: Instant): void {
    const { output } = this.#context;
    output.drop("unanswered", this.#staged.filter((packet) => packet.length > 0).length);
    this.#staged = [];
    this.#attemptSince = undefined;
    this.#timers.clear("keepalive");
    this.#forgetPending();
    if (!this.#timers.isSet("erase")) this.#timers.set("erase", after(now, ERASE_TIME));
    output.events.push({ kind: "gave-up", peer: this.key });
  }

  #install(
    made: { keys: TransportKeys; isInitiator: boolean; localIndex: number; remoteIndex: number },
    now: Instant,
  ): void {
    const { identity, replayWindow, indices, sessions } = this.#context;
    const counters = sessions?.open(made);
    const keypair = new Keypair({ ...made, suite: identity.suite, createdAt: now, replayWindow, counters });
    indices.assign(made.localIndex, { peer: this, keypair });
    this.#release(this.#keypairs.install(keypair));
    this.#tellSessions();
    this.#timers.set("erase", after(now, ERASE_TIME));
    this.#scheduleExpiry();
  }

  #sessionUsable(now: Instant): void {
    this.#timers.clear("retry");
    this.#attemptSince = undefined;
    this.#rekeyedOnReceive = false;
    this.lastHandshake = now;
    this.#context.output.events.push({ kind: "session", peer: this.key });
  }

  #rekeyOnReceive(keypair: Keypair, now: Instant): void {
    if (this.#rekeyedOnReceive || !keypair.isInitiator || keypair !== this.#keypairs.current) return;
    if (now < after(keypair.createdAt, REKEY_ON_RECEIVE_TIME)) return;
    this.#rekeyedOnReceive = true;
    this.#beginHandshake(now);
  }

  /** Only where somebody asks. */
  #tellSessions(): void {
    const { sessions, output } = this.#context;
    if (sessions !== undefined) output.events.push({ kind: "sessions", peer: this.key });
  }

  #expire(now: Instant): void {
    this.#release(this.#keypairs.expire(now));
    this.#tellSessions();
    this.#scheduleExpiry();
  }

  #scheduleExpiry(): void {
    const at = this.#keypairs.nextExpiry();
    if (at === undefined) this.#timers.clear("expiry");
    else this.#timers.set("expiry", at);
  }

  /** A handshake under way is left alone: it is given up soon enough by itself. */
  #erase(): void {
    this.#release(this.#keypairs.clear());
    this.#tellSessions();
    if (this.#timers.isSet("retry")) return;
    this.#forgetPending();
    this.#handshake.forgetCookie();
  }

  #forgetPending(): void {
    if (this.#handshake.pendingIndex !== undefined)
      this.#context.indices.release(this.#handshake.pendingIndex);
    this.#handshake.forgetPending();
  }

  #release(keypairs: readonly Keypair[]): void {
    for (const keypair of keypairs) {
      keypair.wipe();
      this.#context.indices.release(keypair.localIndex);
      this.#context.sessions?.close(keypair.localIndex);
    }
  }
}
