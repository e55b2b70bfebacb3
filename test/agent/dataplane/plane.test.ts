/**
 * The whole fast path against the engine's own WireGuard, over real sockets: the same bytes on the wire, the same
 * packets out of the device, the same counts of what was refused. A pair of Unix sockets stands in for the device.
 */
import fc from "fast-check";
import { Prefix } from "../../../agent/src/base/address.ts";
import { concat } from "../../../agent/src/base/bytes.ts";
import { instant } from "../../../agent/src/base/time.ts";
import { compileFilter } from "../../../agent/src/core/filter/filter.ts";
import { cutPacket, decodeVirtioHeader } from "../../../agent/src/core/ip/offload.ts";
import { clampMss } from "../../../agent/src/core/ip/mss.ts";
import { packetLength } from "../../../agent/src/core/wireguard/allowed-ips.ts";
import { Keypair } from "../../../agent/src/core/wireguard/keypair.ts";
import { decodeMessage } from "../../../agent/src/core/wireguard/messages.ts";
import { Counter } from "../../../agent/src/dataplane/messages.ts";
import { encodeSockaddr } from "../../../agent/src/io/ffi/libc.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { canOpenPlanes } from "./can-open-planes.ts";
import { closePlanes, type Ends, KEYS, MTU, openEnds, openPair, PREFIXES } from "./planes.ts";
import { byFlow, type Flow, flows, headerLengths, makePacket, pattern, virtio } from "./support.ts";

const SYN: Flow = {
  ...{ version: 4, isTcp: true, port: 1, sequence: 1, flags: 2, options: 4, id: 1 },
  ...{ dontFragment: true, trafficClass: 0 },
};
const NOW = instant(1000);
/** A wait that is not worth waiting for (ms). */
const LONG = 100;
const testPlane = canOpenPlanes;

afterEach(closePlanes);

const reads = fc.record({
  flow: flows,
  length: fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: 30_000 })),
  size: fc.integer({ min: 400, max: MTU - 100 }),
  whole: fc.boolean(),
});

interface Read {
  readonly header: Uint8Array;
  readonly bytes: Uint8Array;
  readonly packets: readonly Uint8Array[];
}

const madeReads: fc.Arbitrary<Read> = reads.map(({ flow, length, size, whole }) => {
  const most = whole ? MTU - headerLengths(flow).ip - headerLengths(flow).transport : 30_000;
  const bytes = makePacket(flow, pattern(Math.min(length, most)));
  const header = virtio(whole ? undefined : flow, size);
  const packets = cutPacket(bytes, decodeVirtioHeader(header), 65_535);
  if (typeof packets === "string") throw new Error(packets);
  return { header, bytes, packets };
});

testPlane("seals the very bytes that the engine would", () => {
  fc.assert(
    fc.property(fc.array(madeReads, { minLength: 1, maxLength: 5 }), (script) => {
      const ends = openEnds({});
      const twin = pairOf({ isInitiator: true, send: KEYS.a, receive: KEYS.b, remoteIndex: 20 });
      for (const { header, bytes } of script) ends.toDevice(concat(header, bytes));
      ends.turn();
      const expected = script.flatMap(({ packets }) => packets.map((packet) => hex(twin.seal(packet, MTU))));
      expect(ends.datagrams().map(hex)).toEqual(expected);
      expect(ends.counter(Counter.sentPackets)).toBe(expected.length);
      ends.close();
    }),
    { numRuns: 60 },
  );
});

const arrivals = fc.array(
  fc.record({
    read: madeReads,
    fate: fc.constantFrom(
      "pass",
      "pass",
      "pass",
      "lost",
      "twice",
      "damaged",
      "late",
      "foreign",
      "no-ip",
      "keepalive",
    ),
    at: fc.nat({ max: 40 }),
  }),
  { minLength: 1, maxLength: 12 },
);

testPlane("opens and refuses what the engine would", () => {
  fc.assert(
    fc.property(arrivals, (script) => {
      const ends = openEnds({});
      const peer = pairOf({ isInitiator: false, send: KEYS.b, receive: KEYS.a, remoteIndex: 10 });
      const twin = new Reference();
      const messages = script.flatMap(({ read, fate, at }) => messagesOf(peer, read.packets, fate, at));
      for (const message of messages) {
        twin.take(message);
        ends.toPlane(message);
        ends.turn();
      }
      expect(byFlow(ends.fromDevice())).toEqual(byFlow(twin.delivered));
      const { replay, unauthenticated, wrongSource, notIp } = twin.refused;
      expect(countersOf(ends)).toEqual({ replay, unauthenticated, wrongSource, notIp });
      ends.close();
    }),
    { numRuns: 60 },
  );
});

