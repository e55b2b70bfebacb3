import fc from "fast-check";
import { Ip } from "../../../../agent/src/base/address.ts";
import { viewOf } from "../../../../agent/src/base/bytes.ts";
import { buildPacket, transportChecksum } from "../../../../agent/src/core/ip/build.ts";
import { clampMss } from "../../../../agent/src/core/ip/mss.ts";
import { parsePacket, payloadOf, protocol } from "../../../../agent/src/core/ip/packet.ts";

const families = [
  { name: "IPv4", from: Ip.parse("100.64.0.1"), to: Ip.parse("192.0.2.1"), headers: 40 },
  { name: "IPv6", from: Ip.parse("fd7a:115c:a1e0::1"), to: Ip.parse("2001:db8::1"), headers: 60 },
] as const;
type Family = (typeof families)[number];

function segment({ from, to }: Family, flags: number, options: readonly number[]): Uint8Array {
  const message = new Uint8Array(20 + Math.ceil(options.length / 4) * 4);
  const view = viewOf(message);
  view.setUint16(0, 1000);
  view.setUint16(2, 443);
  message[12] = (message.length / 4) << 4;
  message[13] = flags;
  message.set(options, 20);
  view.setUint16(16, transportChecksum(from, to, protocol.tcp, message));
  return buildPacket(from, to, protocol.tcp, message);
}

/** The options, once the checksum was found right. */
function optionsOf({ from, to }: Family, packet: Uint8Array): readonly number[] {
  const parsed = parsePacket(packet);
  if (typeof parsed === "string") throw new Error(parsed);
  const message = payloadOf(parsed);
  expect(transportChecksum(from, to, protocol.tcp, message)).toBe(0);
  return [...message.subarray(20)];
}

const [SYN, SYN_ACK, ACK] = [0x02, 0x12, 0x10];

describe.each(families)("over $name", (family) => {
  test.each([SYN, SYN_ACK])(
    "a connection's beginning (flags %i) offers what fits, with the right checksum",
    (flags) => {
      const packet = segment(family, flags, [2, 4, 0x05, 0xb4, 1, 3, 3, 7]);
      expect(clampMss(packet, 1280)).toBe(true);
      const most = 1280 - family.headers;
      expect(optionsOf(family, packet)).toEqual([2, 4, most >> 8, most & 0xff, 1, 3, 3, 7]);
    },
  );

  test("what offers less, no more than fits, or nothing, stays as it is", () => {
    const most = 1280 - family.headers;
    for (const options of [[2, 4, 0x02, 0x18], [2, 4, most >> 8, most & 0xff], [3, 3, 7, 0], []]) {
      const packet = segment(family, SYN, options);
      expect([clampMss(packet, 1280), optionsOf(family, packet)]).toEqual([false, options]);
    }
  });

  test("only a beginning is looked at", () => {
    const options = [2, 4, 0x05, 0xb4];
    expect(clampMss(segment(family, ACK, options), 1280)).toBe(false);
  });

  test("the option may lie at an odd place", () => {
    const packet = segment(family, SYN, [1, 2, 4, 0xff, 0xff, 1, 1, 1]);
    expect(clampMss(packet, 1420)).toBe(true);
    const most = 1420 - family.headers;
    expect(optionsOf(family, packet)).toEqual([1, 2, 4, most >> 8, most & 0xff, 1, 1, 1]);
  });
});

test("options without end, without length and beyond the packet change nothing", () => {
  const [family] = families;
  for (const options of [
    [2, 0, 9, 9],
    [2, 1, 9, 9],
    [1, 1, 2, 4],
    [5, 200, 2, 4],
    [0, 2, 4, 255],
    [2, 3, 255, 2],
  ])
    expect(clampMss(segment(family, SYN, options), 1280)).toBe(false);
});

test("any bytes are taken", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      for (const first of [0x45, 0x4f, 0x60]) clampMss(Uint8Array.of(first, ...bytes), 1280);
    }),
  );
});

test("a fragment of a connection's beginning is left alone", () => {
  const packet = segment(families[0], SYN, [2, 4, 0x05, 0xb4]);
  packet[6] = 0x20;
  expect(clampMss(packet, 1280)).toBe(false);
});
