/** The same promises with one worker, one for each direction, and several that share both: real threads, real sockets. */
import { join } from "node:path";
import { IpPort, Prefix } from "../../../agent/src/base/address.ts";
import { concat } from "../../../agent/src/base/bytes.ts";
import { NodePublic } from "../../../agent/src/base/keys.ts";
import { instant } from "../../../agent/src/base/time.ts";
import { cutPacket, decodeVirtioHeader } from "../../../agent/src/core/ip/offload.ts";
import { roleOf, workersFor } from "../../../agent/src/dataplane/crew.ts";
import { type DataPlaneHost, startDataPlane } from "../../../agent/src/dataplane/host.ts";
import { Counter } from "../../../agent/src/dataplane/messages.ts";
import { now } from "../../../agent/src/io/clock.ts";
import { isAbsent } from "../../../agent/src/io/ffi/koffi.ts";
import { AF_INET, type Libc, loadLibc, SOCK_DGRAM, SOL_SOCKET } from "../../../agent/src/io/ffi/libc.ts";
import { canOpenPlanes } from "./can-open-planes.ts";
import { buildWorker, removeWorker } from "./worker-program.ts";
import { type Flow, makePacket, pattern, virtio } from "./support.ts";

const testCrew = canOpenPlanes;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const BUFFER = 1 << 23;
const PATIENCE_MS = 20_000;
const PEER = NodePublic.fromBytes(new Uint8Array(32).fill(7));
const KEYS = [new Uint8Array(32).fill(1), new Uint8Array(32).fill(2)] as const;
const NEXT_KEYS = [new Uint8Array(32).fill(3), new Uint8Array(32).fill(4)] as const;

let program = "";
beforeAll(() => {
  program = join(buildWorker(), "dataplane.mjs");
});
afterAll(removeWorker);

interface End {
  readonly host: DataPlaneHost;
  readonly libc: Libc;
  /** The test's end of the device. */
  readonly device: number;
  close(): Promise<void>;
}

async function openEnd(workers: number): Promise<End> {
  const libc = loadLibc();
  if (isAbsent(libc)) throw new Error(libc.absent);
  const pair = libc.socketPair();
  if (typeof pair === "number") throw new Error(String(pair));
  const wire = libc.socket(AF_INET, SOCK_DGRAM, 0);
  libc.bind(wire, IpPort.parse("127.0.0.1:0"));
  for (const fd of [...pair, wire]) {
    libc.setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, BUFFER);
    libc.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER);
  }
  const host = await startDataPlane({
    mtu: 1280,
    tun: { name: "test", fd: pair[0], offload: true, udpOffload: true },
    udp: { v4: wire, v6: -1, localPort: libc.localPort(wire), marked: false, gro: false },
    workers,
    env: {},
    program,
    onFatal: (error) => {
      throw error;
    },
  });
  const everywhere = [{ IP: "*", Ports: { First: 0, Last: 65_535 } }];
  host.decide({
    kind: "filter",
    rules: [{ SrcIPs: ["*"], DstPorts: everywhere }],
    localAddresses: [Prefix.parse("0.0.0.0/0"), Prefix.parse("::/0")],
    excluded: [],
  });
  const prefixes = [Prefix.parse("100.0.0.0/8"), Prefix.parse("fd00::/8")];
  host.decide({ kind: "peer", peer: PEER, prefixes });
  const close = async (): Promise<void> => {
    await host.close();
    libc.close(pair[1]);
  };
  return { host, libc, device: pair[1], close };
}

type Keys = readonly [Uint8Array, Uint8Array];

/** A session of both: what one sends with, the other receives with. */
function openSession(ends: readonly [End, End], [first, second]: Keys, number: number): void {
  const expiresAt = instant(now() + 60_000);
  for (const [i, { host }] of ends.entries()) {
    const localIndex = number * 10 + i;
    const keys = i === 0 ? { send: first, receive: second } : { send: second, receive: first };
    host.sessions.open({ keys, localIndex, remoteIndex: number * 10 + 1 - i });
    host.decide({ kind: "receive", peer: PEER, sessions: [{ localIndex, expiresAt }] });
  }
  for (const [i, { host }] of ends.entries()) {
    const address = IpPort.parse(`127.0.0.1:${ends[1 - i]?.host.udp.localPort}`);
    const session = { localIndex: number * 10 + i, expiresAt };
    host.decide({ kind: "send", peer: PEER, to: { address, session, inDoubt: false } });
  }
}

function flowOf(port: number, sequence: number): Flow {
  const fixed = { version: 4, isTcp: true, flags: 16, options: 0, id: 1, trafficClass: 0 } as const;
  return { ...fixed, port, sequence, dontFragment: true };
}

const SEGMENT = 1200;

