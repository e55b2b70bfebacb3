import fc from "fast-check";
import { IpPort } from "../../../../agent/src/base/address.ts";
import {
  after,
  type Instant,
  instant,
  type Millis,
  millis,
  minutes,
  seconds,
} from "../../../../agent/src/base/time.ts";
import { Netcheck, type NetcheckReport } from "../../../../agent/src/core/netcheck/netcheck.ts";
import type { DerpMap, DerpRegion } from "../../../../agent/src/core/path/derp-map.ts";
import { type RegionId, regionId } from "../../../../agent/src/core/path/path.ts";
import {
  decodeBindingRequest,
  encodeBindingRequest,
  encodeBindingResponse,
} from "../../../../agent/src/core/stun/message.ts";
import { seededRandom } from "../../../sim/random.ts";

const start = instant(1000.1);
const [nyc, fra, tok, syd] = [regionId(1), regionId(2), regionId(3), regionId(4)];
const easy = () => "198.51.100.4:41641";

test("one region with one server: the report is there after one round trip", () => {
  const world = new World({ servers: { 1: ["203.0.113.1:3478"] }, rtt: { "203.0.113.1:3478": 30 } });
  world.check();
  const report = world.runToReport();
  expect(world.elapsed).toBe(30);
  expect(report).toMatchObject({ udp: true, ipv4: true, ipv6: false, preferredDerp: nyc });
  expect(report.mappingVariesByDestIp).toBeUndefined();
  expect(report.globalV4?.text).toBe(easy());
  expect(world.asked).toEqual([{ to: "203.0.113.1:3478", at: 0 }]);
});

test("regions are asked in both families, and all that answer in time are in the report", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478", "[2001:db8::1]:3478"], 2: ["203.0.113.2:3478", "[2001:db8::2]:3478"] },
    rtt: {
      "203.0.113.1:3478": 30,
      "[2001:db8::1]:3478": 25,
      "203.0.113.2:3478": 40,
      "[2001:db8::2]:3478": 45,
    },
    mapped: (to) => (to.startsWith("[") ? "[2001:db8::77]:41641" : easy()),
  });
  world.check();
  const report = world.runToReport();
  expect(latencies(report.regionLatency)).toEqual({ 1: 25, 2: 40 });
  expect(latencies(report.regionV4Latency)).toEqual({ 1: 30, 2: 40 });
  expect(latencies(report.regionV6Latency)).toEqual({ 1: 25 }); // the other would teach nothing any more
  expect(report).toMatchObject({ ipv4: true, ipv6: true, mappingVariesByDestIp: false, preferredDerp: nyc });
  expect(report.globalV6?.text).toBe("[2001:db8::77]:41641");
  expect(report.globalV4Counters.map(({ address, count }) => [address.text, count])).toEqual([[easy(), 2]]);
});

test("a NAT that maps by destination is known from two servers", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] },
    rtt: { "203.0.113.1:3478": 30, "203.0.113.2:3478": 40 },
    mapped: (to) => (to.includes("113.1") ? "198.51.100.4:1024" : "198.51.100.4:1025"),
  });
  world.check();
  const report = world.runToReport();
  expect(report.mappingVariesByDestIp).toBe(true);
  expect(report.globalV4?.text).toBe("198.51.100.4:1024");
  expect(report.globalV4Counters).toHaveLength(2);
});

test("a lost probe is repeated after 100 ms, at the region's next server", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478", "203.0.113.11:3478"] },
    rtt: { "203.0.113.11:3478": 30 },
  });
  world.check();
  world.runToReport();
  expect(world.asked).toEqual([
    { to: "203.0.113.1:3478", at: 0 },
    { to: "203.0.113.11:3478", at: 100 },
  ]);
  expect(world.elapsed).toBe(130);
});

test("after three regions the others get twice the slowest time, then they are left out", () => {
  const address = (n: number) => `203.0.113.${n}:3478`;
  const world = new World({
    servers: { 1: [address(1)], 2: [address(2)], 3: [address(3)], 4: [address(4)] },
    rtt: { [address(1)]: 10, [address(2)]: 20, [address(3)]: 50, [address(4)]: 500 },
  });
  world.check();
  const report = world.runToReport();
  expect(world.elapsed).toBe(150);
  expect([...report.regionLatency.keys()]).toEqual([nyc, fra, tok]);
});

