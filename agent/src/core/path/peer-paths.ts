/**
 * One peer's paths: which one its packets take now, and what is done to find a better one.
 *
 * A connection starts on the relay, looks for a direct path meanwhile, moves when a pong
 * has proven one, and goes back to the relay when the direct path falls silent:
 *
 *     relay ──pong──▶ direct ──probe unanswered──▶ in doubt (both) ──still silent──▶ relay
 *                       ▲                             │
 *                       └────────────pong─────────────┘
 *
 * Only pongs prove a path: data that arrives shows that the peer reaches us, not that we
 * reach the peer. Pure: says which pings to send, never sends one. What a ping looks like
 * on the wire is disco's; who the peer is, and its keys, are the engine's.
 */
import type { IpPort } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import { randomBytes, type Random } from "../../base/random.ts";
import { after, earliest, type Instant, type Millis, millis, seconds, since } from "../../base/time.ts";
import { betterAddress } from "./better.ts";
import { type Candidate, Candidates } from "./candidate.ts";
import { BASE_MTU, PathMtu } from "./path-mtu.ts";
import { direct, type Path, pathText, type RegionId, relay } from "./path.ts";

/** How long a pong proves its path (as magicsock's trustUDPAddrDuration). */
const TRUST: Millis = millis(6_500);
/** A peer is active this long after our own last packet to it (sessionActiveTimeout of magicsock). */
const ACTIVE: Millis = seconds(45);
/** While active, the path in use is pinged this often even when nothing is sent. */
const HEARTBEAT: Millis = seconds(3);
/** While packets go out, the direct path is asked this often whether it still works. */
const PROBE_EVERY: Millis = millis(250);
/** A probe may be answered this late before the path is in doubt; slow paths get twice their round trip and 50 ms. */
const PROBE_PATIENCE: Millis = millis(100);
/** A path in doubt for this long is given up. */
const LOST_AFTER: Millis = seconds(3);
const PING_LIFETIME: Millis = seconds(5);
/** When the candidates are pinged after discovery began. The first tries come fast: one lost ping costs little. */
const DISCOVERY_STEPS: readonly Millis[] = [0, 100, 300, 700, 1_500].map(millis);
/** After a direct path was lost, how often it is tried again, and for how long. */
const WIN_BACK_EVERY: Millis = millis(500);
const WIN_BACK_FOR: Millis = seconds(60);
/** Two pings to one address are at least this far apart. */
const PING_GAP: Millis = millis(50);
/** An address that is not in use, while another is proven, is not pinged more often than this. */
const SPARE_PING_GAP: Millis = seconds(5);
/** Call-me-maybe messages of one peer: the first repeats come fast. */
const CALL_GAPS: readonly Millis[] = [500, 1_500, 5_000].map(millis);
/** A direct path slower than this is compared with the others again every `UPGRADE_EVERY`. */
const GOOD_ENOUGH: Millis = millis(5);
const UPGRADE_EVERY: Millis = seconds(60);
const TX_ID_LENGTH = 12;
/** Wire MTU that an unpadded ping stands for (disco). */
const WIRE_MTU = 1360;

export type PathTransmit =
  | {
      readonly kind: "ping";
      readonly via: Path;
      readonly txId: Uint8Array;
      /** How long it has to be on the wire, without being cut; `undefined`: as it is. */
      readonly wireSize: number | undefined;
    }
  | { readonly kind: "call-me-maybe"; readonly region: RegionId };

export type PathEvent =
  /** The peer's packets take another path from now on (`undefined`: none is known). */
  | { readonly kind: "moved"; readonly to: Path | undefined }
  /** Packets sent to the direct path since `since` may be lost: send them by the relay as well. */
  | { readonly kind: "doubt"; readonly since: Instant }
  | { readonly kind: "pong"; readonly txId: string; readonly via: Path; readonly rtt: Millis };

interface SentPing {
  readonly via: Path;
  readonly at: Instant;
  readonly wireSize: number | undefined;
}

