import { IpPort } from "../../../../agent/src/base/address.ts";
import { fromHex } from "../../../../agent/src/base/bytes.ts";
import { after, type Instant, instant, millis, seconds } from "../../../../agent/src/base/time.ts";
import { direct, pathText, regionId, relay } from "../../../../agent/src/core/path/path.ts";
import { type PathEvent, PeerPaths, type PathTransmit } from "../../../../agent/src/core/path/peer-paths.ts";
import { countingRandom } from "../../../sim/random.ts";

const nyc = regionId(900);
const near = IpPort.parse("10.0.0.2:41641");
const far = IpPort.parse("203.0.113.2:41641");
const start = instant(1_000);

type Ping = Extract<PathTransmit, { kind: "ping" }>;

/** A peer with a home relay and two endpoints in the map. */
class Bench {
  readonly paths = new PeerPaths(countingRandom());
  now: Instant = start;

  constructor() {
    this.paths.setRelay(nyc);
    this.paths.setMapEndpoints([near, far], start);
  }

  transmits(): PathTransmit[] {
    const all: PathTransmit[] = [];
    for (let out = this.paths.pollTransmit(); out !== undefined; out = this.paths.pollTransmit())
      all.push(out);
    return all;
  }

  pings(): Ping[] {
    return this.transmits().filter((out): out is Ping => out.kind === "ping");
  }

  events(): PathEvent[] {
    const all: PathEvent[] = [];
    for (let event = this.paths.pollEvent(); event !== undefined; event = this.paths.pollEvent())
      all.push(event);
    return all;
  }

  data(): string[] {
    return this.paths.pathsFor(true, this.now).map(pathText);
  }

  /** Lets time pass, waking the machine when it asks. `answer` says which pings the peer answers at once. */
  pass(wait: number, answer: (ping: Ping) => boolean = () => false): void {
    const end = after(this.now, millis(wait));
    for (;;) {
      for (const ping of this.pings()) if (answer(ping)) this.paths.handlePong(ping.txId, this.now);
      const due = this.paths.pollTimeout();
      if (due === undefined || due > end) break;
      this.now = due > this.now ? due : this.now;
      this.paths.handleTimeout(this.now);
    }
    this.now = end;
  }

  /** First data, then a pong from `address`. */
  prove(address: IpPort): void {
    this.data();
    for (const ping of this.pings()) {
      if (pathText(ping.via) === address.text) this.paths.handlePong(ping.txId, after(this.now, millis(20)));
    }
    this.now = after(this.now, millis(20));
  }
}

test("the first data goes to the relay; every endpoint is pinged, the peer is called, the relay is measured", () => {
  const bench = new Bench();
  expect(bench.data()).toEqual(["127.3.3.40:900"]);
  const out = bench.transmits();
  expect(out.map((one) => (one.kind === "ping" ? pathText(one.via) : one.kind))).toEqual([
    near.text,
    far.text,
    "call-me-maybe",
    "127.3.3.40:900",
  ]);
});

test("nothing but a pong to a ping of ours moves the connection", () => {
  const bench = new Bench();
  bench.data();
  bench.paths.handlePong(fromHex("00".repeat(12)), bench.now);
  bench.paths.handlePing(direct(far), bench.now);
  expect(bench.data()).toEqual(["127.3.3.40:900"]);
  bench.prove(far);
  expect(bench.data()).toEqual([far.text]);
  expect(bench.events()).toContainEqual({ kind: "moved", to: direct(far) });
});

test("an answer counts once", () => {
  const bench = new Bench();
  bench.data();
  const [ping] = bench.pings();
  if (ping === undefined) throw new Error("no ping");
  bench.paths.handlePong(ping.txId, bench.now);
  bench.paths.handlePong(ping.txId, bench.now);
  expect(bench.events().filter(({ kind }) => kind === "pong")).toHaveLength(1);
});

test("an unanswered discovery asks again after 100, 300, 700 and 1500 ms, then every 3 s", () => {
  const bench = new Bench();
  bench.data();
  const at: number[] = [];
  const end = after(start, millis(9_500));
  for (;;) {
    if (bench.pings().some(({ via }) => pathText(via) === far.text)) at.push(bench.now - start);
    const due = bench.paths.pollTimeout();
    if (due === undefined || due > end) break;
    bench.now = due;
    bench.paths.handleTimeout(due);
  }
  expect(at).toEqual([0, 100, 300, 700, 1_500, 3_000, 6_000, 9_000]);
});

test("a peer without traffic of ours for 45 s is left in peace", () => {
  const bench = new Bench();
  bench.data();
  bench.pass(60_000);
  expect(bench.paths.pollTimeout()).toBeUndefined();
  expect(bench.paths.isActive(bench.now)).toBe(false);
});

test("a keepalive keeps nothing active", () => {
  const bench = new Bench();
  bench.paths.pathsFor(false, bench.now);
  expect(bench.transmits()).toEqual([]);
  expect(bench.paths.isActive(bench.now)).toBe(false);
});

