/** The WebAssembly arithmetic against the plain way, for packets of all kinds and for damaged ones. */
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import fc from "fast-check";
import { viewOf } from "../../../agent/src/base/bytes.ts";
import { clampMss } from "../../../agent/src/core/ip/mss.ts";
import { addWords, finishChecksum, pseudoHeaderSum } from "../../../agent/src/core/ip/checksum.ts";
import { cutPacket, decodeVirtioHeader } from "../../../agent/src/core/ip/offload.ts";
import { flowIovecs, GATHERED_FLOWS } from "../../../agent/src/dataplane/memory.ts";
import {
  byFlow,
  type Flow,
  flows,
  headerLengths,
  makePacket,
  openBench,
  pattern,
  virtio,
} from "./support.ts";

const MTU = 1420;
const ZEROES = new Uint8Array(64);
const bench = openBench(MTU);
const { bytes, view, layout, packets } = bench;
const READ = layout.read + 256;

test("the sum of any bytes is the plain one", () => {
  fc.assert(
    fc.property(fc.nat({ max: 3000 }), fc.nat({ max: 255 }), fc.nat({ max: 15 }), (length, seed, shift) => {
      const data = pattern(length, seed);
      bytes.set(data, READ + shift);
      expect(swap(~packets.sum(READ + shift, length, 0) & 0xffff)).toBe(finishChecksum(addWords(data)));
    }),
  );
  bytes.fill(0xff, READ, READ + 65_535);
  expect(packets.sum(READ, 65_535, 0xffff) & 0xffff).toBe(0xff);
});

/** Cuts by the fast way: each packet as it would be sealed, its padding cut off again. */
function cutFast(read: Uint8Array, header: Uint8Array): readonly Uint8Array[] | number {
  bytes.fill(0xee, READ - 256, READ + read.length + 128);
  bytes.set(header, READ - 10);
  bytes.set(read, READ);
  const count = packets.begin(READ, read.length, READ - 10);
  if (count < 0) return count;
  const size = count === 1 && viewOf(header).getUint8(1) === 0 ? 0 : viewOf(header).getUint16(4, true);
  return Array.from({ length: count }, (_, i) => {
    const length = packets.next(i, MTU);
    const at = READ + i * size;
    expect(Buffer.from(bytes.subarray(at - 64, at)).equals(ZEROES)).toBe(true);
    const padded = bytes.slice(at, at + length);
    const own = ownLength(padded);
    expect(length).toBe(Math.max(own, Math.min(MTU, Math.ceil(own / 16) * 16)));
    expect(padded.subarray(own)).toEqual(new Uint8Array(length - own));
    return padded.subarray(0, own);
  });
}

function hexOf(packets: readonly Uint8Array[] | number): readonly string[] | number {
  return typeof packets === "number" ? packets : packets.map((packet) => Buffer.from(packet).toString("hex"));
}

function ownLength(packet: Uint8Array): number {
  const header = viewOf(packet);
  return (packet[0] ?? 0) >> 4 === 4 ? header.getUint16(2) : 40 + header.getUint16(4);
}

const reads = fc.record({
  flow: flows,
  length: fc.oneof(fc.integer({ min: 1, max: 4000 }), fc.integer({ min: 1, max: 20_000 })),
  size: fc.oneof(fc.integer({ min: 500, max: 1380 }), fc.integer({ min: 1, max: 1400 })),
});

test("a large read is cut into the packets that the plain way makes", () => {
  fc.assert(
    fc.property(reads, ({ flow, length, size }) => {
      const most = 65_535 - headerLengths(flow).ip - 60;
      const read = makePacket(flow, pattern(Math.min(length, most, size * 60)));
      const header = virtio(flow, size);
      const expected = cutPacket(read, decodeVirtioHeader(header), layout.largest);
      const made = cutFast(read, header);
      if (typeof expected === "string") expect(made).toBeLessThan(0);
      else expect(hexOf(made)).toEqual(hexOf(expected));
    }),
    { numRuns: 300 },
  );
});