test("a dead relay among few does not hold the report up for long", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] },
    rtt: { "203.0.113.1:3478": 30 },
  });
  world.check();
  expect(world.runToReport()).toMatchObject({ udp: true, preferredDerp: nyc });
  expect(world.asked).toHaveLength(4);
  expect(world.elapsed).toBe(200 + 300 + 2 * 30);
});

test("IPv6 that never answers delays the report by little", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478", "[2001:db8::1]:3478"] },
    rtt: { "203.0.113.1:3478": 30 },
  });
  world.check();
  expect(world.runToReport()).toMatchObject({ udp: true, ipv6: false, preferredDerp: nyc });
  expect(world.elapsed).toBe(90);
});

test("where no UDP passes, HTTPS tells the home, as soon as all regions were asked", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] },
    rtt: {},
    https: { 1: 90, 2: 60 },
  });
  world.check();
  const report = world.runToReport();
  expect(report).toMatchObject({ udp: false, ipv4: false, preferredDerp: fra, globalV4: undefined });
  expect(latencies(report.regionLatency)).toEqual({ 1: 90, 2: 60 });
  expect(world.asked).toHaveLength(6);
  expect(world.elapsed).toBe(500 + 90);
});

test("a UDP answer that comes while HTTPS is measured counts alone", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] },
    rtt: { "203.0.113.1:3478": 600, "203.0.113.2:3478": 700 },
    https: { 1: 1800, 2: 10 },
  });
  world.check();
  const report = world.runToReport();
  expect(report).toMatchObject({ udp: true, preferredDerp: nyc });
  expect(latencies(report.regionLatency)).toEqual({ 1: 600, 2: 700 });
});

test.each([
  { name: "fails everywhere", https: { 1: undefined }, elapsed: 3000 },
  { name: "never ends", https: {}, elapsed: 5000 },
])("where neither UDP nor HTTPS answers there is still a report: HTTPS $name", ({ https, elapsed }) => {
  const world = new World({ servers: { 1: ["203.0.113.1:3478"] }, rtt: {}, https });
  world.check();
  expect(world.runToReport()).toMatchObject({ udp: false, preferredDerp: undefined });
  expect(world.elapsed).toBe(elapsed);
});

test("without any STUN server HTTPS is asked at once; without any relay the report is there at once", () => {
  const world = new World({ servers: { 1: [] }, rtt: {}, https: { 1: 40 } });
  world.check();
  expect(world.runToReport()).toMatchObject({ udp: false, preferredDerp: nyc });
  expect(world.elapsed).toBe(40);

  const nowhere = new World({ servers: {}, rtt: {} });
  nowhere.check();
  expect(nowhere.netcheck.pollReport()).toMatchObject({ udp: false, preferredDerp: undefined });
  expect(nowhere.netcheck.pollTimeout()).toBeUndefined();
});

test("a region that wants no measuring is neither asked nor made home", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] },
    rtt: { "203.0.113.1:3478": 30, "203.0.113.2:3478": 1 },
    unmeasured: [fra],
  });
  world.check();
  expect(world.runToReport().preferredDerp).toBe(nyc);
  expect(world.asked.map(({ to }) => to)).toEqual(["203.0.113.1:3478"]);
});

test("the next report asks the fastest regions and the home, the home most patiently", () => {
  const address = (n: number) => `203.0.113.${n}:3478`;
  const rtt: Record<string, number> = {
    [address(1)]: 10,
    [address(2)]: 20,
    [address(3)]: 30,
    [address(4)]: 40,
  };
  const world = new World({
    servers: { 1: [address(1)], 2: [address(2)], 3: [address(3)], 4: [address(4)] },
    rtt,
  });
  world.check();
  expect(world.runToReport().regionLatency.has(syd)).toBe(true);

  for (const to of Object.keys(rtt)) delete rtt[to];
  world.wait(seconds(20));
  world.check();
  world.runToReport();
  const times = (n: number) => world.asked.filter(({ to }) => to === address(n)).map(({ at }) => at);
  expect([times(1), times(2), times(3), times(4)]).toEqual([[0, 12, 124, 186], [0, 24], [0], []]);

  world.wait(seconds(20));
  world.check();
  world.runToReport();
  expect(times(4)).toEqual([0, 100, 200]); // nothing answered the last time: ask everyone
});

