import fc from "fast-check";
import { Ip, IpPort } from "../../../../agent/src/base/address.ts";
import { buildPacket, buildUdp, transportChecksum } from "../../../../agent/src/core/ip/build.ts";
import { checksum } from "../../../../agent/src/core/ip/checksum.ts";
import type { Packet } from "../../../../agent/src/core/ip/packet.ts";
import {
  describePacket,
  destinationIp,
  parsePacket,
  payloadOf,
  protocol,
  sourceIp,
} from "../../../../agent/src/core/ip/packet.ts";
import { hex, vectors } from "../../../vectors/load.ts";

interface FilterVectors {
  readonly sets: readonly { readonly cases: readonly { name: string; packet: string; parsed: string }[] }[];
}

const { sets } = vectors<FilterVectors>("filter.json");
const A = IpPort.parse("100.64.0.1:4000");
const B = IpPort.parse("100.64.0.2:53");
const A6 = IpPort.parse("[fd7a:115c:a1e0::1]:4000");
const B6 = IpPort.parse("[fd7a:115c:a1e0::2]:53");

test.each(sets.flatMap((set) => set.cases))("reads $name as $parsed", ({ packet, parsed }) => {
  expect(describePacket(parsePacket(hex(packet)))).toBe(parsed);
});

test.each([
  [A, B],
  [A6, B6],
])("a UDP packet from %s to %s is read back as built, with right checksums", (from, to) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (payload) => {
      const bytes = buildUdp(from, to, payload);
      const packet = parsed(bytes);
      expect(describePacket(packet)).toBe(`UDP{${from.text} > ${to.text}}`);
      expect(payloadOf(packet).slice(8)).toEqual(payload);
      expect(transportChecksum(from.ip, to.ip, protocol.udp, payloadOf(packet))).toBe(0);
      if (from.ip.isV4) expect(checksum(bytes.subarray(0, 20))).toBe(0);
    }),
  );
});

test("a UDP checksum that comes out as zero is sent as all ones", () => {
  const sum = (payload: Uint8Array): number => {
    const datagram = payloadOf(parsed(buildUdp(A, B, payload)));
    return ((datagram[6] ?? 0) << 8) | (datagram[7] ?? 0);
  };
  const plain = sum(Uint8Array.of(0, 0));
  expect(sum(Uint8Array.of(plain >> 8, plain & 255))).toBe(0xffff);
});

test("what follows the packet's own length is not part of it", () => {
  const bytes = buildUdp(A, B, Uint8Array.of(1, 2, 3));
  const padded = new Uint8Array(bytes.length + 9);
  padded.set(bytes);
  expect(parsed(padded).bytes).toEqual(bytes);
});

test.each([
  ["empty", ""],
  ["too-short", "4500001400000000"],
  ["not-ip", "50".padEnd(40, "0")],
  ["bad-length", `4400001400000000${"0".repeat(24)}`],
  ["bad-length", `4500001500000000${"0".repeat(24)}`],
  ["bad-length", `4500001300000000${"0".repeat(24)}`],
  ["bad-length", `6000000000013b40${"0".repeat(64)}`],
  ["too-short", `6000000000003b40${"0".repeat(62)}`],
  ["short-transport", `4500001b000000004011${"0".repeat(34)}`],
])("says %s of %s", (why, bytes) => {
  expect(parsePacket(hex(bytes))).toBe(why);
});

test("IPv6 extension headers are walked to the transport", () => {
  const udp = payloadOf(parsed(buildUdp(A6, B6, Uint8Array.of(9))));
  const options = Uint8Array.of(protocol.udp, 0, 1, 4, 0, 0, 0, 0);
  const bytes = buildPacket(A6.ip, B6.ip, 60, Uint8Array.from([...options, ...udp]));
  expect(describePacket(parsePacket(bytes))).toBe(`UDP{${A6.text} > ${B6.text}}`);
});

test.each([
  [0, true, "first", 53],
  [0, false, "whole", 53],
  [5, true, "suspicious", 0],
  [200, false, "later", 0],
] as const)("an IPv6 fragment at block %d (more: %s) is %s", (offset, more, fragment, port) => {
  const udp = payloadOf(parsed(buildUdp(A6, B6, Uint8Array.of(9))));
  const field = (offset << 3) | (more ? 1 : 0);
  const header = Uint8Array.of(protocol.udp, 0, field >> 8, field & 255, 0, 0, 0, 1);
  const packet = parsed(buildPacket(A6.ip, B6.ip, 44, Uint8Array.from([...header, ...udp])));
  expect([packet.fragment, packet.destinationPort]).toEqual([fragment, port]);
});

test("more IPv6 extension headers than anyone needs are not walked", () => {
  const options = Array.from({ length: 8 }, () => [60, 0, 1, 4, 0, 0, 0, 0]).flat();
  const packet = parsed(buildPacket(A6.ip, B6.ip, 60, Uint8Array.from(options)));
  expect(packet.protocol).toBe(60);
});

test("any bytes are a packet or malformed, and never throw", () => {
  const bytes = fc.uint8Array({ maxLength: 120 }).map((tail) => {
    tail[0] = ((tail[0] ?? 0) & 1) === 0 ? 0x45 : 0x60;
    return tail;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 120 }), bytes), (any) => {
      const packet = parsePacket(any);
      if (typeof packet === "string") return;
      expect(packet.payloadAt).toBeLessThanOrEqual(packet.bytes.length);
      expect(sourceIp(packet)).toBeInstanceOf(Ip);
      expect(destinationIp(packet)).toBeInstanceOf(Ip);
    }),
  );
});

test("no packet joins an IPv4 and an IPv6 address", () => {
  expect(() => buildUdp(A, B6, new Uint8Array())).toThrow("no packet goes from");
});

function parsed(bytes: Uint8Array): Packet {
  const packet = parsePacket(bytes);
  if (typeof packet === "string") throw new Error(packet);
  return packet;
}