function messagesOf(
  peer: Keypair,
  packets: readonly Uint8Array[],
  fate: string,
  at: number,
): readonly Uint8Array[] {
  const sealed = packets.map((packet) => peer.seal(fated(packet, fate), MTU));
  const [first, ...rest] = sealed;
  if (first === undefined) return [];
  if (fate === "lost") return rest;
  if (fate === "twice") return [first, first, ...rest];
  if (fate === "late") return [...rest, first];
  if (fate !== "damaged") return sealed;
  const damaged = first.slice();
  const spot = 16 + (at % (first.length - 16));
  damaged[spot] = (damaged[spot] ?? 0) ^ 1;
  return [damaged, first, ...rest];
}

function fated(packet: Uint8Array, fate: string): Uint8Array {
  if (fate === "keepalive") return new Uint8Array(0);
  const out = packet.slice();
  if (fate === "no-ip") out[0] = 0x15;
  if (fate === "foreign") out[(packet[0] ?? 0) >> 4 === 4 ? 12 : 8] = 9;
  return out;
}

/** What the engine does with messages, in a few lines: `Peer.handleTransport` and `Node.handleOpened`. */
class Reference {
  readonly delivered: Uint8Array[] = [];
  readonly refused = { replay: 0, unauthenticated: 0, wrongSource: 0, notIp: 0 };
  readonly #keypair = pairOf({ isInitiator: true, send: KEYS.a, receive: KEYS.b, remoteIndex: 20 });

  take(payload: Uint8Array): void {
    const message = decodeMessage(payload);
    if (typeof message === "string" || message.kind !== "transport") throw new Error("no transport message");
    const padded = this.#keypair.open(message, NOW);
    if (padded === "replay" || padded === "unauthenticated") this.refused[padded]++;
    if (typeof padded === "string" || padded.length === 0) return;
    const length = packetLength(padded);
    const source = padded[(padded[0] ?? 0) >> 4 === 4 ? 12 : 8];
    if (length === undefined) this.refused.notIp++;
    else if (source !== 100 && source !== 0xfd) this.refused.wrongSource++;
    else this.delivered.push(padded.subarray(0, length));
  }
}

const WAYS = [
  { name: "everything on", options: {} },
  { name: "no UDP segmentation", options: { gso: false } },
  { name: "no UDP receive offload", options: { gro: false } },
  { name: "no large packets at the device", options: { offload: false } },
  { name: "no large UDP packets at the device", options: { udpOffload: false } },
  { name: "OpenSSL's own beginning and end of Poly1305", options: { wantedAead: "openssl-raw-calls" } },
  { name: "OpenSSL's public interface", options: { wantedAead: "openssl-evp" } },
  { name: "WebAssembly", options: { wantedAead: "wasm" } },
  { name: "node:crypto", options: { wantedAead: "node-crypto" } },
];

for (const { name, options } of WAYS) {
  testPlane(`two of them carry packets unchanged, through rekeying: ${name}`, () => {
    fc.assert(
      fc.property(
        fc.array(madeReads, { minLength: 1, maxLength: 6 }),
        fc.nat({ max: 5 }),
        (script, rekeyAt) => {
          const { a, b, close } = openPair(options);
          const expected: Uint8Array[] = [];
          for (const [i, { header, bytes, packets }] of script.entries()) {
            if (i === rekeyAt) a.useSecondSession(b);
            if (options.offload === false) for (const packet of packets) a.toDevice(packet);
            else a.toDevice(concat(header, bytes));
            expected.push(...packets);
            a.turn();
            b.turn();
          }
          b.turn();
          expect(byFlow(b.fromDevice())).toEqual(byFlow(expected));
          expect(a.aead).toBe(options.wantedAead ?? a.aead);
          close();
        },
      ),
      { numRuns: 15 },
    );
  });
}

testPlane("a way to seal that there is not is refused", () => {
  expect(() => openEnds({ wantedAead: "opensll-raw" })).toThrow(/no way .*opensll-raw: give openssl-raw, /);
});