interface Best {
  readonly address: IpPort;
  rtt: Millis;
  trustUntil: Instant;
  /** When the latest ping that was answered had been sent: everything before it arrived. */
  provenAt: Instant;
  pingedAt: Instant;
  /** Since when our pings have been without an answer. */
  silentSince: Instant | undefined;
  inDoubt: boolean;
}

interface Discovery {
  readonly startedAt: Instant;
  step: number;
}

export class PeerPaths {
  readonly #random: Random;
  readonly #candidates = new Candidates();
  readonly #pings = new Map<string, SentPing>();
  readonly #transmits: PathTransmit[] = [];
  readonly #events: PathEvent[] = [];
  #relay: RegionId | undefined;
  #best: Best | undefined;
  #trafficAt: Instant | undefined;
  #heartbeatAt: Instant | undefined;
  #discovery: Discovery | undefined;
  #calls = 0;
  #nextCallAt: Instant | undefined;
  #lostAt: Instant | undefined;
  #comparedAt: Instant | undefined;
  readonly #mtu: PathMtu;

  /** @param tunnelMtu of our own tunnel device; with more than 1,280 bytes it is found out what the path carries */
  constructor(random: Random, tunnelMtu: number = BASE_MTU) {
    this.#random = random;
    this.#mtu = new PathMtu(tunnelMtu);
  }

  /** How long a packet in the tunnel to the peer may be, in bytes. */
  get mtu(): number {
    return this.#mtu.mtu;
  }

  /** The peer's home relay, from the map; `undefined` where it has none. */
  setRelay(region: RegionId | undefined): void {
    this.#relay = region;
  }