test("a single packet gets its checksum", () => {
  fc.assert(
    fc.property(flows, fc.nat({ max: 1300 }), (flow, length) => {
      const whole = makePacket(flow, pattern(length));
      const { ip } = headerLengths(flow);
      const partial = whole.slice();
      const addresses = flow.version === 4 ? whole.subarray(12, 20) : whole.subarray(8, 40);
      const sum = pseudoHeaderSum(addresses, flow.isTcp ? 6 : 17, whole.length - ip);
      viewOf(partial).setUint16(ip + (flow.isTcp ? 16 : 6), ~finishChecksum(sum) & 0xffff);
      expect(cutFast(partial, virtio(flow, 0))).toEqual([whole]);
      expect(cutFast(whole, virtio(undefined, 0))).toEqual([whole]);
    }),
  );
});

test("any numbers in the header are refused or cut as the plain way does, within the read", () => {
  fc.assert(
    fc.property(
      flows,
      fc.nat({ max: 3000 }),
      fc.uint8Array({ minLength: 10, maxLength: 10 }),
      fc.array(fc.tuple(fc.nat({ max: 79 }), fc.nat({ max: 255 })), { maxLength: 3 }),
      fc.boolean(),
      (flow, length, noise, damage, plausible) => {
        const read = makePacket(flow, pattern(length));
        for (const [at, value] of damage) if (at < read.length) read[at] = value;
        const header = plausible ? virtio(flow, noise[4] ?? 0) : noise;
        const expected = cutPacket(read, decodeVirtioHeader(header), layout.largest);
        bytes.fill(0xee, READ - 256, READ + read.length + 128);
        bytes.set(header, READ - 10);
        bytes.set(read, READ);
        const count = packets.begin(READ, read.length, READ - 10);
        if (typeof expected === "string") expect(count).toBeLessThan(0);
        else expect(count).toBe(expected.length);
        const untouched = bytes.slice(READ + read.length + 16, READ + read.length + 128);
        for (let i = 0; i < count; i++) packets.next(i, MTU);
        expect(bytes.slice(READ + read.length + 16, READ + read.length + 128)).toEqual(untouched);
      },
    ),
    { numRuns: 1000 },
  );
});

