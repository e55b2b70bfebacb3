import { NodePublic } from "../../../agent/src/base/keys.ts";
import { Traffic } from "../../../agent/src/engine/traffic.ts";

const PEER = NodePublic.fromBytes(new Uint8Array(32).fill(7));
const nothing = { sentPackets: 0, sentBytes: 0, receivedPackets: 0, receivedBytes: 0 };
const flags = { sentData: true, receivedData: true, sentLast: true };

test("what a data plane sealed and the engine sent by a relay is counted once, before or after it is reported", () => {
  const traffic = new Traffic();
  traffic.noteSealed(PEER, 2, 200);
  traffic.noteSent("relay", 2, 200);
  traffic.noteRelayed(PEER, 50);
  traffic.notePassed(PEER, { ...nothing, ...flags, sentPackets: 5, sentBytes: 500 });
  traffic.notePassed(PEER, { ...nothing, ...flags, receivedPackets: 1, receivedBytes: 50 });
  traffic.notePassed(PEER, {
    ...nothing,
    ...flags,
    sentPackets: 1,
    sentBytes: 100,
    receivedPackets: 1,
    receivedBytes: 60,
  });
  expect(traffic.sent).toEqual({ direct: { packets: 4, bytes: 400 }, relay: { packets: 2, bytes: 200 } });
  expect(traffic.received).toEqual({ direct: { packets: 1, bytes: 60 }, relay: { packets: 1, bytes: 50 } });
});