/** How many calls ten segments of this length took; all must arrive. */
function sendTen(ends: Ends, segment: number): number {
  const flow: Flow = { ...PLAIN_FLOW, sequence: segment };
  const before = ends.counter(Counter.sendCalls);
  ends.toDevice(concat(virtio(flow, segment), makePacket(flow, pattern(10 * segment))));
  ends.turn();
  expect(ends.datagrams()).toHaveLength(10);
  return ends.counter(Counter.sendCalls) - before;
}

const PLAIN_FLOW: Flow = {
  ...{ version: 4, isTcp: true, port: 1, sequence: 0, flags: 0x10, options: 0 },
  ...{ id: 1, dontFragment: true, trafficClass: 0 },
};

testPlane("a train too long for its path (EINVAL) goes one by one, shorter ones as before", () => {
  const ends = openEnds({ mtu: 1420 }, (size) => (size > 1000 ? 22 : 0));
  expect([sendTen(ends, 1200), sendTen(ends, 1200), sendTen(ends, 500)]).toEqual([11, 10, 1]);
  expect(ends.counter(Counter.gso)).toBe(1);
  ends.close();
});

testPlane("a network device without checksums (EIO) gets no trains any more", () => {
  const ends = openEnds({}, () => 5);
  expect([sendTen(ends, 1200), sendTen(ends, 500)]).toEqual([11, 10]);
  expect(ends.counter(Counter.gso)).toBe(0);
  ends.close();
});

testPlane("what it can not send, it hands to the engine", () => {
  fc.assert(
    fc.property(madeReads, ({ header, bytes, packets }) => {
      const ends = openEnds({});
      ends.plane.apply({ kind: "send", peer: 1, to: undefined });
      ends.toDevice(concat(header, bytes));
      ends.turn();
      expect(ends.handedPackets().map(hex)).toEqual(packets.map(hex));
      expect(ends.datagrams()).toEqual([]);
      ends.close();
    }),
    { numRuns: 20 },
  );
});

testPlane("what is longer than the peer's path carries is the engine's, until the path carries it", () => {
  const ends = openEnds({ mtu: 9000 });
  const flow: Flow = { ...SYN, isTcp: false };
  const packet = makePacket(flow, pattern(4000));
  const large = concat(virtio(flow, 3000), makePacket(flow, pattern(8000)));
  for (const read of [concat(virtio(undefined, 0), packet), large]) ends.toDevice(read);
  ends.turn();
  expect(ends.handedPackets().map(({ length }) => length)).toEqual([4028, 3028, 3028, 2028]);
  expect(ends.datagrams()).toEqual([]);
  ends.plane.apply({ kind: "mtu", peer: 1, mtu: 8000 });
  for (const read of [concat(virtio(undefined, 0), packet), large]) ends.toDevice(read);
  ends.turn();
  expect(ends.datagrams()).toHaveLength(4);
  ends.close();
});

testPlane("a connection begins with segments that the path carries, in both directions", () => {
  const { a, b, close } = openPair({ mtu: 9000 });
  b.plane.apply({ kind: "mtu", peer: 1, mtu: 2000 });
  a.plane.apply({ kind: "mtu", peer: 1, mtu: 4000 });
  for (const version of [4, 6] as const) {
    const offered = makePacket({ ...SYN, version }, new Uint8Array(0));
    const { ip } = headerLengths({ ...SYN, version });
    offered.set([2, 4, 0x22, 0x60], ip + 20);
    const expected = offered.slice();
    expect([clampMss(expected, 4000), clampMss(expected, 2000)]).toEqual([true, true]);
    a.toDevice(concat(virtio(undefined, 0), offered));
    a.turn();
    b.turn();
    expect(b.fromDevice().map(hex)).toEqual([hex(expected)]);
  }
  close();
});

/** A message of the peer, sealed as it would. */
function peerSealer(): () => Uint8Array {
  const peer = pairOf({ isInitiator: false, send: KEYS.b, receive: KEYS.a, remoteIndex: 10 });
  return () => peer.seal(makePacket(PLAIN_FLOW, pattern(100)), MTU);
}

