import fc from "fast-check";
import { Ip } from "../../../../agent/src/base/address.ts";
import type { Echo } from "../../../../agent/src/core/ip/icmp.ts";
import { buildEcho, parseEcho } from "../../../../agent/src/core/ip/icmp.ts";
import { parsePacket } from "../../../../agent/src/core/ip/packet.ts";
import { toHex } from "../../../../agent/src/base/bytes.ts";

const pairs = [
  [Ip.parse("100.64.0.1"), Ip.parse("100.64.0.2")],
  [Ip.parse("fd7a:115c:a1e0::1"), Ip.parse("fd7a:115c:a1e0::2")],
] as const;

test.each(pairs)("an echo from %s to %s is read back as built", (source, destination) => {
  const echoes = fc.record({
    kind: fc.constantFrom("request" as const, "reply" as const),
    identifier: fc.integer({ min: 0, max: 0xffff }),
    sequence: fc.integer({ min: 0, max: 0xffff }),
    data: fc.uint8Array({ maxLength: 64 }),
  });
  fc.assert(
    fc.property(echoes, (echo) => {
      expect(read(buildEcho(source, destination, echo))).toEqual(echo);
    }),
  );
});

test("an echo request over IPv4 has the bytes of RFC 792", () => {
  const echo: Echo = { kind: "request", identifier: 1, sequence: 2, data: Uint8Array.of(0x61) };
  expect(toHex(buildEcho(pairs[0][0], pairs[0][1], echo).subarray(20))).toBe("080096fc0001000261");
});

test.each(pairs)("a damaged echo from %s to %s is told by its checksum", (source, destination) => {
  const bytes = buildEcho(source, destination, {
    kind: "reply",
    identifier: 7,
    sequence: 1,
    data: new Uint8Array(8),
  });
  bytes[bytes.length - 1] = 1;
  expect(read(bytes)).toBe("bad-checksum");
});

test("other ICMP messages and other packets are no echo", () => {
  const bytes = buildEcho(pairs[0][0], pairs[0][1], {
    kind: "reply",
    identifier: 7,
    sequence: 1,
    data: new Uint8Array(),
  });
  const unreachable = bytes.slice();
  unreachable[20] = 3;
  const tcp = bytes.slice();
  tcp[9] = 6;
  const fragment = bytes.slice();
  fragment[6] = 0x20;
  expect([unreachable, fragment].map(read)).toEqual(["not-an-echo", "not-an-echo"]);
  expect(read(tcp)).toBe("short-transport");
});

function read(bytes: Uint8Array): unknown {
  const packet = parsePacket(bytes);
  return typeof packet === "string" ? packet : parseEcho(packet);
}
