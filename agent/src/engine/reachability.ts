/**
 * What this node knows of its own place in the network: its endpoints, the latency of the
 * relays and its home among them. Asks STUN when that knowledge is missing or stale.
 */
import type { Ip, IpPort } from "../base/address.ts";
import { randomFraction, type Random } from "../base/random.ts";
import { after, earliest, type Instant, type Millis, millis, seconds, since } from "../base/time.ts";
import { Netcheck } from "../core/netcheck/netcheck.ts";
import type { NetcheckReport, SeenAddress } from "../core/netcheck/report.ts";
import { type DerpMap, emptyDerpMap } from "../core/path/derp-map.ts";
import type { RegionId } from "../core/path/path.ts";
import { type Endpoint, ownEndpoints, sameEndpoints } from "./endpoints.ts";
import type { Datagram } from "./machine.ts";

/** A call-me-maybe tells endpoints that are at most this old (endpointsFreshEnoughDuration of magicsock). */
const ENDPOINTS_FRESH: Millis = seconds(27);
/** While there are active peers STUN is asked again after this long, plus up to `ASK_SPREAD` (magicsock). */
const ASK_AFTER: Millis = seconds(20);
const ASK_SPREAD: Millis = seconds(6);

export type ReachabilityEvent =
  | { readonly kind: "endpoints"; readonly endpoints: readonly Endpoint[] }
  | { readonly kind: "report"; readonly report: NetcheckReport }
  | { readonly kind: "home"; readonly region: RegionId }
  /** No STUN answer: measure these regions by HTTPS. */
  | { readonly kind: "measure-https"; readonly regions: readonly RegionId[] };

export interface ReachabilityOptions {
  readonly localPort: number;
  readonly portIsFixed: boolean;
  /** Endpoints that the operator tells. */
  readonly explicit: readonly IpPort[];
}

export class Reachability {
  readonly #random: Random;
  readonly #options: ReachabilityOptions;
  readonly #netcheck: Netcheck;
  readonly #events: ReachabilityEvent[] = [];
  #derpMap: DerpMap = emptyDerpMap;
  #servers: ReadonlyMap<RegionId, readonly IpPort[]> = new Map();
  #interfaces: readonly Ip[] = [];
  #report: NetcheckReport | undefined;
  #reportAt: Instant | undefined;
  #endpoints: readonly Endpoint[] = [];
  #running = false;
  #askAt: Instant | undefined;

  constructor(random: Random, options: ReachabilityOptions) {
    this.#random = random;
    this.#options = options;
    this.#netcheck = new Netcheck(random);
  }

  get endpoints(): readonly Endpoint[] {
    return this.#endpoints;
  }

  get report(): NetcheckReport | undefined {
    return this.#report;
  }