testPlane(
  "a peer that is heard elsewhere is reported once, and answered there when the engine says so",
  () => {
    const ends = openEnds({});
    const [seal, elsewhere] = [peerSealer(), ends.openSocket()];
    const hear = (from: { toPlane(datagram: Uint8Array): void }, message = seal()): readonly string[] => {
      from.toPlane(message);
      ends.turn();
      return ends.roamed().map(({ text }) => text);
    };
    expect(hear(ends)).toEqual([]);
    expect(hear(elsewhere)).toEqual([elsewhere.address.text]);
    expect(hear(elsewhere)).toEqual([]);
    const address = encodeSockaddr(elsewhere.address);
    ends.plane.apply({ kind: "send", peer: 1, to: { slot: 0, until: 1e9, inDoubt: false, address } });
    ends.toDevice(concat(virtio(undefined, 0), makePacket(PLAIN_FLOW, pattern(100))));
    ends.turn();
    expect([elsewhere.datagrams().length, ends.datagrams().length]).toEqual([1, 0]);
    expect(hear(elsewhere)).toEqual([]);
    expect(hear(ends)).toEqual([ends.peerAddress.text]);
    expect(hear(elsewhere)).toEqual([elsewhere.address.text]);
    ends.close();
  },
);

testPlane("of messages from two addresses that came together, each change of place is reported", () => {
  const ends = openEnds({});
  const [seal, elsewhere] = [peerSealer(), ends.openSocket()];
  for (const from of [ends, elsewhere, elsewhere, ends, ends, elsewhere]) from.toPlane(seal());
  ends.turn();
  const [home, away] = [ends.peerAddress.text, elsewhere.address.text];
  expect(ends.roamed().map(({ text }) => text)).toEqual([away, home, away]);
  ends.close();
});

testPlane("only a message that proves the key, for the first time, says where a peer is, if it roams", () => {
  const ends = openEnds({});
  const [seal, elsewhere] = [peerSealer(), ends.openSocket()];
  const [first, forged] = [seal(), seal()];
  forged[40] = (forged[40] ?? 0) ^ 1;
  ends.toPlane(first);
  for (const message of [first, forged, Uint8Array.of(1, 2, 3)]) elsewhere.toPlane(message);
  ends.turn();
  expect(ends.roamed()).toEqual([]);
  ends.plane.apply({ kind: "peer", peer: 1, prefixes: PREFIXES });
  elsewhere.toPlane(seal());
  ends.turn();
  expect(ends.roamed()).toEqual([]);
  expect(ends.counter(Counter.receivedPackets)).toBe(2);
  ends.close();
});

const [A4, B4] = [
  [100, 64, 0, 1],
  [100, 64, 0, 2],
];

function v4(proto: number, [from, to]: readonly (readonly number[])[], body: readonly number[], options = 0) {
  const header = 20 + options;
  const head = [0x40 | (header / 4), 0, 0, header + body.length, 0, 0, 0, 0, 64, proto, 0, 0];
  return Uint8Array.from([...head, ...(from ?? []), ...(to ?? []), ...OPTIONS.slice(0, options), ...body]);
}

/** From ::1 of the peer's network to ::2 or back. */
function v6(next: number, isBack: boolean, body: readonly number[]): Uint8Array {
  const address = (host: number): readonly number[] => [0xfd, ...Array<number>(14).fill(0), host];
  const ends = isBack ? [address(2), address(1)] : [address(1), address(2)];
  return Uint8Array.from([0x60, 0, 0, 0, 0, body.length, next, 64, ...ends.flat(), ...body]);
}

