import { after, type Instant, instant, millis, seconds } from "../../../../agent/src/base/time.ts";
import { BASE_MTU, PathMtu } from "../../../../agent/src/core/path/path-mtu.ts";

const start = instant(1_000);
const using = { rtt: millis(10), active: true };

/** A path that carries `carries` bytes, to a peer whose tunnel's pings are `hears` bytes long. */
class Bench {
  readonly path: PathMtu;
  now: Instant = start;
  asked: number[] = [];
  carries: number;

  constructor(options: { tunnel?: number; carries?: number; hears?: number } = {}) {
    const { tunnel = 9000, carries = 1500, hears = 9080 } = options;
    this.path = new PathMtu(tunnel);
    this.carries = carries;
    if (hears > 0) this.path.heard(hears);
  }

  begin(): void {
    this.path.begin(this.now);
    this.run(0);
  }

  run(ms: number): void {
    const end = after(this.now, millis(ms));
    for (let rounds = 0; rounds < 1_000; rounds++) {
      for (const size of this.path.due(this.now, using)) {
        this.asked.push(size);
        if (size <= this.carries) this.path.answered(size, this.now);
      }
      const next = this.path.next(true);
      if (next === undefined || next > end) break;
      this.now = instant(Math.max(next, this.now));
    }
    this.now = end;
  }
}

test("a tunnel of 1,280 bytes never asks", () => {
  const bench = new Bench({ tunnel: BASE_MTU });
  bench.begin();
  bench.run(seconds(120));
  expect([bench.asked, bench.path.mtu]).toEqual([[], 1280]);
});

test.each([
  { carries: 1360, mtu: 1280 },
  { carries: 1400, mtu: 1312 },
  { carries: 1500, mtu: 1408 },
  { carries: 8_500, mtu: 7920 },
  { carries: 9_001, mtu: 8912 },
  { carries: 9_080, mtu: 9000 },
])("a path of $carries bytes carries packets of $mtu", ({ carries, mtu }) => {
  const bench = new Bench({ carries });
  bench.begin();
  expect(bench.path.mtu).toBe(mtu);
});

test("the whole of a tunnel's own size is used, though it is no multiple of what WireGuard pads to", () => {
  const bench = new Bench({ tunnel: 1420, carries: 1500 });
  bench.begin();
  expect([bench.path.mtu, bench.asked]).toEqual([1420, [1400, 1500]]);
});

test("towards a peer that never asked with padding, 1,280 bytes hold", () => {
  const bench = new Bench({ carries: 9_080, hears: 0 });
  bench.begin();
  expect(bench.path.mtu).toBe(1280);
  bench.path.heard(1500);
  expect(bench.path.mtu).toBe(1408);
  bench.path.forget();
  expect(bench.path.mtu).toBe(1280);
});

test("lost questions are asked again, twice", () => {
  const bench = new Bench({ tunnel: 1420, carries: 0 });
  bench.begin();
  bench.run(5_000);
  expect(bench.asked).toEqual([1400, 1500, 1400, 1500, 1400, 1500]);
  expect(bench.path.mtu).toBe(1280);
});

test("a path that shrinks is noticed within two seconds, and 1,280 holds until something larger passes", () => {
  const bench = new Bench({ carries: 9_080 });
  bench.begin();
  bench.run(10_000);
  expect(bench.path.mtu).toBe(9000);
  bench.carries = 1_450;
  bench.run(2_000);
  expect(bench.path.mtu).toBe(1312);
});

test("a path that grew is noticed within a minute", () => {
  const bench = new Bench({ carries: 1_500 });
  bench.begin();
  bench.run(10_000);
  bench.carries = 9_080;
  bench.run(60_000);
  expect(bench.path.mtu).toBe(9000);
});

test("another path takes over what the former carried, until it has been asked", () => {
  const bench = new Bench({ carries: 9_080 });
  bench.begin();
  bench.path.begin(bench.now);
  expect(bench.path.mtu).toBe(9000);
  bench.carries = 1_500;
  bench.run(299);
  expect(bench.path.mtu).toBe(9000);
  bench.run(1);
  expect(bench.path.mtu).toBe(1408);
});

test("without traffic nothing is asked", () => {
  const bench = new Bench({ carries: 9_080 });
  bench.begin();
  bench.run(5_000);
  const before = bench.asked.length;
  expect(bench.path.due(after(bench.now, seconds(100)), { ...using, active: false })).toEqual([]);
  expect([bench.asked.length, bench.path.next(false), bench.path.mtu]).toEqual([before, undefined, 9000]);
});