  /** Where the network map says that the peer may be. */
  setMapEndpoints(endpoints: readonly IpPort[], now: Instant): void {
    this.#candidates.setFromMap(endpoints);
    if (this.isActive(now) && !this.#isProven(now)) this.#beginDiscovery(now);
  }

  /**
   * The paths that a packet sent now must take: one; two while the direct one is in doubt;
   * none where the peer has no relay and no direct path. `user` is false for keepalives,
   * which must not keep an unused peer active.
   */
  pathsFor(user: boolean, now: Instant): readonly Path[] {
    if (user && this.#noteTraffic(now) && this.#relay !== undefined) this.#sendPing(relay(this.#relay), now);
    const best = this.#best;
    const fallback = this.#relay === undefined ? [] : [relay(this.#relay)];
    if (best === undefined) return fallback;
    if (user) this.#probe(best, now);
    return this.#isProven(now) ? [direct(best.address)] : [direct(best.address), ...fallback];
  }

  /** The direct address in use, and whether the relay has to get every packet, too. */
  directNow(now: Instant): { readonly address: IpPort; readonly inDoubt: boolean } | undefined {
    const best = this.#best;
    return best === undefined ? undefined : { address: best.address, inDoubt: !this.#isProven(now) };
  }

  /** The direct address in use, while it is proven. */
  directAddress(now: Instant): IpPort | undefined {
    return this.#isProven(now) ? this.#best?.address : undefined;
  }

  /** Whether we sent the peer something of our own within 45 s. */
  isActive(now: Instant): boolean {
    return this.#trafficAt !== undefined && since(this.#trafficAt, now) < ACTIVE;
  }

  /**
   * Asks by the path in use: the relay until a direct one is proven. Counts as traffic, so
   * discovery runs beside it. Returns the transaction id (hex) that the `pong` event will
   * carry, or `undefined` where there is no way to ask.
   */
  ping(now: Instant): string | undefined {
    this.#noteTraffic(now);
    const address = this.directAddress(now);
    if (address !== undefined) return this.#sendPing(direct(address), now);
    if (this.#relay !== undefined) return this.#sendPing(relay(this.#relay), now);
    return this.#best === undefined ? undefined : this.#sendPing(direct(this.#best.address), now);
  }

  /** A ping of the peer, its box opened. The caller answers it. `wireSize`: of a padded one, with IP and UDP. */
  handlePing(from: Path, now: Instant, wireSize = 0): void {
    if (from.kind !== "direct") return;
    this.#mtu.heard(wireSize);
    const candidate = this.#candidates.learn(from.to, now);
    const gap = this.#isProven(now) ? SPARE_PING_GAP : PING_GAP;
    if (this.#best?.address.text !== from.to.text || !this.#isProven(now))
      this.#pingCandidate(candidate, gap, now);
  }

  /** A pong of the peer. Only one that answers a ping of ours changes anything. */
  handlePong(txId: Uint8Array, now: Instant): void {
    const id = toHex(txId);
    const ping = this.#pings.get(id);
    if (ping === undefined) return;
    this.#pings.delete(id);
    const rtt = since(ping.at, now);
    this.#events.push({ kind: "pong", txId: id, via: ping.via, rtt });
    if (ping.via.kind !== "direct") return;
    this.#prove(ping.via.to, ping.at, rtt, now);
    if (ping.wireSize !== undefined && ping.via.to.text === this.#best?.address.text)
      this.#mtu.answered(ping.wireSize, now);
  }

  /** The peer says where it is, and that it is pinging us from there. */
  handleCallMeMaybe(endpoints: readonly IpPort[], now: Instant): void {
    this.#candidates.setFromCallMeMaybe(endpoints);
    if (this.#isProven(now)) {
      for (const candidate of this.#candidates.all) this.#pingCandidate(candidate, SPARE_PING_GAP, now);
      return;
    }
    this.#candidates.forgetPings();
    this.#discovery = undefined;
    this.#beginDiscovery(now);
  }

  /** The operating system refused to send to `address`: that path is gone. */
  handleSendError(address: IpPort, now: Instant): void {
    if (this.#best?.address.text === address.text) this.#lose(now);
  }

  /** The peer proved its key from there. Only pongs prove a path; without them, see `PlainPath`. */
  handleAuthenticated(_from: Path): void {}

  /** The peer's program is another one: what its tunnel carries has to be heard again. */
  handlePeerRestarted(): void {
    this.#mtu.forget();
  }

  /** Our own network changed, or the peer restarted: nothing that was proven holds. */
  handleNetworkChange(now: Instant): void {
    this.#candidates.forgetPings();
    this.#pings.clear();
    if (this.#best !== undefined) this.#lose(now);
    this.#discovery = undefined;
    if (this.isActive(now)) this.#beginDiscovery(now);
  }

  handleTimeout(now: Instant): void {
    for (const [id, { at }] of this.#pings) if (since(at, now) >= PING_LIFETIME) this.#pings.delete(id);
    this.#watchBest(now);
    this.#probeMtu(now);
    this.#advanceDiscovery(now);
    if (this.#heartbeatAt !== undefined && now >= this.#heartbeatAt) this.#heartbeat(now);
  }

  pollTimeout(): Instant | undefined {
    const discovery = this.#discovery;
    const step = discovery === undefined ? undefined : DISCOVERY_STEPS[discovery.step];
    let at = earliest(this.#heartbeatAt, this.#bestDeadline());
    if (discovery !== undefined && step !== undefined) at = earliest(at, after(discovery.startedAt, step));
    if (this.#best !== undefined) at = earliest(at, this.#mtu.next(this.#isInUse(this.#best)));
    const [oldest] = this.#pings.values();
    return oldest === undefined ? at : earliest(at, after(oldest.at, PING_LIFETIME));
  }

  pollTransmit(): PathTransmit | undefined {
    return this.#transmits.shift();
  }

  pollEvent(): PathEvent | undefined {
    return this.#events.shift();
  }

  #isProven(now: Instant): boolean {
    const best = this.#best;
    return best !== undefined && !best.inDoubt && now <= best.trustUntil;
  }

  /** Returns whether the peer was not in use before, so that a search began. */
  #noteTraffic(now: Instant): boolean {
    const wasActive = this.isActive(now);
    this.#trafficAt = now;
    if (this.#heartbeatAt === undefined) this.#heartbeatAt = after(now, HEARTBEAT);
    if (wasActive || this.#isProven(now)) return false;
    this.#calls = 0;
    this.#nextCallAt = undefined;
    this.#beginDiscovery(now);
    return true;
  }

  /** Pings the candidates now and, faster than a user notices, again. */
  #beginDiscovery(now: Instant): void {
    if (this.#discovery !== undefined) return;
    this.#discovery = { startedAt: now, step: 0 };
    this.#advanceDiscovery(now);
  }

  #advanceDiscovery(now: Instant): void {
    const discovery = this.#discovery;
    if (discovery === undefined) return;
    if (this.#isProven(now)) {
      this.#discovery = undefined;
      return;
    }
    let due = DISCOVERY_STEPS[discovery.step];
    if (due === undefined || since(discovery.startedAt, now) < due) return;
    while (due !== undefined && since(discovery.startedAt, now) >= due)
      due = DISCOVERY_STEPS[++discovery.step];
    if (due === undefined) this.#discovery = undefined;
    this.#pingAll(now);
  }

  /** Pings every candidate, then asks the peer to do the same: our pings open our own NAT for its answers. */
  #pingAll(now: Instant): void {
    for (const candidate of this.#candidates.all) this.#pingCandidate(candidate, PING_GAP, now);
    this.#callMeMaybe(now);
  }

  #callMeMaybe(now: Instant): void {
    if (this.#relay === undefined || !this.isActive(now)) return;
    if (this.#nextCallAt !== undefined && now < this.#nextCallAt) return;
    const gap = CALL_GAPS[Math.min(this.#calls++, CALL_GAPS.length - 1)] ?? seconds(5);
    this.#nextCallAt = after(now, gap);
    this.#transmits.push({ kind: "call-me-maybe", region: this.#relay });
  }

  #pingCandidate(candidate: Candidate, gap: Millis, now: Instant): void {
    if (candidate.pingedAt !== undefined && since(candidate.pingedAt, now) < gap) return;
    candidate.pingedAt = now;
    this.#sendPing(direct(candidate.address), now);
  }

  /** A padded one says nothing about the path when it is not answered. */
  #sendPing(via: Path, now: Instant, wireSize?: number): string {
    const txId = randomBytes(this.#random, TX_ID_LENGTH);
    const id = toHex(txId);
    this.#pings.set(id, { via, at: now, wireSize });
    this.#transmits.push({ kind: "ping", via, txId, wireSize });
    const best = this.#best;
    if (wireSize === undefined && best !== undefined && pathText(via) === best.address.text) {
      best.pingedAt = now;
      best.silentSince ??= now;
    }
    return id;
  }

  /** Finds out how long packets may be on the path in use. */
  #probeMtu(now: Instant): void {
    const best = this.#best;
    if (best === undefined) return;
    const active = this.isActive(now) && this.#isInUse(best);
    for (const size of this.#mtu.due(now, { rtt: best.rtt, active }))
      this.#sendPing(direct(best.address), now, size);
  }

  #isInUse(best: Best): boolean {
    return this.#trafficAt !== undefined && !best.inDoubt;
  }

  /** Asks the path in use whether it works, where the last question was answered long enough ago. */
  #probe(best: Best, now: Instant): void {
    if (best.silentSince !== undefined) return;
    const gap = this.#isProven(now) ? PROBE_EVERY : PING_GAP;
    if (since(best.pingedAt, now) >= gap) this.#sendPing(direct(best.address), now);
  }

  #prove(address: IpPort, sentAt: Instant, rtt: Millis, now: Instant): void {
    const best = this.#best;
    if (best?.address.text === address.text) {
      const doubted = best.inDoubt;
      best.rtt = rtt;
      best.trustUntil = after(now, TRUST);
      if (sentAt > best.provenAt) best.provenAt = sentAt;
      best.silentSince = undefined;
      best.inDoubt = false;
      if (doubted) this.#events.push({ kind: "moved", to: direct(address) });
      return;
    }
    if (
      best === undefined ||
      !this.#isProven(now) ||
      betterAddress(quality(address, rtt), quality(best.address, best.rtt))
    ) {
      this.#moveTo(address, sentAt, rtt, now);
    }
  }

  #moveTo(address: IpPort, sentAt: Instant, rtt: Millis, now: Instant): void {
    this.#best = {
      address,
      rtt,
      trustUntil: after(now, TRUST),
      provenAt: sentAt,
      pingedAt: sentAt,
      silentSince: undefined,
      inDoubt: false,
    };
    this.#discovery = undefined;
    this.#calls = 0;
    this.#nextCallAt = undefined;
    this.#comparedAt = now;
    this.#lostAt = undefined;
    this.#events.push({ kind: "moved", to: direct(address) });
    this.#mtu.begin(now);
    this.#probeMtu(now);
  }

  /** How long the path in use may take to answer. */
  #patience(best: Best): Millis {
    return millis(Math.max(PROBE_PATIENCE, 2 * best.rtt + 50));
  }

  #bestDeadline(): Instant | undefined {
    const best = this.#best;
    if (best?.silentSince === undefined) return undefined;
    const patience = this.#patience(best);
    if (!best.inDoubt && best.pingedAt === best.silentSince)
      return after(best.silentSince, millis(patience / 2));
    if (!best.inDoubt) return after(best.silentSince, patience);
    return earliest(after(best.pingedAt, patience), after(best.silentSince, LOST_AFTER));
  }

  /** Follows an unanswered probe: asked again at half time, in doubt when its time is over, in the end given up. */
  #watchBest(now: Instant): void {
    const best = this.#best;
    const due = this.#bestDeadline();
    if (best?.silentSince === undefined || due === undefined || now < due) return;
    const silence = since(best.silentSince, now);
    if (silence >= LOST_AFTER && best.inDoubt) {
      this.#lose(now);
      return;
    }
    if (!best.inDoubt && silence >= this.#patience(best)) {
      best.inDoubt = true;
      this.#events.push({ kind: "doubt", since: best.provenAt });
      if (this.#relay !== undefined) this.#events.push({ kind: "moved", to: relay(this.#relay) });
    }
    this.#sendPing(direct(best.address), now);
  }

  /** The direct path is gone: the relay carries all, and the candidates are tried again soon. */
  #lose(now: Instant): void {
    const doubted = this.#best?.inDoubt ?? false;
    const provenAt = this.#best?.provenAt;
    this.#best = undefined;
    this.#lostAt = now;
    if (!doubted) {
      if (provenAt !== undefined) this.#events.push({ kind: "doubt", since: provenAt });
      this.#events.push({ kind: "moved", to: this.#relay === undefined ? undefined : relay(this.#relay) });
    }
    if (this.isActive(now)) {
      this.#heartbeatAt = after(now, WIN_BACK_EVERY);
      this.#beginDiscovery(now);
    }
  }

  #heartbeat(now: Instant): void {
    if (!this.isActive(now)) {
      this.#heartbeatAt = undefined;
      return;
    }
    const best = this.#best;
    this.#candidates.prune(now, best?.address);
    const proven = this.#isProven(now);
    const winBack = !proven && this.#lostAt !== undefined && since(this.#lostAt, now) < WIN_BACK_FOR;
    this.#heartbeatAt = after(now, winBack ? WIN_BACK_EVERY : HEARTBEAT);
    if (best !== undefined && best.silentSince === undefined) this.#sendPing(direct(best.address), now);
    const compare =
      best !== undefined && best.rtt > GOOD_ENOUGH && since(this.#comparedAt ?? now, now) >= UPGRADE_EVERY;
    if (compare) this.#comparedAt = now;
    if (!proven || compare) this.#pingAll(now);
  }
}

function quality(address: IpPort, rtt: Millis): { address: IpPort; latency: Millis; wireMtu: number } {
  return { address, latency: rtt, wireMtu: WIRE_MTU };
}
