/**
 * Whether peers try in vain to reach this node's port.
 *
 * A peer pings every address of ours before it asks us, by a relay, to do the same (call-me-maybe). So where our port is open,
 * its datagram is here before its call, or soon after. Calls alone prove nothing: the fault may be the caller's. Only those
 * count whose UDP is known to work, and they have to come from two networks:
 *
 *     counts      a caller with a private address beside a public one, which only a STUN answer can have told it
 *     does not    one without a public IPv4 address (its UDP may be blocked), or with no other (it may never have used UDP)
 *
 * The verdict holds until a peer's datagram comes from the internet, or our own addresses change. Whether the port should be
 * open is for others to say.
 */
import { type Ip, type IpPort, Prefix } from "../base/address.ts";
import type { NodePublic } from "../base/keys.ts";
import { type Instant, type Millis, minutes, seconds, since } from "../base/time.ts";

/** Peers have learnt our addresses by then. */
const SETTLE: Millis = seconds(10);
/** One peer has tried for so long, and so often. */
const TRIED_FOR: Millis = seconds(10);
const TRIES = 3;
/** What came longer before than this does not go with it. */
const WINDOW: Millis = minutes(5);
const NETWORKS = 2;

interface Caller {
  /** The public address that it calls from. */
  readonly network: string;
  readonly firstAt: Instant;
  lastAt: Instant;
  calls: number;
}

export class Unreached {
  readonly #callers = new Map<string, Caller>();
  #since: Instant | undefined;
  #verdict = false;

  /** Two networks or more have tried in vain. */
  get verdict(): boolean {
    return this.#verdict;
  }

  /** What we tell peers of our addresses is new. */
  handleEndpoints(now: Instant): void {
    this.#since = now;
    this.#forget();
  }

  /** A peer asks by a relay to be pinged at these. */
  handleCall(peer: NodePublic, endpoints: readonly IpPort[], now: Instant): void {
    if (this.#since === undefined || since(this.#since, now) < SETTLE) return;
    const network = networkOf(endpoints);
    if (network === undefined) return;
    const known = this.#callers.get(peer.text);
    const goesOn = known?.network === network && since(known.lastAt, now) < WINDOW;
    if (known !== undefined && goesOn) [known.lastAt, known.calls] = [now, known.calls + 1];
    else this.#callers.set(peer.text, { network, firstAt: now, lastAt: now, calls: 1 });
    this.#judge(now);
  }

  /** A peer's authentic datagram, without a relay. */
  handleDatagram(peer: NodePublic, from: Ip): void {
    this.#callers.delete(peer.text);
    if (isPublic(from)) this.#forget();
  }

  #judge(now: Instant): void {
    const inVain = [...this.#callers.values()].filter(
      ({ firstAt, lastAt, calls }) =>
        calls >= TRIES && since(firstAt, lastAt) >= TRIED_FOR && since(lastAt, now) < WINDOW,
    );
    this.#verdict ||= new Set(inVain.map(({ network }) => network)).size >= NETWORKS;
  }

  #forget(): void {
    this.#callers.clear();
    this.#verdict = false;
  }
}

function networkOf(endpoints: readonly IpPort[]): string | undefined {
  const v4 = endpoints.map(({ ip }) => ip).filter((ip) => ip.isV4);
  return v4.some((ip) => !isPublic(ip)) ? v4.find(isPublic)?.text : undefined;
}

/** RFC 6598: a provider's NAT, and the addresses in tunnels such as ours. */
const SHARED = Prefix.parse("100.64.0.0/10");

function isPublic(ip: Ip): boolean {
  return !ip.isPrivate && !ip.isLoopback && !ip.isLinkLocal && !ip.isUnspecified && !SHARED.contains(ip);
}
