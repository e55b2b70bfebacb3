/**
 * Ten thousand random histories through the engine and the fast path: the same bytes, the same counters. And the proof
 * that this would notice: with either of them made wrong on purpose, it fails.
 */
import fc from "fast-check";
import { LocalCounters } from "../../../agent/src/core/wireguard/counters.ts";
import type { Suite } from "../../../agent/src/crypto/suite.ts";
import { Counter } from "../../../agent/src/dataplane/messages.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { canOpenPlanes } from "./can-open-planes.ts";
import { closePlanes, MTU } from "./planes.ts";
import { flows, headerLengths, makePacket, pattern, virtio } from "./support.ts";
import { type Mutation, RULES, type Step, Twins } from "./twins.ts";

const CASES = Number(process.env["SALLYPORT_TWIN_CASES"] ?? 10_000);
const LIMIT_MS = 300_000;
/** A mutation that needs more than this would be noticed too late. */
const ENOUGH = 600;

const lengths = fc.oneof(
  { weight: 6, arbitrary: fc.integer({ min: 20, max: 200 }) },
  { weight: 2, arbitrary: fc.integer({ min: 20, max: 1_150 }) },
  { weight: 1, arbitrary: fc.integer({ min: 20, max: 12_000 }) },
);

const out: fc.Arbitrary<Step> = fc
  .record({
    flow: flows,
    length: lengths,
    size: fc.integer({ min: 100, max: 1_150 }),
    isWhole: fc.boolean(),
    damage: fc.oneof(
      { weight: 8, arbitrary: fc.constant(undefined) },
      { weight: 1, arbitrary: fc.constantFrom("no peer", "no ip", "long", "cut", "mss", "short", "other") },
      { weight: 1, arbitrary: fc.nat({ max: 9 }) },
    ),
    value: fc.nat({ max: 255 }),
  })
  .map(({ flow, length, size, isWhole, damage, value }) => {
    const isSyn = damage === "mss";
    const shape = isSyn ? { ...flow, isTcp: true, flags: 2, options: 12 } : flow;
    const { ip, transport } = headerLengths(shape);
    const whole = isWhole || isSyn;
    const bytes = makePacket(shape, pattern(whole ? Math.min(length, MTU - ip - transport) : length));
    const header = virtio(whole ? undefined : shape, size);
    if (isSyn) bytes.set([2, 4, 0x05 + (value >> 4), 0xb4], ip + 20);
    if (damage === "no peer") bytes[shape.version === 4 ? 16 : 24] = 9;
    if (damage === "no ip") bytes[0] = value;
    if (damage === "other") bytes[shape.version === 4 ? 9 : 6] = protocolOf(value);
    if (damage === "long" && whole) bytes[shape.version === 4 ? 2 : 4] = 0x7f;
    if (damage === "short" && whole) shorten(bytes, shape.version, value);
    if (typeof damage === "number") header[damage] = value;
    return { kind: "out", header, bytes: damage === "cut" ? bytes.subarray(0, value) : bytes };
  });

/** From who was asked to who asked; the checksums stay right. */
function turnAround(packet: Uint8Array, version: number): void {
  const [addresses, length, ports] = version === 4 ? [12, 4, 20] : [8, 16, 40];
  for (const [at, size] of [
    [addresses, length],
    [ports, 2],
  ] as const) {
    const first = packet.slice(at, at + size);
    packet.copyWithin(at, at + size, at + 2 * size);
    packet.set(first, at + size);
  }
}

/** What the packet should begin with behind its IP header, and does not have room for. */
const NEXT = [0, 1, 6, 17, 44, 58, 60, 132];

/** Every second one SCTP. */
function protocolOf(value: number): number {
  return value % 2 === 0 ? 132 : (NEXT[(value >> 1) & 7] ?? 0);
}

function shorten(packet: Uint8Array, version: number, value: number): void {
  const length = (value >> 3) % 24;
  packet[version === 4 ? 9 : 6] = NEXT[value & 7] ?? 0;
  packet.set([0, version === 4 ? 20 + length : length], version === 4 ? 2 : 4);
}

const arriving: fc.Arbitrary<Step> = fc
  .record({
    flow: flows,
    length: fc.oneof(fc.integer({ min: 20, max: 200 }), fc.integer({ min: 20, max: 1_150 })),
    content: fc.constantFrom(
      ...(["right", "right", "right", "right", "answer", "answer", "answer", "other"] as const),
      "foreign",
      "no ip",
      "nothing",
      "damaged",
      "mss",
      "short",
    ),
    value: fc.nat({ max: 255 }),
    fate: fc.constantFrom(
      ...(["pass", "pass", "pass", "pass", "lost", "twice", "damaged"] as const),
      ...(["misnumbered", "late", "again", "stranger"] as const),
    ),
    at: fc.nat({ max: 2_000 }),
  })
  .map(({ flow, length, content, value, fate, at }) => {
    const isSyn = content === "mss";
    const shape = isSyn ? { ...flow, isTcp: true, flags: 18, options: 12 } : flow;
    const { ip } = headerLengths(shape);
    const packet = makePacket(shape, pattern(length));
    if (isSyn) packet.set([2, 4, 0x05 + (value >> 4), 0xb4], ip + 20);
    if (content === "foreign") packet[shape.version === 4 ? 12 : 8] = 9;
    if (content === "no ip") packet[0] = 0x15;
    if (content === "short") shorten(packet, shape.version, value);
    if (content === "answer") turnAround(packet, shape.version);
    const isOther = content === "other" || (content === "answer" && value < 64);
    if (isOther) packet[shape.version === 4 ? 9 : 6] = protocolOf(value);
    if (content === "damaged") packet[packet.length - 1 - (value % 20)] = value;
    return { kind: "in", packet: content === "nothing" ? new Uint8Array(0) : packet, fate, at };
  });

