import fc from "fast-check";
import { Prefix } from "../../../../agent/src/base/address.ts";
import { AllowedIps, packetLength } from "../../../../agent/src/core/wireguard/allowed-ips.ts";
import { hex } from "../../../vectors/load.ts";
import { ipv4Packet } from "./pair.ts";

const prefixes = (...texts: readonly string[]): readonly Prefix[] => texts.map((text) => Prefix.parse(text));
const from = (source: string): Uint8Array => ipv4Packet(source, "100.64.0.9", 40);
const v6 = hex(
  "60000000" + "0004" + "3b40" + "20010db8000000000000000000000001" + "00".repeat(16) + "00".repeat(4),
);

test("a peer sends from its own addresses, of both families, and no others", () => {
  const allowed = new AllowedIps<string>();
  allowed.set("a", prefixes("100.64.0.1/32", "10.0.0.0/8", "2001:db8::/64"));
  expect(allowed.mayHaveSent("a", from("100.64.0.1"))).toBe(true);
  expect(allowed.mayHaveSent("a", from("10.200.1.1"))).toBe(true);
  expect(allowed.mayHaveSent("a", v6)).toBe(true);
  expect(allowed.mayHaveSent("a", from("100.64.0.2"))).toBe(false);
  expect(allowed.mayHaveSent("b", from("100.64.0.1"))).toBe(false);
});

test("an exit node sends from everywhere, but not as another peer", () => {
  const allowed = new AllowedIps<string>();
  allowed.set("exit", prefixes("100.64.0.1", "0.0.0.0/0", "::/0"));
  allowed.set("other", prefixes("100.64.0.2", "2001:db8::1"));
  expect(allowed.mayHaveSent("exit", from("198.51.100.1"))).toBe(true);
  expect(allowed.mayHaveSent("exit", from("100.64.0.2"))).toBe(false);
  expect(allowed.mayHaveSent("exit", v6)).toBe(false);
  expect(allowed.mayHaveSent("other", v6)).toBe(true);
  allowed.delete("other");
  expect(allowed.mayHaveSent("exit", from("100.64.0.2"))).toBe(true);
  expect(allowed.mayHaveSent("other", v6)).toBe(false);
});

test("two routers of one subnet share it, until one leaves", () => {
  const allowed = new AllowedIps<string>();
  allowed.set("a", prefixes("10.0.0.0/24"));
  allowed.set("b", prefixes("10.0.0.0/24"));
  expect(["a", "b"].map((peer) => allowed.mayHaveSent(peer, from("10.0.0.5")))).toEqual([true, true]);
  allowed.set("a", []);
  expect(["a", "b"].map((peer) => allowed.mayHaveSent(peer, from("10.0.0.5")))).toEqual([false, true]);
});

test.each([
  { name: "IPv4", bytes: ipv4Packet("10.0.0.1", "10.0.0.2", 36), want: 36 },
  {
    name: "IPv4 with padding",
    bytes: new Uint8Array([...ipv4Packet("10.0.0.1", "10.0.0.2", 36), ...new Uint8Array(12)]),
    want: 36,
  },
  { name: "IPv6", bytes: v6, want: 44 },
  {
    name: "IPv4 that says more than there is",
    bytes: ipv4Packet("10.0.0.1", "10.0.0.2", 36).subarray(0, 35),
    want: undefined,
  },
  { name: "IPv4 that says less than a header", bytes: hex("45000013" + "00".repeat(20)), want: undefined },
  { name: "IPv6 that says more than there is", bytes: v6.subarray(0, 43), want: undefined },
  { name: "a header cut short", bytes: hex("4500"), want: undefined },
  { name: "another version", bytes: new Uint8Array(64).fill(0x55), want: undefined },
  { name: "nothing", bytes: new Uint8Array(0), want: undefined },
])("the length of $name", ({ bytes, want }) => {
  expect(packetLength(bytes)).toBe(want);
});

test("any bytes have a length within them or none", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
      expect(packetLength(bytes) ?? 20).toBeGreaterThanOrEqual(20);
      expect(packetLength(bytes) ?? 0).toBeLessThanOrEqual(bytes.length);
    }),
  );
});
