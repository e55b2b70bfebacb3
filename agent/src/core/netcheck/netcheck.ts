/**
 * Netcheck: what kind of network this node is in. It asks the relays' STUN servers, from the tunnel's own port,
 * and learns the node's public addresses, whether its NAT is hard, each region's latency, and the home region.
 *
 * A report is made as soon as the rest would teach nothing or is clearly slower. Where no UDP answer comes it asks
 * for latencies by HTTPS, which is for others to measure. Names are resolved by others too.
 */
import type { IpPort } from "../../base/address.ts";
import { toHex } from "../../base/bytes.ts";
import { randomBytes, type Random } from "../../base/random.ts";
import {
  after,
  earliest,
  type Instant,
  instant,
  type Millis,
  millis,
  minutes,
  seconds,
  since,
} from "../../base/time.ts";
import type { DerpMap } from "../path/derp-map.ts";
import type { RegionId } from "../path/path.ts";
import { decodeBindingResponse, encodeBindingRequest, STUN_TX_ID_LENGTH } from "../stun/message.ts";
import { Findings } from "./findings.ts";
import { HomeRegion } from "./home-region.ts";
import { fullPlan, incrementalPlan, type ProbeSet, type StunServers } from "./plan.ts";
import type { NetcheckReport } from "./report.ts";

export type { NetcheckReport } from "./report.ts";

/** Limits of net/netcheck. */
const REPORT_LIMIT: Millis = seconds(5);
const STUN_LIMIT: Millis = seconds(3);
const FULL_EVERY: Millis = minutes(5);
/** After answers from this many regions the others get only as long again as … */
const ENOUGH_REGIONS = 3;
const PATIENCE = { full: 2, incremental: 1 } as const; // … times the slowest answer so far,
/** but at least this long: another family or server may be a little slower than one on our own link. */
const MIN_PATIENCE: Millis = millis(20);
/** After the last probe. HTTPS is asked for then; a UDP answer, if there is one, still overtakes it. */
const UDP_PATIENCE: Millis = millis(300);

interface Run {
  readonly derpMap: DerpMap;
  readonly startedAt: Instant;
  readonly full: boolean;
  readonly findings: Findings;
  readonly sets: readonly RunningSet[];
  /** Regions whose HTTPS latency was asked for and is not known yet. */
  httpsPending: Set<RegionId> | undefined;
  /** Nothing more is sent, and waited for only if nothing came. */
  stunOver: boolean;
  /** So many regions have answered that the others' time is cut short. */
  hasEnough: boolean;
  stopAt: Instant | undefined;
}

interface RunningSet {
  readonly plan: ProbeSet;
  sent: number;
  answered: boolean;
}

interface InFlight {
  readonly run: Run;
  readonly set: RunningSet;
  readonly to: IpPort;
  readonly sentAt: Instant;
}

export class Netcheck {
  readonly #random: Random;
  readonly #home = new HomeRegion();
  readonly #heard = new Map<RegionId, Instant>();
  readonly #inFlight = new Map<string, InFlight>();
  readonly #transmits: { readonly to: IpPort; readonly payload: Uint8Array }[] = [];
  #run: Run | undefined;
  #needHttps: readonly RegionId[] | undefined;
  #report: NetcheckReport | undefined;
  #last: NetcheckReport | undefined;
  #lastFullAt: Instant | undefined;
  #lastAsked: readonly [DerpMap, StunServers] | undefined;

  constructor(random: Random) {
    this.#random = random;
  }

  /** The last finished report. */
  get last(): NetcheckReport | undefined {
    return this.#last;
  }

