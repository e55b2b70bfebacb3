/** Data, and what is the engine's, come by one socket: neither can starve the other. */
import { concat } from "../../../agent/src/base/bytes.ts";
import { instant } from "../../../agent/src/base/time.ts";
import { Keypair } from "../../../agent/src/core/wireguard/keypair.ts";
import { Counter } from "../../../agent/src/dataplane/messages.ts";
import { nodeSuite } from "../../../agent/src/io/node-suite.ts";
import { canOpenPlanes } from "./can-open-planes.ts";
import { closePlanes, type Ends, KEYS, MTU, openEnds } from "./planes.ts";
import { type Flow, makePacket, pattern } from "./support.ts";

const testFlood = canOpenPlanes;
afterEach(closePlanes);

const FLOW: Flow = {
  ...{ version: 4, isTcp: true, port: 1, sequence: 1, flags: 16, options: 0 },
  ...{ id: 1, dontFragment: true, trafficClass: 0 },
};
/** More than the ring for datagrams holds. */
const FLOOD = 5_000;
const DISCO = concat(Uint8Array.from(Buffer.from("TS💬")), pattern(100));
/** A handshake's initiation, by its first byte and length. */
const HANDSHAKE = concat(Uint8Array.of(1, 0, 0, 0), pattern(144));
const STUN = concat(Uint8Array.of(0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42), pattern(12));

function sealer(): Keypair {
  return new Keypair({
    suite: nodeSuite,
    keys: { send: KEYS.b, receive: KEYS.a },
    ...{ isInitiator: false, localIndex: 20, remoteIndex: 10, createdAt: instant(0), replayWindow: 64 },
  });
}

function sendData(ends: Ends, peer: Keypair, count: number): void {
  for (let i = 0; i < count; i++) ends.toPlane(peer.seal(makePacket(FLOW, pattern(200, i)), MTU));
}

testFlood.each([
  ["handshakes", HANDSHAKE],
  ["disco messages", DISCO],
  ["STUN messages", STUN],
])("a flood of %s that nobody reads takes no data away", (_, message) => {
  const ends = openEnds({});
  const peer = sealer();
  let delivered = 0;
  for (let i = 0; i < FLOOD; i += 50) {
    for (let j = 0; j < 50; j++) ends.toPlane(message);
    sendData(ends, peer, 2);
    ends.turn();
    delivered += ends.fromDevice().length;
  }
  const kept = ends.handedDatagrams().length;
  expect(delivered).toBe((FLOOD / 50) * 2);
  // The ring is bounded: a record has 16 bytes of its own and 32 of the sender's address.
  const size = (16 + 32 + message.length + 15) & ~15;
  expect(kept).toBeLessThanOrEqual(2 ** 20 / size);
  expect(ends.counter(Counter.ringDropped)).toBe(FLOOD - kept);
  ends.toPlane(message);
  ends.turn();
  expect(ends.handedDatagrams()).toHaveLength(1);
  ends.close();
});

testFlood("in a flood of data, its own and forged, a disco message reaches the engine", () => {
  const ends = openEnds({});
  const peer = sealer();
  for (let round = 0; round < 20; round++) {
    sendData(ends, peer, 200);
    for (let i = 0; i < 100; i++)
      ends.toPlane(concat(Uint8Array.of(4, 0, 0, 0, 10, 0, 0, 0), pattern(100, i)));
    ends.toPlane(DISCO);
    for (let i = 0; i < 4; i++) ends.turn();
    ends.fromDevice();
    expect(ends.handedDatagrams().some((bytes) => bytes.length === DISCO.length)).toBe(true);
  }
  expect(ends.counter(Counter.receivedPackets)).toBe(4_000);
  ends.close();
});

testFlood("packets from the device are sent while the network floods", () => {
  const ends = openEnds({ offload: false });
  for (let round = 0; round < 20; round++) {
    for (let i = 0; i < 300; i++) ends.toPlane(HANDSHAKE);
    ends.toDevice(makePacket(FLOW, pattern(200, round)));
    ends.plane.turn(1000, 0);
    expect(ends.datagrams()).toHaveLength(1);
  }
  ends.close();
});
