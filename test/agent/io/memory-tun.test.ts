import { Ip, IpPort } from "../../../agent/src/base/address.ts";
import { buildUdp } from "../../../agent/src/core/ip/build.ts";
import { buildEcho, parseEcho } from "../../../agent/src/core/ip/icmp.ts";
import { destinationIp, parsePacket, sourceIp } from "../../../agent/src/core/ip/packet.ts";
import { createMemoryDevice } from "../../../agent/src/io/memory-tun.ts";

const echo = { kind: "request", identifier: 7, sequence: 3, data: Uint8Array.of(1, 2, 3) } as const;
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test.each([
  { family: "IPv4", self: Ip.parse("100.64.0.1"), peer: Ip.parse("100.64.0.2") },
  { family: "IPv6", self: Ip.parse("fd7a::1"), peer: Ip.parse("fd7a::2") },
])(
  "an $family ping to the device's address is answered, after the writer is done",
  async ({ self, peer }) => {
    const device = createMemoryDevice({ addresses: [self] });
    const sent: Uint8Array[] = [];
    const seen = jest.fn();
    device.onPackets((packets) => sent.push(...packets));
    device.onWritten(seen);

    device.write(buildEcho(peer, self, echo));
    expect(sent).toEqual([]);
    await settled();

    const packet = parsePacket(sent[0] ?? new Uint8Array());
    if (typeof packet === "string") throw new Error(packet);
    expect(parseEcho(packet)).toEqual({ ...echo, kind: "reply" });
    expect([sourceIp(packet).text, destinationIp(packet).text]).toEqual([self.text, peer.text]);
    expect(seen).not.toHaveBeenCalled();
  },
);

test("everything else is only seen: other addresses, replies, UDP, no packet at all", async () => {
  const [self, peer] = [Ip.parse("100.64.0.1"), Ip.parse("100.64.0.2")];
  const device = createMemoryDevice();
  device.setAddresses([self]);
  const [answered, seen] = [jest.fn(), jest.fn()];
  device.onPackets(answered);
  device.onWritten(seen);
  const packets = [
    buildEcho(peer, Ip.parse("100.64.0.9"), echo),
    buildEcho(peer, self, { ...echo, kind: "reply" }),
    buildUdp(new IpPort(peer, 1), new IpPort(self, 2), Uint8Array.of(9)),
    Uint8Array.of(0x45, 1),
    new Uint8Array(),
  ];

  for (const packet of packets) device.write(packet);
  await settled();

  expect(seen.mock.calls.flat()).toEqual(packets);
  expect(answered).not.toHaveBeenCalled();
});

test("what the host injects goes into the tunnel until the device is closed", async () => {
  const device = createMemoryDevice({ name: "m0" });
  const received = jest.fn();
  device.onPackets(received);
  device.inject(Uint8Array.of(1));
  await device.close();
  device.inject(Uint8Array.of(2));
  device.write(Uint8Array.of(3));
  expect(received.mock.calls).toEqual([[[Uint8Array.of(1)]]]);
  expect([device.name, device.kind]).toEqual(["m0", "memory"]);
});