test.each([
  { name: "five minutes later", wait: minutes(5), full: false, other: false },
  { name: "when the network changed", wait: seconds(1), full: true, other: false },
  { name: "for a new relay map", wait: seconds(1), full: false, other: true },
])("all regions are asked again $name", ({ wait, full, other }) => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"] },
    rtt: { "203.0.113.1:3478": 30 },
  });
  world.check();
  world.runToReport();
  world.wait(wait);
  if (other) world.renewMap();
  world.mute();
  world.check({ full });
  world.runToReport();
  expect(world.asked.map(({ at }) => at)).toEqual([0, 100, 200]);
});

test("a full report that is dropped for another is made up for by that one", () => {
  const world = new World({ servers: { 1: ["203.0.113.1:3478"] }, rtt: { "203.0.113.1:3478": 30 } });
  world.check();
  world.runToReport();
  world.mute();
  world.check({ full: true });
  world.check();
  world.runToReport();
  expect(world.asked.map(({ at }) => at)).toEqual([0, 100, 200]);
});

test("a home that is not measured is kept while its relay is heard", () => {
  const rtt: Record<string, number> = { "203.0.113.1:3478": 10, "203.0.113.2:3478": 40 };
  const world = new World({ servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] }, rtt });
  world.check();
  expect(world.runToReport().preferredDerp).toBe(nyc);
  delete rtt["203.0.113.1:3478"];
  world.wait(seconds(20));
  world.check();
  world.netcheck.handleRelayHeard(nyc, world.now);
  expect(world.runToReport().preferredDerp).toBe(nyc);
  world.wait(seconds(20));
  world.check();
  expect(world.runToReport().preferredDerp).toBe(fra);
});

test("only answers to our own probes count, each once, and those of an earlier report change nothing", () => {
  const world = new World({ servers: { 1: ["203.0.113.1:3478"] }, rtt: {} });
  const { netcheck } = world;
  const from = IpPort.parse("203.0.113.1:3478");
  const answer = (request: Uint8Array) => encodeBindingResponse(txIdOf(request), IpPort.parse(easy()));
  world.check();
  const first = netcheck.pollTransmit()?.payload ?? new Uint8Array();
  expect(netcheck.handleStun(from, answer(encodeBindingRequest(new Uint8Array(12))), world.now)).toBe(false);
  expect(netcheck.handleStun(from, first, world.now)).toBe(false);

  world.wait(seconds(1));
  world.check();
  const second = netcheck.pollTransmit()?.payload ?? new Uint8Array();
  expect(netcheck.handleStun(from, answer(first), world.now)).toBe(true);
  expect(netcheck.pollReport()).toBeUndefined();
  expect(netcheck.handleStun(from, answer(second), world.now)).toBe(true);
  expect(netcheck.handleStun(from, answer(second), world.now)).toBe(false);
  expect(netcheck.pollReport()).toMatchObject({ udp: true });
  expect(netcheck.pollReport()).toBeUndefined();
});

test("an answer after the report is taken for ours and does not change the report", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.2:3478"] },
    rtt: { "203.0.113.1:3478": 30, "203.0.113.2:3478": 2000 },
  });
  world.check();
  const report = world.runToReport();
  expect([...report.regionLatency.keys(), ...report.regionV4Latency.keys()]).toEqual([nyc, nyc]);
  expect(world.answerAll()).toEqual([true, true, true]);
  expect([...report.regionLatency.keys(), ...report.regionV4Latency.keys()]).toEqual([nyc, nyc]);
  expect(world.netcheck.pollReport()).toBeUndefined();
});

test("two servers at one address do not tell whether the mapping varies by address", () => {
  const world = new World({
    servers: { 1: ["203.0.113.1:3478"], 2: ["203.0.113.1:3479"] },
    rtt: { "203.0.113.1:3478": 30, "203.0.113.1:3479": 30 },
  });
  world.check();
  expect(world.runToReport().mappingVariesByDestIp).toBeUndefined();
});