const step = fc.oneof(
  { weight: 10, arbitrary: out },
  { weight: 10, arbitrary: arriving },
  { weight: 1, arbitrary: fc.boolean().map((byPeer): Step => ({ kind: "rekey", byPeer })) },
  { weight: 1, arbitrary: fc.constant<Step>({ kind: "roam" }) },
  {
    weight: 2,
    arbitrary: fc.nat({ max: RULES.length - 1 }).map((rules): Step => ({ kind: "filter", rules })),
  },
);
const histories = fc.array(step, { minLength: 1, maxLength: 4 });

/** The twins live through all cases; after a difference they begin anew, so that a small example is found. */
function compare(numRuns: number, mutation?: Mutation): void {
  let twins: Twins | undefined;
  try {
    const result = fc.check(
      fc.property(histories, (history) => {
        twins ??= new Twins(mutation);
        try {
          for (const one of history) twins.do(one);
        } catch (error) {
          twins.close();
          twins = undefined;
          throw error;
        }
      }),
      { numRuns, endOnFailure: mutation !== undefined },
    );
    if (result.failed) throw new Error(`${String(result.errorInstance)} ${fc.defaultReportMessage(result)}`);
  } finally {
    twins?.close();
  }
}

afterEach(closePlanes);

canOpenPlanes(`${CASES} histories: the engine and the fast path do the same`, () => compare(CASES), LIMIT_MS);

describe("made wrong on purpose, it is noticed:", () => {
  const fast = (change: (parts: Writable) => void): Mutation => ({ fast: change });
  const mutations: readonly (readonly [string, Mutation])[] = [
    ["the fast path's segment sizes", fast((parts) => replace(parts, { clamp: () => 0 }))],
    ["the fast path's padding", fast((parts) => replace(parts, { next: withoutPadding(parts) }))],
    ["the fast path's segmentation", fast((parts) => replace(parts, { begin: singleOnly(parts) }))],
    ["the fast path's numbers", fast(({ sessions }) => void (sessions.reserve = () => 5))],
    [
      "the fast path's replay window",
      fast(({ sessions }) => void (sessions.isFresh = sessions.mark = () => true)),
    ],
    ["the fast path's allowed addresses", fast(({ table }) => void (table.routes.mayHaveSent = () => true))],
    ["the fast path's tags", fast((parts) => void (parts.aead = trusting(parts)))],
    [
      "the fast path's counters",
      fast((parts) => void (parts.counters = new Float64Array(Counter.sentPackets))),
    ],
    ["the fast path's roaming", fast(({ roaming }) => void (roaming.noteSender = () => {}))],
    ["the engine's flows", { flows: { note: () => {}, isAnswer: () => false } }],
    ["the engine's filter", { rules: RULES[0] ?? [] }],
    ["the engine's padding", { mtu: MTU + 16 - 3 }],
    ["the engine's allowed addresses", { allowedIps: ["100.0.0.0/8", "fd00::/8", "9.0.0.0/8", "900::/8"] }],
    ["the engine's numbers", { counters: () => new LocalCounters(65_536, 1n) }],
    ["the engine's replay window", { counters: () => new Forgetful(65_536) }],
    ["the engine's seal", { suite: { ...nodeSuite, aeadSeal: brokenSeal } }],
    ["the engine's segmentation", { cut: (bytes) => [bytes] }],
  ];
  canOpenPlanes.each(mutations)(
    "%s",
    (_, mutation) => {
      expect(() => compare(ENOUGH, mutation)).toThrow(/the engine.*the fast path|the fast path.*the engine/);
    },
    LIMIT_MS,
  );
});

class Forgetful extends LocalCounters {
  override isFresh(): boolean {
    return true;
  }
}

type Writable = Parameters<NonNullable<Mutation["fast"]>>[0];
type Packets = Writable["packets"];

function replace(parts: Writable, change: Partial<Packets>): void {
  parts.packets = { ...parts.packets, ...change };
}

function withoutPadding({ packets }: Writable): Packets["next"] {
  return (index) => packets.next(index, 0);
}

function singleOnly({ packets }: Writable): Packets["begin"] {
  return (...read) => (packets.begin(...read) > 1 ? -1 : 1);
}

function trusting({ aead }: Writable): Writable["aead"] {
  const { name, seal } = aead;
  return { name, seal, open: (...message) => aead.open(...message) || true };
}

/** Of data; a handshake has something to authenticate beside. */
function brokenSeal(...[key, nonce, plaintext, data]: Parameters<Suite["aeadSeal"]>): Uint8Array {
  const sealed = nodeSuite.aeadSeal(key, nonce, plaintext, data);
  if (data === undefined && plaintext.length > 0) sealed[0] = (sealed[0] ?? 0) ^ 1;
  return sealed;
}
