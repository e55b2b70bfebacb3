/**
 * WireGuard as a pure machine: packets and messages in, messages and packets out.
 *
 * It knows keys and sessions, but no addresses: the path that a message takes is the engine's choice,
 * which learns from `authenticated` events where a peer was heard. The same message may be sent by
 * two paths; the second copy is dropped as a replay. Damaged, forged and replayed messages change
 * nothing but a counter.
 */
import type { Prefix } from "../../base/address.ts";
import { concat, utf8, viewOf } from "../../base/bytes.ts";
import { UsageError } from "../../base/errors.ts";
import { KEY_LENGTH, NodePublic, type NodePrivate } from "../../base/keys.ts";
import type { Random } from "../../base/random.ts";
import { type Calendar, earliest, type Instant, type Millis } from "../../base/time.ts";
import type { Suite } from "../../crypto/suite.ts";
import { type Path, pathText } from "../path/path.ts";
import { AllowedIps } from "./allowed-ips.ts";
import { MacChecker } from "./cookie.ts";
import { IndexTable } from "./index-table.ts";
import type { SessionStore } from "./counters.ts";
import { HandshakeLoad, limitedSource, SourceLimiter } from "./load.ts";
import { decodeMessage, type Initiation, type Response } from "./messages.ts";
import { readInitiation } from "./noise.ts";
import { type DropReason, Output, type WireGuardEvent, type WireGuardTransmit } from "./output.ts";
import {
  type Arrival,
  type PassedTraffic,
  Peer,
  type PeerContext,
  type Receiver,
  type UsableSession,
} from "./peer.ts";
import { DEFAULT_REPLAY_WINDOW } from "./replay.ts";
import { StampClock } from "./tai64n.ts";
import { Wakeup } from "./timers.ts";

/** Tailscale's tunnel MTU. */
const DEFAULT_MTU = 1280;
/** wireguard-go: packets that wait for a session. */
const DEFAULT_MAX_STAGED = 128;

export interface WireGuardOptions {
  readonly suite: Suite;
  readonly random: Random;
  readonly calendar: Calendar;
  readonly privateKey: NodePrivate;
  /** How many packets one may be overtaken by and still count. @default 65536 */
  readonly replayWindow?: number | undefined;
  /** Packets that wait for a session, for each peer. @default 128 */
  readonly maxStaged?: number | undefined;
  /** Keeps what sessions count where others seal and open on them, too. @default none */
  readonly sessions?: SessionStore | undefined;
  /** Of the tunnel: padding never makes a packet longer. @default 1280 */
  readonly mtu?: number | undefined;
}

export interface PeerOptions {
  readonly key: NodePublic;
  readonly allowedIps: readonly Prefix[];
  /** 32 bytes. @default none (32 zero bytes, as Tailscale has it) */
  readonly presharedKey?: Uint8Array | undefined;
  /** @default none */
  readonly persistentKeepalive?: Millis | undefined;
}

export interface PeerStats {
  /** Whole WireGuard messages, handshakes included. */
  readonly txBytes: number;
  readonly rxBytes: number;
  readonly lastHandshake: Instant | undefined;
  /** Whether there is a session to send with. */
  readonly ready: boolean;
}

export class WireGuard {
  readonly publicKey: NodePublic;
  readonly #peers = new Map<string, Peer>();
  readonly #context: PeerContext;
  readonly #macs: MacChecker;
  readonly #load = new HandshakeLoad();
  readonly #limiter = new SourceLimiter();