test("HTTPS is measured where there are relays, and only where measuring is wanted", () => {
  const world = new World({
    servers: { 1: [], 2: [], 3: [] },
    rtt: {},
    https: { 1: 40, 2: 10, 3: 10 },
    unmeasured: [fra],
    stunOnly: [tok],
  });
  world.check();
  expect(world.netcheck.pollNeedHttps()).toEqual([nyc]);
  expect(world.netcheck.pollNeedHttps()).toBeUndefined();
  world.netcheck.handleHttpsLatency(fra, millis(1), world.now);
  expect(world.netcheck.pollReport()).toBeUndefined();
  world.netcheck.handleHttpsLatency(nyc, millis(40), world.now);
  expect(world.netcheck.pollReport()?.preferredDerp).toBe(nyc);
});

test("any bytes do not throw and change nothing", () => {
  const world = new World({ servers: { 1: ["203.0.113.1:3478"] }, rtt: {} });
  world.check();
  const deadline = world.netcheck.pollTimeout();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      expect(world.netcheck.handleStun(IpPort.parse("203.0.113.1:3478"), bytes, world.now)).toBe(false);
    }),
  );
  expect(world.netcheck.pollTimeout()).toBe(deadline);
});

test("in any network a report comes within 5 s, and the machine never asks to be woken in vain", () => {
  const servers = {
    1: ["203.0.113.1:1", "[2001:db8::1]:1"],
    2: ["203.0.113.2:1", "203.0.113.3:1"],
    3: ["[2001:db8::3]:1"],
    4: ["203.0.113.4:1"],
  };
  const maybe = (max: number) => fc.option(fc.double({ min: 0, max, noNaN: true }), { nil: undefined });
  const addresses = Object.values(servers).flat();
  const rtts = fc.array(maybe(4000), { minLength: addresses.length, maxLength: addresses.length });
  const https = fc.dictionary(fc.constantFrom("1", "2", "3", "4"), maybe(6000));
  fc.assert(
    fc.property(rtts, https, fc.double({ min: 0, max: 1e9, noNaN: true }), (times, httpsTimes, startAt) => {
      const rtt = Object.fromEntries(
        addresses.flatMap((to, i) => (times[i] === undefined ? [] : [[to, times[i]]])),
      );
      const world = new World({ servers, rtt, https: httpsTimes }, instant(startAt));
      for (let round = 0; round < 3; round++) {
        world.check();
        const report = world.runToReport();
        expect(world.elapsed).toBeLessThanOrEqual(5000.001);
        expect(report.udp).toBe(report.ipv4 || report.ipv6);
        if (report.udp) expect(report.preferredDerp).toBeDefined();
        world.wait(seconds(20));
      }
    }),
  );
});

interface WorldOptions {
  readonly servers: Readonly<Record<string, readonly string[]>>;
  /** Milliseconds by server; one that is not listed is silent. */
  readonly rtt: Readonly<Record<string, number>>;
  /** Milliseconds by region; `undefined` fails after 10 ms, one that is not listed never ends. */
  readonly https?: Readonly<Record<string, number | undefined>>;
  readonly unmeasured?: readonly RegionId[];
  readonly stunOnly?: readonly RegionId[];
  readonly mapped?: (to: string) => string;
}

interface Pending {
  readonly at: Instant;
  readonly deliver: (now: Instant) => unknown;
}

/** STUN and HTTPS servers around one netcheck, and a clock that jumps. */
class World {
  readonly netcheck = new Netcheck(seededRandom(1));
  now: Instant;
  asked: { readonly to: string; readonly at: number }[] = [];
  readonly #options: WorldOptions;
  readonly #servers: ReadonlyMap<RegionId, readonly IpPort[]>;
  #derpMap: DerpMap;
  #startedAt: Instant;
  #muted = false;
  #pending: Pending[] = [];