  /**
   * Where the internet should reach our port unasked: an endpoint that the operator tells, or our own address where no NAT
   * changes it.
   * @param mapped addresses that the cloud maps to ours one to one
   */
  openEndpoint(mapped: readonly Ip[]): IpPort | undefined {
    const { explicit, localPort } = this.#options;
    const seenAt = this.#report?.globalV4;
    if (seenAt === undefined) return undefined;
    const own = [...mapped, ...this.#interfaces].find(({ text }) => text === seenAt.ip.text);
    return own !== undefined && seenAt.port === localPort
      ? seenAt
      : explicit.find(({ ip }) => ip.isV4 && !ip.isPrivate && !ip.isLoopback);
  }

  setDerpMap(derpMap: DerpMap, now: Instant): void {
    this.#derpMap = derpMap;
    this.#running = false;
    this.ask(now);
    const homes = [...derpMap.regions.values()].filter((region) => !region.noMeasureNoHome);
    const [only] = homes;
    if (homes.length === 1 && only !== undefined) this.#events.push({ kind: "home", region: only.id });
  }

  /** The addresses of the STUN servers of each region, their names resolved. */
  setStunServers(servers: ReadonlyMap<RegionId, readonly IpPort[]>, now: Instant): void {
    this.#servers = servers;
    this.#running = false;
    this.ask(now);
  }

  /** The host's own addresses. A change makes what STUN said worthless. */
  setInterfaces(interfaces: readonly Ip[], now: Instant): void {
    this.#interfaces = interfaces;
    this.#reportAt = undefined;
    this.#running = false;
    this.#update();
    this.ask(now, { full: true });
  }

  /** Whether the endpoints may be told to a peer as they are; if not, a new answer is under way. */
  freshen(now: Instant): boolean {
    const fresh = this.#reportAt !== undefined && since(this.#reportAt, now) < ENDPOINTS_FRESH;
    if (fresh || this.#servers.size === 0) return true;
    this.ask(now);
    // Where no UDP passes there is nothing to wait for.
    return this.#report?.udp === false;
  }

  ask(now: Instant, { full = false } = {}): void {
    if (this.#running || this.#servers.size === 0) return;
    this.#running = true;
    this.#askAt = undefined;
    this.#netcheck.start(this.#derpMap, this.#servers, now, { full });
    this.#collect(now);
  }

  /** Begins a full report, in place of one under way. Returns false where nobody can be asked. */
  check(now: Instant): boolean {
    if (this.#servers.size === 0) return false;
    this.#running = false;
    this.ask(now, { full: true });
    return true;
  }

  /** Keeps the NAT's mapping and our knowledge of it alive while connections are in use. */
  setActive(active: boolean, now: Instant): void {
    if (!active) this.#askAt = undefined;
    else this.#askAt ??= after(now, millis(ASK_AFTER + randomFraction(this.#random) * ASK_SPREAD));
  }

  /** Returns false for a packet that answers nothing of ours. */
  handleStun(from: IpPort, payload: Uint8Array, now: Instant): boolean {
    const ours = this.#netcheck.handleStun(from, payload, now);
    this.#collect(now);
    return ours;
  }

  handleHttpsLatency(region: RegionId, latency: Millis | undefined, now: Instant): void {
    this.#netcheck.handleHttpsLatency(region, latency, now);
    this.#collect(now);
  }

  handleRelayHeard(region: RegionId, now: Instant): void {
    this.#netcheck.handleRelayHeard(region, now);
  }

  handleTimeout(now: Instant): void {
    if (this.#askAt !== undefined && now >= this.#askAt) this.ask(now);
    this.#netcheck.handleTimeout(now);
    this.#collect(now);
  }

  pollTimeout(): Instant | undefined {
    return earliest(this.#askAt, this.#netcheck.pollTimeout());
  }

  pollTransmit(): Datagram | undefined {
    return this.#netcheck.pollTransmit();
  }

  pollEvent(): ReachabilityEvent | undefined {
    return this.#events.shift();
  }

  #collect(now: Instant): void {
    const regions = this.#netcheck.pollNeedHttps();
    if (regions !== undefined) this.#events.push({ kind: "measure-https", regions });
    const report = this.#netcheck.pollReport();
    if (report === undefined) return;
    this.#running = false;
    this.#report = report;
    this.#reportAt = now;
    this.#events.push({ kind: "report", report });
    if (report.preferredDerp !== undefined) this.#events.push({ kind: "home", region: report.preferredDerp });
    this.#update();
  }

  #update(): void {
    const report = this.#report;
    const stun =
      report === undefined ? [] : [...seen(report.globalV4Counters), ...seen(report.globalV6Counters)];
    const endpoints = ownEndpoints({
      ...this.#options,
      stun: this.#reportAt === undefined ? [] : stun,
      mappingVaries: report?.mappingVariesByDestIp,
      interfaces: this.#interfaces,
    });
    if (sameEndpoints(endpoints, this.#endpoints)) return;
    this.#endpoints = endpoints;
    this.#events.push({ kind: "endpoints", endpoints });
  }
}

/** The address reported first, and others that were reported more than once. */
function seen(addresses: readonly SeenAddress[]): readonly IpPort[] {
  return addresses.filter(({ count }, i) => i === 0 || count > 1).map(({ address }) => address);
}