test("a direct path that does not answer is doubted within 350 ms: both ways are used, then the relay alone", () => {
  const bench = new Bench();
  bench.prove(far);
  bench.pass(300);
  bench.events();
  bench.data();
  bench.pass(110);
  expect(bench.events()).toContainEqual({ kind: "doubt", since: start });
  expect(bench.data()).toEqual([far.text, "127.3.3.40:900"]);
  bench.pass(3_000);
  expect(bench.data()).toEqual(["127.3.3.40:900"]);
});

test("one lost probe causes no doubt", () => {
  const bench = new Bench();
  bench.prove(far);
  bench.pass(300);
  bench.events();
  bench.data();
  let lost = 0;
  bench.pass(1_000, ({ via }) => pathText(via) === far.text && lost++ > 0);
  expect(bench.events().filter(({ kind }) => kind === "doubt")).toEqual([]);
});

test("a path in doubt that answers is trusted again", () => {
  const bench = new Bench();
  bench.prove(far);
  bench.pass(300);
  bench.data();
  bench.pass(200);
  expect(bench.data()).toHaveLength(2);
  bench.pass(500, ({ via }) => pathText(via) === far.text);
  expect(bench.data()).toEqual([far.text]);
});

test("an answered ping is answered with one's own at once, and only once", () => {
  const bench = new Bench();
  const stranger = IpPort.parse("198.51.100.77:5000");
  bench.paths.handlePing(direct(stranger), bench.now);
  bench.paths.handlePing(direct(stranger), bench.now);
  expect(bench.pings().map(({ via }) => pathText(via))).toEqual([stranger.text]);
});

test("a call-me-maybe is answered by pings, not by a call", () => {
  const bench = new Bench();
  const told = IpPort.parse("198.51.100.7:1234");
  bench.paths.handleCallMeMaybe([told], bench.now);
  const out = bench.transmits();
  expect(out.every(({ kind }) => kind === "ping")).toBe(true);
  expect(out.map((one) => (one.kind === "ping" ? pathText(one.via) : ""))).toContain(told.text);
});

test("ping asks the relay until a direct path is proven, then that path", () => {
  const bench = new Bench();
  bench.paths.ping(bench.now);
  expect(bench.pings().map(({ via }) => pathText(via))).toEqual([near.text, far.text, "127.3.3.40:900"]);
  bench.pass(1);
  bench.paths.handleCallMeMaybe([far], bench.now);
  bench.prove(far);
  bench.transmits();
  bench.paths.ping(bench.now);
  expect(bench.pings().map(({ via }) => via)).toEqual([direct(far)]);
});

test("a peer with no relay and no proven path can not be sent to", () => {
  const paths = new PeerPaths(countingRandom());
  expect(paths.pathsFor(true, start)).toEqual([]);
  expect(paths.ping(start)).toBeUndefined();
});

test("an address that the system refuses is left at once", () => {
  const bench = new Bench();
  bench.prove(far);
  bench.paths.handleSendError(far, bench.now);
  expect(bench.data()).toEqual(["127.3.3.40:900"]);
});

test("a peer can not fill the memory with addresses", () => {
  const bench = new Bench();
  const flood = Array.from({ length: 5_000 }, (_, i) => IpPort.parse(`198.51.${i >> 8}.${i & 255}:9`));
  bench.paths.handleCallMeMaybe(flood, bench.now);
  expect(bench.pings().length).toBeLessThanOrEqual(100);
});

test("link-local IPv6, multicast and port 0 are never pinged", () => {
  const bench = new Bench();
  bench.transmits();
  bench.paths.handleCallMeMaybe(
    ["[fe80::1]:41641", "224.0.0.1:41641", "203.0.113.9:0"].map((text) => IpPort.parse(text)),
    bench.now,
  );
  expect(bench.pings().map(({ via }) => pathText(via))).toEqual([near.text, far.text]);
});

test("after a network change nothing that was proven holds", () => {
  const bench = new Bench();
  bench.prove(far);
  bench.paths.handleNetworkChange(bench.now);
  expect(bench.data()).toEqual(["127.3.3.40:900"]);
  expect(bench.pings().map(({ via }) => via)).toEqual(expect.arrayContaining([direct(far), direct(near)]));
});

test("heartbeats keep an unused but active path proven", () => {
  const bench = new Bench();
  bench.prove(far);
  bench.pass(seconds(30), ({ via }) => pathText(via) === far.text);
  expect(bench.paths.directAddress(bench.now)?.text).toBe(far.text);
});

test("relay pongs measure the relay and change nothing", () => {
  const bench = new Bench();
  const id = bench.paths.ping(bench.now);
  const ping = bench.pings().find(({ via }) => via.kind === "relay");
  if (ping === undefined) throw new Error("no ping by the relay");
  bench.paths.handlePong(ping.txId, after(bench.now, millis(130)));
  expect(bench.events()).toEqual([{ kind: "pong", txId: id, via: relay(nyc), rtt: 130 }]);
});