  /**
   * Begins a report; one that is under way is dropped. `full` asks all regions: ask for it when the network
   * changed. It is done by itself every 5 minutes, after a report without UDP, and for a new map or new servers.
   */
  start(derpMap: DerpMap, servers: StunServers, now: Instant, { full = false } = {}): void {
    const wantsFull = full || this.#run?.full === true || this.#isFullDue(derpMap, servers, now);
    const last = wantsFull ? undefined : this.#last;
    this.#lastAsked = [derpMap, servers];
    this.#forgetRun(now);
    const plan = last === undefined ? fullPlan(derpMap, servers) : incrementalPlan(derpMap, servers, last);
    this.#run = {
      derpMap,
      startedAt: now,
      full: last === undefined,
      findings: new Findings(),
      sets: plan.map((set) => ({ plan: set, sent: 0, answered: false })),
      httpsPending: undefined,
      stunOver: false,
      hasEnough: false,
      stopAt: undefined,
    };
    this.#advance(now);
  }

  /** Returns whether `packet` answers a probe of ours, be it too late. */
  handleStun(_from: IpPort, packet: Uint8Array, now: Instant): boolean {
    const response = decodeBindingResponse(packet);
    if (typeof response === "string") return false;
    const key = toHex(response.txId);
    const probe = this.#inFlight.get(key);
    if (probe === undefined) return false;
    this.#inFlight.delete(key);
    if (probe.run !== this.#run) return true;
    const { region, family } = probe.set.plan;
    probe.set.answered = true;
    probe.run.findings.addAnswer(region, family, probe.to, response.address, since(probe.sentAt, now));
    setStop(probe.run, now);
    this.#advance(now);
    return true;
  }

  /** A frame came from this region's relay: it is alive, even if it was not measured. */
  handleRelayHeard(region: RegionId, now: Instant): void {
    this.#heard.set(region, now);
  }

  /** The answer to `pollNeedHttps`, region by region; `undefined` for a region that did not answer. */
  handleHttpsLatency(region: RegionId, latency: Millis | undefined, now: Instant): void {
    const run = this.#run;
    if (run?.httpsPending?.delete(region) !== true) return;
    if (latency !== undefined) run.findings.addHttps(region, latency);
    this.#advance(now);
  }

  handleTimeout(now: Instant): void {
    this.#advance(now);
  }

  pollTimeout(): Instant | undefined {
    const run = this.#run;
    if (run === undefined) return undefined;
    const limit = after(run.startedAt, run.stunOver ? REPORT_LIMIT : STUN_LIMIT);
    let next = earliest(run.stopAt, limit);
    for (const set of run.sets) next = earliest(next, nextProbeAt(run, set));
    return run.httpsPending === undefined && !run.findings.udp ? earliest(next, silentAt(run)) : next;
  }

  pollTransmit(): { readonly to: IpPort; readonly payload: Uint8Array } | undefined {
    return this.#transmits.shift();
  }

  /** The regions to measure by HTTPS, once when no UDP answer comes; tell each by `handleHttpsLatency`. */
  pollNeedHttps(): readonly RegionId[] | undefined {
    const regions = this.#needHttps;
    this.#needHttps = undefined;
    return regions;
  }

  pollReport(): NetcheckReport | undefined {
    const report = this.#report;
    this.#report = undefined;
    return report;
  }

  #advance(now: Instant): void {
    const run = this.#run;
    if (run === undefined) return;
    run.stunOver = now >= after(run.startedAt, STUN_LIMIT);
    for (const set of run.sets) this.#sendDue(run, set, now);
    if (!run.findings.udp && run.httpsPending === undefined && now >= silentAt(run)) this.#askHttps(run);
    if (isOver(run, now)) this.#finish(run, now);
  }

  #sendDue(run: Run, set: RunningSet, now: Instant): void {
    for (let at = nextProbeAt(run, set); at !== undefined && at <= now; at = nextProbeAt(run, set)) {
      const to = set.plan.probes[set.sent++]?.to;
      if (to === undefined) return;
      const txId = randomBytes(this.#random, STUN_TX_ID_LENGTH);
      this.#inFlight.set(toHex(txId), { run, set, to, sentAt: now });
      this.#transmits.push({ to, payload: encodeBindingRequest(txId) });
    }
  }

  #askHttps(run: Run): void {
    const regions = [...run.derpMap.regions.values()]
      .filter((region) => !region.noMeasureNoHome && region.nodes.some((node) => !node.stunOnly))
      .map(({ id }) => id);
    run.httpsPending = new Set(regions);
    if (regions.length > 0) this.#needHttps = regions;
  }

  #finish(run: Run, now: Instant): void {
    const { findings, startedAt, derpMap } = run;
    const measured = {
      latency: findings.latency,
      scores: derpMap.regionScore,
      startedAt,
      heard: this.#heard,
    };
    this.#last = findings.toReport(this.#home.choose(measured, now));
    this.#report = this.#last;
    if (run.full) this.#lastFullAt = startedAt;
    this.#run = undefined;
    this.#needHttps = undefined;
    this.#transmits.length = 0;
  }

  #isFullDue(derpMap: DerpMap, servers: StunServers, now: Instant): boolean {
    const [lastMap, lastServers] = this.#lastAsked ?? [];
    if (lastMap !== derpMap || lastServers !== servers || this.#last?.udp !== true) return true;
    return this.#lastFullAt === undefined || since(this.#lastFullAt, now) >= FULL_EVERY;
  }

  /** Probes of earlier runs are still known as ours for a while. */
  #forgetRun(now: Instant): void {
    this.#run = undefined;
    this.#needHttps = undefined;
    this.#transmits.length = 0;
    for (const [txId, { sentAt }] of this.#inFlight) {
      if (since(sentAt, now) > REPORT_LIMIT) this.#inFlight.delete(txId);
    }
  }
}

function nextProbeAt(run: Run, set: RunningSet): Instant | undefined {
  const probe = set.plan.probes[set.sent];
  if (probe === undefined || run.stunOver || !isAwaited(run, set)) return undefined;
  return after(run.startedAt, probe.delay);
}

function isAwaited({ findings }: Run, { answered, plan }: RunningSet): boolean {
  return !answered && findings.wouldLearn(plan.region, plan.family);
}

/** When a silent server is taken for dead, or UDP for blocked. */
function silentAt({ sets, startedAt }: Run): Instant {
  if (sets.length === 0) return startedAt;
  const lastDelay = Math.max(...sets.flatMap(({ plan }) => plan.probes.map(({ delay }) => delay)));
  return after(startedAt, millis(Math.min(STUN_LIMIT, lastDelay + UDP_PATIENCE)));
}

/** After an answer: how long the others still get. */
function setStop(run: Run, now: Instant): void {
  if (run.hasEnough) return;
  const { latency } = run.findings;
  const regions = new Set(run.sets.map(({ plan }) => plan.region));
  run.hasEnough = latency.size >= Math.min(ENOUGH_REGIONS, regions.size);
  const patience = Math.max(...latency.values()) * PATIENCE[run.full ? "full" : "incremental"];
  const from = run.hasEnough ? now : instant(Math.max(now, silentAt(run)));
  run.stopAt = after(from, millis(Math.max(MIN_PATIENCE, patience)));
}

function isOver(run: Run, now: Instant): boolean {
  if (now >= after(run.startedAt, REPORT_LIMIT)) return true;
  if (run.findings.udp) {
    if (run.stunOver || (run.stopAt !== undefined && now >= run.stopAt)) return true;
    return !run.sets.some((set) => isAwaited(run, set));
  }
  if (run.httpsPending?.size !== 0) return false;
  return run.findings.hasHttps || run.sets.length === 0 || run.stunOver;
}
