/**
 * Hostile bytes through both directions: from the device with any virtio header, and from a peer that seals whatever it
 * likes. Nothing may be written outside of its area, and the data plane must go on as before.
 *
 * SALLYPORT_FUZZ_PACKETS says how many; a short run is part of every test run.
 */
import { concat } from "../../../agent/src/base/bytes.ts";
import { instant } from "../../../agent/src/base/time.ts";
import { Keypair } from "../../../agent/src/core/wireguard/keypair.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { seededRandom } from "../../sim/random.ts";
import { canOpenPlanes, closePlanes, KEYS, MTU, openEnds } from "./planes.ts";
import { type Flow, makePacket, pattern, virtio } from "./support.ts";

const PACKETS = Number(process.env["SALLYPORT_FUZZ_PACKETS"] ?? 8_000);
const SEED = Number(process.env["SALLYPORT_FUZZ_SEED"] ?? 1);

const random = seededRandom(SEED);
const four = new Uint8Array(4);

function draw(below: number): number {
  random.fill(four);
  return new DataView(four.buffer).getUint32(0) % below;
}

const NOISE = pattern(30_000);

function payload(length: number): Uint8Array {
  const at = draw(256);
  return NOISE.subarray(at, at + length);
}

function pick<T>(...choices: readonly [T, ...T[]]): T {
  return choices[draw(choices.length)] ?? choices[0];
}

function anyFlow(): Flow {
  return {
    version: pick(4, 6),
    isTcp: draw(2) === 0,
    port: draw(5),
    sequence: draw(2 ** 32),
    flags: pick(0x10, 0x18, 0x02, 0x11, 0xff, 0),
    options: pick(0, 4, 12, 40),
    id: draw(65_536),
    dontFragment: draw(2) === 0,
    trafficClass: draw(256),
  };
}

/** A packet that is right, or nearly so. */
function anyPacket(longest: number): { readonly flow: Flow; readonly bytes: Uint8Array } {
  const flow = anyFlow();
  const bytes = makePacket(flow, payload(draw(longest)));
  for (let i = draw(4); i > 0; i--) bytes[draw(Math.min(bytes.length, 80))] = draw(256);
  return { flow, bytes: draw(8) === 0 ? bytes.subarray(0, draw(bytes.length + 1)) : bytes };
}

function anyRead(): Uint8Array {
  const { flow, bytes } = anyPacket(pick(100, 1200, 20_000));
  const header = virtio(draw(3) === 0 ? undefined : flow, pick(0, 1, 8, 500, 1200, 65_535));
  if (draw(3) === 0) header[draw(10)] = draw(256);
  return concat(header, bytes);
}

canOpenPlanes(
  `${PACKETS} hostile packets change nothing but counters`,
  () => {
    const ends = openEnds({});
    const { layout, memory } = ends.plane.parts;
    const bytes = new Uint8Array(memory);
    const peer = new Keypair({
      suite: nodeSuite,
      keys: { send: KEYS.b, receive: KEYS.a },
      isInitiator: false,
      localIndex: 20,
      remoteIndex: 10,
      createdAt: instant(0),
      replayWindow: 64,
    });
    const keys = bytes.slice(layout.sessions + 64, layout.sessions + 128);
    const address = bytes.slice(layout.peers, layout.peers + 256);
    let allowed = 0;
    for (let count = 0; count < PACKETS; count += 2) {
      ends.toDevice(anyRead());
      const message = peer.seal(anyPacket(pick(50, 1200)).bytes, MTU);
      if (draw(6) === 0) message[draw(message.length)] = draw(256);
      ends.toPlane(draw(10) === 0 ? message.subarray(0, draw(message.length + 1)) : message);
      if (draw(4) !== 0) continue;
      ends.turn();
      ends.datagrams();
      allowed += ends.fromDevice().length;
      ends.handedPackets();
      ends.handedDatagrams();
    }
    ends.turn();
    expect(bytes.slice(layout.sessions + 64, layout.sessions + 128)).toEqual(keys);
    expect(bytes.slice(layout.peers, layout.peers + 256)).toEqual(address);
    expect(allowed).toBeGreaterThan(0);
    ends.fromDevice();
    ends.datagrams();
    ends.toDevice(concat(virtio(undefined, 0), makePacket({ ...anyFlow(), version: 4 }, pattern(100))));
    ends.turn();
    expect(ends.datagrams()).toHaveLength(1);
    ends.close();
    closePlanes();
  },
  Math.max(20_000, PACKETS),
);