  constructor(options: WireGuardOptions) {
    const { suite, random, privateKey } = options;
    const publicKey = privateKey.expose((secret) => suite.x25519Public(secret));
    this.publicKey = NodePublic.fromBytes(publicKey);
    this.#macs = new MacChecker(publicKey, random);
    this.#context = {
      identity: { suite, privateKey, publicKey },
      random,
      stamps: new StampClock(options.calendar),
      indices: new IndexTable<Receiver>(random),
      allowedIps: new AllowedIps<Peer>(),
      output: new Output(),
      wakeup: new Wakeup(),
      sessions: options.sessions,
      mtu: options.mtu ?? DEFAULT_MTU,
      replayWindow: options.replayWindow ?? DEFAULT_REPLAY_WINDOW,
      maxStaged: options.maxStaged ?? DEFAULT_MAX_STAGED,
    };
  }

  /** How many messages and packets were dropped, by reason. */
  get counters(): Readonly<Record<DropReason, number>> {
    return this.#context.output.counters;
  }

  /** Adds a peer, or changes it without touching its sessions. Our own key is no peer. @throws UsageError for a preshared key that is not 32 bytes */
  configurePeer(options: PeerOptions, now: Instant): void {
    const { key, allowedIps, presharedKey, persistentKeepalive } = options;
    if (presharedKey !== undefined && presharedKey.length !== KEY_LENGTH) {
      throw new UsageError(
        "preshared-key",
        `a preshared key is ${KEY_LENGTH} bytes, not ${presharedKey.length}`,
      );
    }
    if (key.text === this.publicKey.text) return;
    const peer = this.#peers.get(key.text) ?? new Peer(key, this.#context);
    this.#peers.set(key.text, peer);
    this.#context.allowedIps.set(peer, allowedIps);
    peer.configure({ presharedKey, persistentKeepalive: positive(persistentKeepalive) }, now);
  }

  removePeer(key: NodePublic): void {
    const peer = this.#peers.get(key.text);
    if (peer === undefined) return;
    peer.close();
    this.#context.allowedIps.delete(peer);
    this.#peers.delete(key.text);
  }

  hasPeer(key: NodePublic): boolean {
    return this.#peers.has(key.text);
  }

  peerStats(key: NodePublic): PeerStats | undefined {
    const peer = this.#peers.get(key.text);
    if (peer === undefined) return undefined;
    const { txBytes, rxBytes, lastHandshake, ready } = peer;
    return { txBytes, rxBytes, lastHandshake, ready };
  }

  /** The sessions of a peer that others may use now: to send with (none while packets wait), and to receive with. */
  sessionsOf(
    key: NodePublic,
    now: Instant,
  ): { readonly send: UsableSession | undefined; readonly receive: readonly UsableSession[] } {
    const peer = this.#peers.get(key.text);
    return { send: peer?.sendSession(now), receive: peer?.receiveSessions() ?? [] };
  }

  /** Messages of a peer's sessions were sealed and opened by others. */
  notePassed(key: NodePublic, traffic: PassedTraffic, now: Instant): void {
    this.#peers.get(key.text)?.notePassed(traffic, now);
  }

  /** Sends an IP packet, or keeps it until there is a session, which is then begun. An empty one is a keepalive. */
  sendPacket(key: NodePublic, packet: Uint8Array, now: Instant): void {
    const peer = this.#peers.get(key.text);
    if (peer === undefined) this.#context.output.drop("unknown-peer");
    else peer.send(packet, now);
  }

  /** Begins a handshake unless there is a session to send with. */
  startHandshake(key: NodePublic, now: Instant): void {
    const peer = this.#peers.get(key.text);
    if (peer === undefined) this.#context.output.drop("unknown-peer");
    else peer.startHandshake(now);
  }

  /** Begins a handshake although there may be a session: the peer has restarted and knows it no more. */
  renewSession(key: NodePublic, now: Instant): void {
    this.#peers.get(key.text)?.renewSession(now);
  }

  /**
   * Takes a message from the network. `relayedFrom` is whom a relay named as its sender: nothing is trusted
   * because of it, but one noisy peer then does not use up the relay's share of handshakes under load.
   */
  handleMessage(payload: Uint8Array, from: Path, now: Instant, relayedFrom?: NodePublic): void {
    const { output, indices } = this.#context;
    const message = decodeMessage(payload);
    if (typeof message === "string") {
      output.drop("malformed");
      return;
    }
    const arrival: Arrival = { from, bytes: payload.length, now };
    if (message.kind === "initiation") {
      if (this.#admit(payload, message, arrival, relayedFrom)) this.#handleInitiation(message, arrival);
      return;
    }
    if (message.kind === "response" && !this.#admit(payload, message, arrival, relayedFrom)) return;
    const receiver = indices.find(message.receiver);
    if (receiver === undefined) {
      output.drop("unknown-index");
      return;
    }
    switch (message.kind) {
      case "response":
        receiver.peer.handleResponse(message, arrival);
        return;
      case "cookie-reply":
        receiver.peer.handleCookieReply(message, now);
        return;
      case "transport":
        if (receiver.keypair === undefined) output.drop("unknown-index");
        else receiver.peer.handleTransport(receiver.keypair, message, arrival);
    }
  }

  handleTimeout(now: Instant): void {
    const { wakeup } = this.#context;
    if (wakeup.at === undefined || now < wakeup.at) return;
    let next: Instant | undefined;
    for (const peer of this.#peers.values()) {
      peer.handleTimeout(now);
      next = earliest(next, peer.nextTimeout);
    }
    wakeup.reset(next);
  }

  /** May be sooner than needed, never later. */
  pollTimeout(): Instant | undefined {
    return this.#context.wakeup.at;
  }

  pollTransmit(): WireGuardTransmit | undefined {
    return this.#context.output.transmits.shift();
  }

  pollEvent(): WireGuardEvent | undefined {
    return this.#context.output.events.shift();
  }

  /** Whether a handshake message is worth the arithmetic. Under load the others get a cookie, or nothing. */
  #admit(
    payload: Uint8Array,
    message: Initiation | Response,
    { from, now }: Arrival,
    relayedFrom: NodePublic | undefined,
  ): boolean {
    const { output } = this.#context;
    if (!this.#macs.checkMac1(payload)) {
      output.drop("bad-mac1");
      return false;
    }
    if (!this.#load.arrive(now)) return true;
    const source = relayedFrom?.bytes ?? sourceBytes(from);
    if (!this.#macs.checkMac2(payload, source, now)) {
      output.drop("under-load");
      const reply = this.#macs.createReply(payload, message.sender, source, now);
      output.transmits.push({ peer: relayedFrom, kind: "cookie", payload: reply, replyTo: from });
      return false;
    }
    if (this.#limiter.allow(relayedFrom?.text ?? limitedSource(from), now)) return true;
    output.drop("rate-limited");
    return false;
  }

  #handleInitiation(message: Initiation, arrival: Arrival): void {
    const { identity, output } = this.#context;
    const read = readInitiation(identity, message);
    if (read === undefined) {
      output.drop("unauthenticated");
      return;
    }
    const peer = this.#peers.get(NodePublic.fromBytes(read.initiatorStatic).text);
    if (peer === undefined) output.drop("unknown-peer");
    else peer.handleInitiation(read, message, arrival);
  }
}

function sourceBytes(from: Path): Uint8Array {
  if (from.kind === "relay") return utf8(pathText(from));
  const port = new Uint8Array(2);
  viewOf(port).setUint16(0, from.to.port);
  return concat(from.to.ip.mapped, port);
}

function positive(interval: Millis | undefined): Millis | undefined {
  return interval !== undefined && interval > 0 ? interval : undefined;
}