/** Large reads of four flows, one after the other, with small packets among them. */
function* script(rounds: number): Generator<Uint8Array> {
  const sequences = [0, 0, 0, 0, 0];
  for (let round = 0; round < rounds; round++) {
    const port = 1 + (round % 4);
    const length = round % 7 === 0 ? 100 : SEGMENT * (4 + (round % 30));
    const flow = flowOf(port, sequences[port] ?? 0);
    sequences[port] = (sequences[port] ?? 0) + length;
    yield concat(virtio(flow, length > SEGMENT ? SEGMENT : 0), makePacket(flow, pattern(length, round)));
  }
}

/** Where each flow's packets begin and how long they are, in the order of arrival. */
function note(found: Map<number, number[]>, reads: readonly Uint8Array[]): void {
  for (const read of reads) {
    const packets = cutPacket(read.subarray(10), decodeVirtioHeader(read.subarray(0, 10)), 65_535);
    for (const packet of typeof packets === "string" ? [] : packets) {
      const view = new DataView(packet.buffer, packet.byteOffset);
      const port = view.getUint16(20);
      found.set(port, [...(found.get(port) ?? []), view.getUint32(24), packet.length]);
    }
  }
}

function readAll({ libc, device }: End): readonly Uint8Array[] {
  const scratch = new Uint8Array(70_000);
  const found: Uint8Array[] = [];
  for (let length = libc.read(device, scratch); length > 0; length = libc.read(device, scratch))
    found.push(scratch.slice(0, length));
  return found;
}

const total = (found: Map<number, number[]>): number => [...found.values()].flat().length;

testCrew.each([1, 2, 4])(
  "%i workers carry every packet once and each flow in order, through a rekeying",
  async (workers) => {
    const ends = [await openEnd(workers), await openEnd(workers)] as const;
    openSession(ends, KEYS, 1);
    const [expected, found] = [new Map<number, number[]>(), new Map<number, number[]>()];
    let round = 0;
    for (const read of script(160)) {
      note(expected, [read]);
      while (ends[0].libc.write(ends[0].device, read) < 0)
        await new Promise((resolve) => setImmediate(resolve));
      if (++round === 80) openSession(ends, NEXT_KEYS, 2);
      // As a receiver does: at most a few reads are under way, so that no socket's buffer overflows.
      const end = performance.now() + PATIENCE_MS;
      while (total(expected) - total(found) > 300 && performance.now() < end) {
        note(found, readAll(ends[1]));
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    for (
      const end = performance.now() + PATIENCE_MS;
      performance.now() < end && total(found) < total(expected);
    ) {
      await new Promise((resolve) => setTimeout(resolve, 2));
      note(found, readAll(ends[1]));
    }
    expect(found).toEqual(expected);
    const [{ counters: sent, workers: count }, { counters: received }] = [
      ends[0].host.status,
      ends[1].host.status,
    ];
    expect([count, received.replay, received.unauthenticated, sent.sendDropped]).toEqual([workers, 0, 0, 0]);
    expect(received.receivedPackets).toBe(sent.sentPackets);
    expect(Object.keys(sent)).toEqual(Object.keys(Counter));
    for (const end of ends) await end.close();
  },
  60_000,
);

test("few processors get few threads", () => {
  expect([1, 2, 3, 4, 8, 64].map(workersFor)).toEqual([1, 1, 2, 2, 4, 8]);
  expect([roleOf(0, 1), roleOf(0, 2), roleOf(1, 2), roleOf(2, 3)]).toEqual([
    "both",
    "outbound",
    "inbound",
    "shared",
  ]);
});

testCrew.each([1, 2, 4])(
  "%i workers seal for the engine what goes by a relay, and open what came by one",
  async (workers) => {
    const ends = [await openEnd(workers), await openEnd(workers)] as const;
    openSession(ends, KEYS, 1);
    ends[0].host.decide({
      kind: "send",
      peer: PEER,
      to: {
        address: undefined,
        session: { localIndex: 10, expiresAt: instant(now() + 60_000) },
        inDoubt: false,
      },
    });
    const batches: number[] = [];
    const nothing = { passed: () => {}, roamed: () => {}, sent: () => {}, opened: () => {} };
    ends[0].host.onPassed({
      ...nothing,
      sealed: (peer, messages) => {
        expect(peer).toBe(PEER);
        batches.push(messages.length);
        for (const message of messages) expect(ends[1].host.openRelayed(message)).toBe(true);
      },
    });
    const [expected, found] = [new Map<number, number[]>(), new Map<number, number[]>()];
    for (const read of script(40)) {
      note(expected, [read]);
      ends[0].libc.write(ends[0].device, read);
      for (
        const end = performance.now() + PATIENCE_MS;
        performance.now() < end && total(found) < total(expected);
      ) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        note(found, readAll(ends[1]));
      }
    }
    expect(found).toEqual(expected);
    expect(Math.max(...batches)).toBeGreaterThan(20);
    expect(ends[0].host.status.counters.sendCalls).toBe(0);
    expect(ends[1].host.openRelayed(new Uint8Array(100).fill(4))).toBe(false);
    for (const end of ends) await end.close();
  },
  60_000,
);
