/**
 * Hostile bytes through both directions: from the device with any virtio header, and from a peer that seals whatever it
 * likes, or does not bother to seal. Nothing may be written outside of its area, and the data plane must go on as before.
 *
 * SALLYPORT_FUZZ_PACKETS says how many; a short run is part of every test run, `npm run fuzz:dataplane` makes a long one.
 */
import { concat, viewOf } from "../../../agent/src/base/bytes.ts";
import { instant } from "../../../agent/src/base/time.ts";
import { Keypair } from "../../../agent/src/core/wireguard/keypair.ts";
import { Counter } from "../../../agent/src/dataplane/messages.ts";
import { SESSION_SIZE } from "../../../agent/src/dataplane/session-table.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { canOpenPlanes, closePlanes, type Ends, KEYS, MTU, openEnds } from "./planes.ts";
import { type Flow, makePacket, pattern, virtio } from "./support.ts";

const PACKETS = Number(process.env["SALLYPORT_FUZZ_PACKETS"] ?? 30_000);
const SEED = Number(process.env["SALLYPORT_FUZZ_SEED"] ?? 1);
/** Between looks at the memory, and words about how far it is. */
const ROUND = 20_000;
const SAY_EVERY_MS = 10_000;
/** Made once: what is hostile about them is new each time. */
const POOL = 2_000;
/** In and out, before the data plane gets its turn. */
const BATCH = 32;

let state = SEED;

/** Mulberry32: a good look matters less than speed. */
function draw(below: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
  mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
  return ((mixed ^ (mixed >>> 14)) >>> 0) % below;
}

function pick<T>(...choices: readonly [T, ...T[]]): T {
  return choices[draw(choices.length)] ?? choices[0];
}

interface Made {
  readonly flow: Flow;
  readonly bytes: Uint8Array;
}

function anyFlow(): Flow {
  return {
    version: pick(4, 6),
    isTcp: draw(2) === 0,
    port: draw(5),
    sequence: draw(2 ** 32),
    flags: pick(0x10, 0x18, 0x02, 0x12, 0x11, 0xff, 0),
    options: pick(0, 4, 12, 40),
    id: draw(65_536),
    dontFragment: draw(2) === 0,
    trafficClass: draw(256),
  };
}

function makePool(longest: readonly [number, ...number[]]): readonly Made[] {
  return Array.from({ length: POOL }, () => {
    const flow = anyFlow();
    return { flow, bytes: makePacket(flow, pattern(draw(pick(...longest)), draw(256))) };
  });
}

/** A packet that is right, or nearly so. */
function anyOf(pool: readonly Made[]): Made {
  const made = pool[draw(pool.length)];
  if (made === undefined) throw new Error("an empty pool");
  const bytes = made.bytes.slice();
  for (let i = draw(4); i > 0; i--) bytes[draw(Math.min(bytes.length, 80))] = pick(0, 0xff, 0x7f, draw(256));
  return { flow: made.flow, bytes: draw(8) === 0 ? bytes.subarray(0, draw(bytes.length + 1)) : bytes };
}

function anyRead(pool: readonly Made[]): Uint8Array {
  const { flow, bytes } = anyOf(pool);
  const header = virtio(draw(3) === 0 ? undefined : flow, pick(0, 500, 1200, 1201, 65_535));
  // Few bytes each: only of short packets, or this alone would take all the time.
  if (bytes.length < 200 && draw(8) === 0) viewOf(header).setUint16(4, pick(1, 8), true);
  if (draw(3) === 0) header[pick(0, 1, 2, 3, 6, 7, 8, 9)] = draw(256);
  return draw(500) === 0 ? header.subarray(0, draw(10)) : concat(header, bytes);
}

function anyMessage(pool: readonly Made[], peer: Keypair): Uint8Array {
  const kind = draw(20);
  if (kind === 0) return pattern(draw(200), draw(256));
  const message = peer.seal(draw(50) === 0 ? new Uint8Array(0) : anyOf(pool).bytes, MTU);
  if (kind <= 3) message[draw(message.length)] = draw(256);
  if (kind === 4) message.set([pick(1, 2, 3, 4, 5)], 0);
  return kind <= 6 ? message.subarray(0, draw(message.length + 1)) : message;
}

/** What no packet may change: the keys, the addresses, and what nobody uses. */
function guarded({ plane }: Ends): readonly (readonly [number, number])[] {
  const { layout } = plane.parts;
  return [
    [layout.sessions + 64, layout.sessions + 128],
    [layout.sessions + SESSION_SIZE, layout.sessions + 4 * SESSION_SIZE],
    [layout.peers, layout.peers + 256],
  ];
}

canOpenPlanes(
  `${PACKETS} hostile packets change nothing but counters`,
  () => {
    const ends = openEnds({});
    const bytes = new Uint8Array(ends.plane.parts.memory);
    const look = (): string =>
      guarded(ends)
        .map(([from, to]) => Buffer.from(bytes.slice(from, to)).toString("base64"))
        .join();
    const { sessions } = ends.plane.parts.layout;
    bytes.fill(0xa5, sessions + SESSION_SIZE, sessions + 4 * SESSION_SIZE);
    const peer = new Keypair({
      suite: nodeSuite,
      keys: { send: KEYS.b, receive: KEYS.a },
      isInitiator: false,
      ...{ localIndex: 20, remoteIndex: 10, createdAt: instant(0), replayWindow: 64 },
    });
    const [reads, messages] = [makePool([100, 1_200, 1_200, 20_000]), makePool([50, 200, 1_200])];
    const before = look();
    let [delivered, sent, saidAt] = [0, 0, performance.now()];
    const began = saidAt;
    for (let count = 0; count < PACKETS;) {
      for (const end = Math.min(count + ROUND, PACKETS); count < end;) {
        for (let i = 0; i < BATCH; i += 2, count += 2) {
          ends.toDevice(anyRead(reads));
          ends.toPlane(anyMessage(messages, peer));
        }
        ends.turn();
        sent += ends.countDatagrams();
        delivered += ends.fromDevice().length;
        ends.handedOver();
      }
      expect(look() === before).toBe(true);
      expectAlive(ends);
      if (performance.now() - saidAt < SAY_EVERY_MS) continue;
      saidAt = performance.now();
      const rate = Math.round((count / (saidAt - began)) * 1000);
      process.stderr.write(
        `fuzz: ${count} packets, ${rate} a second; ${delivered} delivered, ${sent} sent\n`,
      );
    }
    expect(Math.min(delivered, sent)).toBeGreaterThan(PACKETS / 100);
    const refused = REASONS.map((name) => `${name} ${ends.counter(Counter[name])}`);
    process.stderr.write(
      `fuzz: ${PACKETS} packets, seed ${SEED}: ${delivered} delivered, ${sent} sent, ${refused.join(", ")}\n`,
    );
    for (const name of REASONS) expect(ends.counter(Counter[name])).toBeGreaterThan(0);
    ends.close();
    closePlanes();
  },
  Math.max(60_000, PACKETS),
);

const REASONS = ["malformed", "noPeer", "notIp", "wrongSource", "unauthenticated"] as const;

/** A packet that is right still passes. */
function expectAlive(ends: Ends): void {
  const flow: Flow = { ...anyFlow(), version: 4, flags: 16 };
  ends.toDevice(concat(virtio(undefined, 0), makePacket(flow, pattern(100))));
  ends.turn();
  expect(ends.countDatagrams()).toBe(1);
}
