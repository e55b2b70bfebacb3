/**
 * How long a packet may be on one peer's way. Everyone's tunnel carries 1,280 bytes. More is used towards a peer
 * whose tunnel carries more, too, where the path between does:
 *
 *     we ping with padding: the ping is as long on the wire as a data packet would be ──pong──▶ the path carries it
 *     the peer pings us with padding ──▶ its tunnel is as large (peers that never do keep 1,280)
 *
 * The size in use is asked again and again. When only short pings are answered any more the path has shrunk, and
 * 1,280 holds again at once. Pure; the pings themselves are `PeerPaths`'.
 */
import { after, type Instant, type Millis, millis, seconds, since } from "../../base/time.ts";

/** What every tunnel carries, and every IPv6 link (RFC 8200 section 5). */
export const BASE_MTU = 1280;
/** Around the inner packet: IPv6 40, UDP 8, WireGuard 32 (net/tstun of Tailscale). */
const WIRE_OVERHEAD = 80;
/** Sizes on the wire worth trying (wgengine/magicsock, peermtu): PPPoE, Ethernet, jumbo frames of two kinds. */
const WIRE_SIZES: readonly number[] = [1400, 1500, 8000, 9000];
/** WireGuard pads to multiples of it. */
const PADDING = 16;
/** When the sizes not yet answered are tried after a path was found. */
const ROUNDS: readonly Millis[] = [0, 300, 1_000].map(millis);
/** A path may have grown. */
const RETRY_EVERY: Millis = seconds(60);
/** While in use, whether the size still passes is asked this often, and when unanswered this many times in a row. */
const CHECK_EVERY: Millis = seconds(1);
const CHECKS = 3;
const LEAST_PATIENCE: Millis = millis(200);

export class PathMtu {
  readonly #tunnel: number;
  readonly #sizes: readonly number[];
  /** The largest on the wire that we know to pass, and that the peer has sent. */
  #proven = 0;
  #heard = 0;
  /** What a former path carried holds until the first round is over. */
  #former = 0;
  #round: { readonly startedAt: Instant; next: number } | undefined;
  #checkAt: Instant | undefined;
  #unanswered = 0;
  #retryAt: Instant | undefined;

  /** @param tunnel the MTU of our own tunnel device */
  constructor(tunnel: number) {
    this.#tunnel = tunnel;
    const whole = tunnel + WIRE_OVERHEAD;
    this.#sizes = tunnel <= BASE_MTU ? [] : [...WIRE_SIZES.filter((size) => size < whole), whole];
  }

  /** Of packets in the tunnel, in bytes. */
  get mtu(): number {
    const carried = Math.min(Math.max(this.#proven, this.#former), this.#heard) - WIRE_OVERHEAD;
    if (carried >= this.#tunnel) return this.#tunnel;
    return Math.max(BASE_MTU, carried - (carried % PADDING));
  }

  /** The path is another one. */
  begin(now: Instant): void {
    if (this.#sizes.length === 0) return;
    this.#former = Math.max(this.#former, this.#proven);
    this.#search(now);
  }

  /** The peer pinged us with this many bytes on the wire. */
  heard(wire: number): void {
    if (wire > BASE_MTU + WIRE_OVERHEAD) this.#heard = Math.max(this.#heard, wire);
  }

  /** A ping of ours with this many bytes on the wire came back. */
  answered(wire: number, now: Instant): void {
    this.#proven = Math.max(this.#proven, wire);
    if (wire !== this.#proven) return;
    this.#unanswered = 0;
    this.#checkAt = after(now, CHECK_EVERY);
    this.#retryAt ??= after(now, RETRY_EVERY);
  }

  /** The peer's program is another one. */
  forget(): void {
    this.#heard = 0;
  }

  /** The sizes on the wire to ping with now. `active`: something is being sent. */
  due(now: Instant, { rtt, active }: { readonly rtt: Millis; readonly active: boolean }): readonly number[] {
    const sizes = new Set(this.#dueRound(now));
    if (!active) {
      this.#checkAt = undefined;
      this.#unanswered = 0;
      return [...sizes];
    }
    if (this.#retryAt !== undefined && now >= this.#retryAt) this.#retry(now);
    if (this.#proven === 0) return [...sizes];
    this.#checkAt ??= now;
    if (now < this.#checkAt) return [...sizes];
    if (this.#unanswered >= CHECKS) {
      this.#proven = 0;
      this.#former = 0;
      this.#search(now);
      return this.#dueRound(now);
    }
    this.#unanswered++;
    this.#checkAt = after(now, millis(Math.max(LEAST_PATIENCE, 2 * rtt + 50)));
    return [...sizes.add(this.#proven)];
  }

  /** When to ask again what is due. */
  next(active: boolean): Instant | undefined {
    const round = this.#round;
    const step = round === undefined ? undefined : ROUNDS[round.next];
    const times = [
      round === undefined || step === undefined ? undefined : after(round.startedAt, step),
      active ? this.#checkAt : undefined,
      active ? this.#retryAt : undefined,
    ].filter((at) => at !== undefined);
    return times.length === 0 ? undefined : times.reduce((a, b) => (b < a ? b : a));
  }

  #search(now: Instant): void {
    this.#proven = 0;
    this.#unanswered = 0;
    this.#checkAt = undefined;
    this.#retryAt = after(now, RETRY_EVERY);
    this.#round = { startedAt: now, next: 0 };
  }

  /** Tries again what did not pass; what passes stays. */
  #retry(now: Instant): void {
    this.#retryAt = after(now, RETRY_EVERY);
    if (this.#proven < (this.#sizes.at(-1) ?? 0)) this.#round ??= { startedAt: now, next: 0 };
  }

  #dueRound(now: Instant): readonly number[] {
    const round = this.#round;
    if (round === undefined) return [];
    const step = ROUNDS[round.next] ?? millis(0);
    if (since(round.startedAt, now) < step) return [];
    if (++round.next > 1) this.#former = 0;
    if (round.next >= ROUNDS.length) this.#round = undefined;
    return this.#sizes.filter((size) => size > this.#proven);
  }
}