  constructor(options: WorldOptions, now: Instant = start) {
    this.#options = options;
    this.now = now;
    this.#startedAt = now;
    this.#derpMap = mapOf(options);
    this.#servers = new Map(
      Object.entries(options.servers).map(([id, list]) => [regionId(Number(id)), list.map(IpPort.parse)]),
    );
  }

  get elapsed(): number {
    return Math.round((this.now - this.#startedAt) * 1e6) / 1e6;
  }

  check(options: { readonly full?: boolean } = {}): void {
    this.#startedAt = this.now;
    this.asked = [];
    this.netcheck.start(this.#derpMap, this.#servers, this.now, options);
  }

  wait(time: Millis): void {
    this.now = after(this.now, time);
  }

  mute(): void {
    this.#muted = true;
  }

  renewMap(): void {
    this.#derpMap = mapOf(this.#options);
  }

  runToReport(): NetcheckReport {
    for (let steps = 0; steps < 500; steps++) {
      this.#drain();
      const report = this.netcheck.pollReport();
      if (report !== undefined) return report;
      this.#step();
    }
    throw new Error("the netcheck does not come to an end");
  }

  /** Delivers what is still on its way, and returns what the machine says of it. */
  answerAll(): readonly unknown[] {
    return this.#pending.splice(0).map(({ at, deliver }) => deliver(at));
  }

  #drain(): void {
    for (let sent = this.netcheck.pollTransmit(); sent !== undefined; sent = this.netcheck.pollTransmit()) {
      const { to, payload } = sent;
      this.asked.push({ to: to.text, at: this.elapsed });
      const rtt = this.#muted ? undefined : this.#options.rtt[to.text];
      if (rtt === undefined) continue;
      const seen = IpPort.parse((this.#options.mapped ?? easy)(to.text));
      const answer = encodeBindingResponse(txIdOf(payload), seen);
      this.#later(rtt, (now) => this.netcheck.handleStun(to, answer, now));
    }
    for (const region of this.netcheck.pollNeedHttps() ?? []) {
      if (!(region in (this.#options.https ?? {}))) continue;
      const latency = this.#options.https?.[region];
      const measured = latency === undefined ? undefined : millis(latency);
      this.#later(latency ?? 10, (now) => this.netcheck.handleHttpsLatency(region, measured, now));
    }
  }

  /** Goes to whatever is next: an answer, or the machine's deadline. */
  #step(): void {
    this.#pending.sort((a, b) => a.at - b.at);
    const [next] = this.#pending;
    const deadline = this.netcheck.pollTimeout();
    if (next !== undefined && (deadline === undefined || next.at <= deadline)) {
      this.#pending.shift();
      this.now = instant(Math.max(next.at, this.now));
      next.deliver(this.now);
    } else if (deadline !== undefined) {
      this.now = instant(Math.max(deadline, this.now));
      this.netcheck.handleTimeout(this.now);
    } else {
      throw new Error("the netcheck waits for nothing");
    }
  }

  #later(wait: number, deliver: (now: Instant) => unknown): void {
    this.#pending.push({ at: after(this.now, millis(wait)), deliver });
  }
}

function mapOf({ servers, unmeasured = [], stunOnly = [] }: WorldOptions): DerpMap {
  const regions = Object.keys(servers).map((text): [RegionId, DerpRegion] => {
    const id = regionId(Number(text));
    const node = {
      name: `${id}a`,
      regionId: id,
      hostName: `derp${id}.example.com`,
      certName: undefined,
      ipv4: undefined,
      ipv6: undefined,
      stunPort: 3478,
      derpPort: 443,
      stunOnly: stunOnly.includes(id),
      canPort80: false,
      insecureForTests: false,
    };
    const noMeasureNoHome = unmeasured.includes(id);
    return [id, { id, code: `r${id}`, name: `Region ${id}`, avoid: false, noMeasureNoHome, nodes: [node] }];
  });
  return { regions: new Map(regions), regionScore: new Map() };
}

function txIdOf(request: Uint8Array): Uint8Array {
  const decoded = decodeBindingRequest(request);
  if (typeof decoded === "string") throw new Error(decoded);
  return decoded.txId;
}

function latencies(map: ReadonlyMap<RegionId, Millis>): Readonly<Record<string, number>> {
  return Object.fromEntries([...map].map(([region, latency]) => [region, Math.round(latency * 1e6) / 1e6]));
}