/** Gathers by the fast way: what would be written to the device, cut again. */
function gather(arrived: readonly Uint8Array[]): {
  readonly packets: readonly Uint8Array[];
  readonly writes: number;
} {
  const out: Uint8Array[] = [];
  let writes = 0;
  const write = (flow: number): void => {
    const iovecs = packets.finish(flow);
    if (iovecs === 0) return;
    writes++;
    const at = flowIovecs(layout, flow);
    const parts = Array.from({ length: iovecs }, (_, i) => {
      const start = view.getUint32(at + 16 * i, true);
      return bytes.slice(start, start + view.getUint32(at + 16 * i + 8, true));
    });
    const [header = new Uint8Array(10), ...rest] = parts;
    const cut = cutPacket(joined(rest), decodeVirtioHeader(header), 65_535);
    if (typeof cut === "string") throw new Error(cut);
    out.push(...cut);
  };
  for (const [i, packet] of arrived.entries()) {
    const at = layout.opened + i * layout.slot + 64;
    bytes.set(packet, at);
    const kind = packets.inspect(at, packet.length);
    let flow = kind === 1 || kind === 2 ? packets.offer(1) : -2;
    for (; flow >= 0; flow = packets.offer(1)) write(flow);
    if (flow === -2) out.push(packet);
    if (flow === -2) writes++;
  }
  for (let flow = 0; flow < GATHERED_FLOWS; flow++) write(flow);
  return { packets: out, writes };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

const arrivals = fc.array(
  fc.record({ flow: flows, size: fc.integer({ min: 1, max: 300 }), count: fc.integer({ min: 1, max: 6 }) }),
  { minLength: 1, maxLength: 6 },
);

test("what was gathered and is cut again is what came, in order within each flow", () => {
  fc.assert(
    fc.property(arrivals, fc.boolean(), (bursts, damaged) => {
      const arrived = bursts.flatMap(({ flow, size, count }) =>
        Array.from({ length: count }, (_, i) =>
          makePacket(
            {
              ...flow,
              sequence: (flow.sequence + i * size) >>> 0,
              id: (flow.id + i) & 0xffff,
              flags: i === count - 1 ? flow.flags : 16,
            },
            pattern(size, i),
          ),
        ),
      );
      const [first] = arrived;
      if (damaged && first !== undefined) first[first.length - 1] = (first.at(-1) ?? 0) ^ 0x5a;
      const { packets: delivered } = gather(arrived);
      expect(byFlow(delivered)).toEqual(byFlow(arrived));
    }),
    { numRuns: 300 },
  );
});

const PLAIN: Flow = {
  version: 4,
  isTcp: true,
  port: 1,
  sequence: 1,
  flags: 16,
  options: 12,
  id: 1,
  dontFragment: true,
  trafficClass: 0,
};

test.each([
  { name: "TCP over IPv4", flow: PLAIN },
  { name: "TCP over IPv6", flow: { ...PLAIN, version: 6 as const } },
  { name: "UDP over IPv4", flow: { ...PLAIN, isTcp: false } },
  { name: "UDP over IPv6", flow: { ...PLAIN, isTcp: false, version: 6 as const } },
])("a train of $name is written at once", ({ flow }) => {
  const train = Array.from({ length: 40 }, (_, i) =>
    makePacket({ ...flow, sequence: 1 + i * 1300, id: i }, pattern(1300, i)),
  );
  expect(gather(train).writes).toBe(1);
});

const options = fc.array(
  fc.oneof(
    fc.constantFrom<readonly number[]>(
      [1],
      [0],
      [2, 4, 5, 180],
      [2, 4, 2, 0],
      [3, 3, 7],
      [4, 2],
      [2, 2],
      [8, 0],
    ),
    fc.tuple(fc.constant(2), fc.constant(4), fc.nat({ max: 255 }), fc.nat({ max: 255 })),
    fc.tuple(fc.nat({ max: 255 }), fc.nat({ max: 255 })),
  ),
  { minLength: 1, maxLength: 6 },
);

test("a connection's beginning is changed as the plain way does, damaged or not", () => {
  let changed = 0;
  fc.assert(
    fc.property(
      flows,
      options,
      fc.oneof(fc.constant(0), fc.nat({ max: 60 })),
      fc.integer({ min: 1280, max: 9000 }),
      fc.array(fc.tuple(fc.nat({ max: 79 }), fc.nat({ max: 255 })), { maxLength: 1 }),
      (flow, parts, cut, mtu, damage) => {
        const packet = makePacket({ ...flow, isTcp: true, options: 40, flags: 2 }, pattern(40));
        const { ip } = headerLengths(flow);
        packet.set(parts.flat().slice(0, 40), ip + 20);
        for (const [at, value] of damage) packet[at] = value;
        const arrived = packet.subarray(0, packet.length - cut);
        const plain = arrived.slice();
        const expected = clampMss(plain, mtu);
        bytes.set(arrived, READ);
        expect(packets.clamp(READ, arrived.length, mtu) === 1).toBe(expected);
        expect(bytes.slice(READ, READ + arrived.length)).toEqual(plain);
        if (expected) changed++;
      },
    ),
    { numRuns: 3000 },
  );
  expect(changed).toBeGreaterThan(20);
});

test("the committed module is what the source compiles to", () => {
  const script = join(__dirname, "../../../bin/build-wasm.mjs");
  const { status, stderr } = spawnSync(process.execPath, [script, "--check"], { encoding: "utf8" });
  expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
}, 60_000);

function swap(word: number): number {
  return ((word & 0xff) << 8) | (word >> 8);
}