/** A router alert (RFC 2113): the same in all packets. */
const OPTIONS = [0x94, 4, 0, 0];
const [OUT, BACK] = [
  [A4 ?? [], B4 ?? []],
  [B4 ?? [], A4 ?? []],
];
const PORTS = { out: [0x10, 0, 0x20, 0], back: [0x20, 0, 0x10, 0] };
const udp = (ports: readonly number[]): readonly number[] => [...ports, 0, 16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const sctp = (ports: readonly number[]): readonly number[] => [...ports, ...Array<number>(12).fill(0)];
const inFragment = (offset: number, more: 0 | 1): readonly number[] => [
  17,
  0,
  0,
  (offset << 3) | more,
  0,
  0,
  0,
  9,
];
const asFragment = (packet: Uint8Array, field: number): Uint8Array => {
  new DataView(packet.buffer).setUint16(6, field);
  return packet;
};
const answer4 = v4(17, BACK, udp(PORTS.back));
const answer6 = v6(17, true, udp(PORTS.back));
const otherFlow = v4(17, OUT, udp([0x30, 0, 0x20, 0]), 4);

testPlane.each<[string, readonly Uint8Array[], Uint8Array, boolean]>([
  ["SCTP over IPv4", [v4(132, OUT, sctp(PORTS.out))], v4(132, BACK, sctp(PORTS.back)), true],
  ["SCTP over IPv6", [v6(132, false, sctp(PORTS.out))], v6(132, true, sctp(PORTS.back)), true],
  ["UDP", [v4(17, OUT, udp(PORTS.out))], answer4, true],
  ["UDP behind IPv4 options", [otherFlow, v4(17, OUT, udp(PORTS.out), 4)], answer4, true],
  ["UDP in a first fragment", [asFragment(v4(17, OUT, udp(PORTS.out)), 0x2000)], answer4, true],
  ["UDP in a later fragment", [asFragment(v4(17, OUT, udp(PORTS.out)), 0x0010)], answer4, false],
  ["UDP in IPv6's first fragment", [v6(44, false, [...inFragment(0, 1), ...udp(PORTS.out)])], answer6, true],
  ["UDP in IPv6's later one", [v6(44, false, [...inFragment(16, 1), ...udp(PORTS.out)])], answer6, false],
  [
    "UDP behind two of IPv6's extension headers",
    [v6(0, false, [60, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0, ...udp(PORTS.out)])],
    answer6,
    true,
  ],
  ["another flow", [otherFlow], answer4, false],
])("an answer comes in where the engine lets it in: %s", (_, sent, answer, isLetIn) => {
  const localAddresses = ["100.64.0.1/32", "fd00::1/128"];
  const engine = compileFilter([], { localAddresses: localAddresses.map(Prefix.parse) });
  const ends = openEnds({});
  ends.plane.apply({ kind: "filter", rules: [], localAddresses, excluded: [] });
  for (const packet of sent) {
    engine.noteOutbound(packet);
    ends.toDevice(concat(virtio(undefined, 0), packet));
  }
  ends.turn();
  expect(ends.counter(Counter.sentPackets)).toBe(sent.length);
  const peer = pairOf({ isInitiator: false, send: KEYS.b, receive: KEYS.a, remoteIndex: 10 });
  ends.toPlane(peer.seal(answer, MTU));
  ends.turn();
  const delivered = ends.fromDevice().length;
  ends.close();
  expect([delivered === 1, engine.accepts(answer).verdict === "accept"]).toEqual([isLetIn, isLetIn]);
});

const RELAYED = 700;

for (const role of ["both", "inbound", "shared"] as const) {
  testPlane(`all messages of a relay are opened without another word, however many came: ${role}`, () => {
    const ends = openEnds({ role });
    const seal = peerSealer();
    expect(Array.from({ length: RELAYED }, () => ends.relay(seal()))).not.toContain(false);
    ends.wake();
    for (let i = 0; i < 4; i++) ends.plane.turn(1000, LONG);
    expect(ends.counter(Counter.receivedPackets)).toBe(RELAYED);
    ends.close();
  });
}

testPlane("any datagram is refused, opened or handed to the engine as it came", () => {
  const ends = openEnds({});
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.boolean(),
      fc.boolean(),
      (noise, isTransport, isKnown) => {
        const datagram = noise.slice();
        if (isTransport && datagram.length > 8) datagram.set([4, 0, 0, 0, isKnown ? 10 : 99, 0, 0, 0]);
        ends.toPlane(datagram);
        ends.turn();
        const handed = ends.handedDatagrams().map(hex);
        const isOurs = datagram.length >= 32 && hex(datagram.subarray(0, 8)) === "040000000a000000";
        const isHigh = isOurs && datagram.subarray(12, 16).some((byte) => byte !== 0);
        if (datagram.length > 0) expect(handed).toEqual(isOurs && !isHigh ? [] : [hex(datagram)]);
        expect(ends.fromDevice()).toEqual([]);
      },
    ),
    { numRuns: 500 },
  );
  ends.close();
});

function pairOf(options: {
  isInitiator: boolean;
  send: Uint8Array;
  receive: Uint8Array;
  remoteIndex: number;
}): Keypair {
  const { isInitiator, send, receive, remoteIndex } = options;
  return new Keypair({
    suite: nodeSuite,
    keys: { send, receive },
    isInitiator,
    localIndex: 0,
    remoteIndex,
    createdAt: NOW,
    replayWindow: 65_536,
  });
}

function countersOf(ends: Ends): Record<string, number> {
  return {
    replay: ends.counter(Counter.replay),
    unauthenticated: ends.counter(Counter.unauthenticated),
    wrongSource: ends.counter(Counter.wrongSource),
    notIp: ends.counter(Counter.notIp),
  };
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("hex");
}

/** Gathering keeps the order within a flow only. */
