import fc from "fast-check";
import { concat, utf8 } from "../../../../agent/src/base/bytes.ts";
import {
  decodeChanges,
  NETLINK_NETFILTER,
  NETLINK_ROUTE,
} from "../../../../agent/src/io/kernel-watch/netlink.ts";

const u16 = (value: number): Uint8Array => Uint8Array.of(value & 255, value >> 8);
const u32 = (value: number): Uint8Array => concat(u16(value & 0xffff), u16(value >>> 16));
const filled = (bytes: Uint8Array): Uint8Array => concat(bytes, new Uint8Array((4 - (bytes.length % 4)) % 4));
const attribute = (type: number, value: Uint8Array): Uint8Array =>
  filled(concat(u16(4 + value.length), u16(type), value));
const message = (type: number, header: Uint8Array, ...attributes: readonly Uint8Array[]): Uint8Array => {
  const body = concat(header, ...attributes);
  return concat(u32(16 + body.length), u16(type), new Uint8Array(10), body);
};
const zeros = (length: number): Uint8Array => new Uint8Array(length);

const ruleGone = message(33, zeros(12), attribute(14, u32(1)), attribute(6, u32(5270)));
const routeGone = message(25, zeros(12), attribute(15, u32(100_052)));
const addressGone = message(21, zeros(8), attribute(1, Uint8Array.of(100, 64, 0, 1)));
const link = (flags: number): Uint8Array =>
  message(16, concat(zeros(8), u32(flags), zeros(4)), attribute(3, utf8("tun0\0")));
const tableGone = (family: number): Uint8Array =>
  message((10 << 8) | 2, Uint8Array.of(family, 0, 0, 0), attribute(1, utf8("sallyport-client\0")));

test.each<[string, Uint8Array, object]>([
  ["a rule that is gone", ruleGone, { kind: "rule-gone", priority: 5270 }],
  ["a route that is gone", routeGone, { kind: "route-gone", table: 100_052 }],
  ["an address that is gone", addressGone, { kind: "address-gone", ip: { text: "100.64.0.1" } }],
  ["a device that is down", link(0x1002), { kind: "device-down", device: "tun0" }],
  ["a device that is up", link(0x1003), { kind: "other" }],
  ["a new rule", message(32, zeros(12), attribute(6, u32(5270))), { kind: "other" }],
  ["a rule without a priority", message(33, zeros(12)), { kind: "other" }],
])("%s", (_, datagram, change) => {
  expect(decodeChanges(NETLINK_ROUTE, datagram)).toMatchObject([change]);
});

test("a table of nftables that is gone, if it is of the family inet", () => {
  const gone = { kind: "table-gone", name: "sallyport-client" };
  expect(decodeChanges(NETLINK_NETFILTER, tableGone(1))).toEqual([gone]);
  expect(decodeChanges(NETLINK_NETFILTER, tableGone(2))).toEqual([{ kind: "other" }]);
});

test("a datagram holds several messages", () => {
  const changes = decodeChanges(NETLINK_ROUTE, concat(ruleGone, link(1), routeGone));
  expect(changes.map(({ kind }) => kind)).toEqual(["rule-gone", "other", "route-gone"]);
});

test("any bytes don't throw", () => {
  const datagrams = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .tuple(fc.constantFrom(ruleGone, routeGone, addressGone, link(0), tableGone(1)), fc.nat(), fc.nat(255))
      .map(([bytes, at, value]) =>
        Uint8Array.from(bytes, (byte, i) => (i === at % bytes.length ? value : byte)),
      ),
  );
  fc.assert(
    fc.property(datagrams, (bytes) => {
      for (const protocol of [NETLINK_ROUTE, NETLINK_NETFILTER]) decodeChanges(protocol, bytes);
    }),
  );
});
