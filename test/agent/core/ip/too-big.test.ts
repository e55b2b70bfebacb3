import fc from "fast-check";
import { Ip, IpPort } from "../../../../agent/src/base/address.ts";
import { concat, toHex, viewOf } from "../../../../agent/src/base/bytes.ts";
import { buildPacket, buildUdp, transportChecksum } from "../../../../agent/src/core/ip/build.ts";
import { checksum } from "../../../../agent/src/core/ip/checksum.ts";
import { buildEcho } from "../../../../agent/src/core/ip/icmp.ts";
import { type Packet, parsePacket, payloadOf, protocol } from "../../../../agent/src/core/ip/packet.ts";
import { answerTooBig, fragmentPacket } from "../../../../agent/src/core/ip/too-big.ts";

const v4 = { from: Ip.parse("100.64.0.1"), to: Ip.parse("192.0.2.1") };
const v6 = { from: Ip.parse("fd7a:115c:a1e0::1"), to: Ip.parse("2001:db8::1") };

function parsed(bytes: Uint8Array): Packet {
  const packet = parsePacket(bytes);
  if (typeof packet === "string") throw new Error(packet);
  return packet;
}

function udp({ from, to }: { from: Ip; to: Ip }, length: number): Packet {
  return parsed(buildUdp(new IpPort(from, 1000), new IpPort(to, 2000), new Uint8Array(length)));
}

test("IPv4 hears which size fits, with the beginning of what did not, as from where it was going", () => {
  const packet = udp(v4, 2000);
  const answer = parsed(answerTooBig(packet, 1408) ?? new Uint8Array(0));
  const message = payloadOf(answer);
  expect(answer.protocol).toBe(protocol.icmp);
  expect([...answer.bytes.subarray(12, 20)]).toEqual([...v4.to.bytes, ...v4.from.bytes]);
  expect([message[0], message[1], viewOf(message).getUint16(6)]).toEqual([3, 4, 1408]);
  expect(checksum(message)).toBe(0);
  expect(answer.bytes).toHaveLength(576);
  expect(message.subarray(8)).toEqual(packet.bytes.subarray(0, 576 - 28));
});

test("IPv6 hears which size fits", () => {
  const packet = udp(v6, 2000);
  const answer = parsed(answerTooBig(packet, 1280) ?? new Uint8Array(0));
  const message = payloadOf(answer);
  expect([message[0], message[1], viewOf(message).getUint32(4)]).toEqual([2, 0, 1280]);
  expect(transportChecksum(v6.to, v6.from, protocol.icmpV6, message)).toBe(0);
  expect(answer.bytes).toHaveLength(1280);
});

const error4 = buildPacket(v4.from, v4.to, protocol.icmp, Uint8Array.of(3, 4, ...new Uint8Array(30)));
const error6 = buildPacket(v6.from, v6.to, protocol.icmpV6, Uint8Array.of(1, 0, ...new Uint8Array(30)));

test.each([
  ["an error over IPv4", error4],
  ["an error over IPv6", error6],
  ["a later fragment", changed(udp(v4, 100).bytes, 7, 20)],
  ["a packet for a group", udp({ ...v4, to: Ip.parse("224.0.0.1") }, 100).bytes],
  ["a packet for everyone", udp({ ...v4, to: Ip.parse("255.255.255.255") }, 100).bytes],
  ["a packet from nobody", udp({ ...v6, from: Ip.parse("::") }, 100).bytes],
])("%s is not answered", (_, bytes) => {
  expect(answerTooBig(parsed(bytes), 1280)).toBeUndefined();
});

test("an echo request is answered", () => {
  const echo = { kind: "request", identifier: 1, sequence: 1, data: new Uint8Array(2000) } as const;
  for (const { from, to } of [v4, v6])
    expect(answerTooBig(parsed(buildEcho(from, to, echo)), 1280)).toBeDefined();
});

function changed(bytes: Uint8Array, at: number, value: number): Uint8Array {
  const out = bytes.slice();
  out[at] = value;
  return out;
}

test("fragments fit, have right checksums, and put together are the packet", () => {
  fc.assert(
    fc.property(
      fc.nat({ max: 9000 }),
      fc.integer({ min: 68, max: 1500 }),
      fc.boolean(),
      (length, mtu, isMiddle) => {
        const bytes = udp(v4, length).bytes.slice();
        // A fragment itself: 800 bytes into its packet, with more to come.
        if (isMiddle) viewOf(bytes).setUint16(6, 0x2000 | 100);
        const fragments = fragmentPacket(parsed(bytes), mtu) ?? [];
        const offset = isMiddle ? 100 : 0;
        let next = offset;
        for (const [i, fragment] of fragments.entries()) {
          const field = viewOf(fragment).getUint16(6);
          expect(fragment.length).toBeLessThanOrEqual(mtu);
          expect([viewOf(fragment).getUint16(2), checksum(fragment.subarray(0, 20))]).toEqual([
            fragment.length,
            0,
          ]);
          expect(field & 0x1fff).toBe(next);
          expect((field & 0x2000) !== 0).toBe(isMiddle || i < fragments.length - 1);
          next += (fragment.length - 20) / 8;
        }
        expect(toHex(concat(...fragments.map((fragment) => fragment.subarray(20))))).toBe(
          toHex(bytes.subarray(20)),
        );
      },
    ),
  );
});

test("options for the first fragment only stay there", () => {
  const header = Uint8Array.of(0x47, ...new Uint8Array(19), 7, 3, 4, 0x94, 4, 0, 0, 0);
  const bytes = concat(header, new Uint8Array(200));
  viewOf(bytes).setUint16(2, bytes.length);
  const options = (fragmentPacket(parsed(bytes), 128) ?? []).map((piece) => toHex(piece.subarray(20, 28)));
  expect(options).toEqual(
    ["0703049404000000", "0101019404000000", "0101019404000000"].slice(0, options.length),
  );
  expect(options.length).toBeGreaterThan(1);
});

test("IPv6 and what says so is not cut", () => {
  expect(fragmentPacket(udp(v6, 2000), 1280)).toBeUndefined();
  expect(fragmentPacket(parsed(changed(udp(v4, 2000).bytes, 6, 0x40)), 1280)).toBeUndefined();
});
