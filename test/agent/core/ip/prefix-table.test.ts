import fc from "fast-check";
import { Ip, Prefix } from "../../../../agent/src/base/address.ts";
import { PrefixTable } from "../../../../agent/src/core/ip/prefix-table.ts";

test("the longest prefix that holds an address gives its value", () => {
  const table = new PrefixTable<string>();
  for (const text of ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd7a::/16"]) {
    table.set(Prefix.parse(text), text);
  }
  const found = ["10.1.2.3", "10.1.2.4", "10.2.0.0", "8.8.8.8", "fd7a::1", "2001:db8::1"].map((text) =>
    table.lookup(Ip.parse(text)),
  );
  expect(found).toEqual(["10.1.2.3/32", "10.1.0.0/16", "10.0.0.0/8", "0.0.0.0/0", "fd7a::/16", undefined]);
});

test("an address inside a packet is found at its offset", () => {
  const table = new PrefixTable<number>();
  table.set(Prefix.parse("100.64.0.2"), 2);
  expect(table.lookupBytes(Uint8Array.of(1, 2, 100, 64, 0, 2, 9), 2, 4)).toBe(2);
});

test("IPv4 and IPv6 are apart", () => {
  const table = new PrefixTable<string>();
  table.set(Prefix.parse("::/0"), "six");
  expect(table.lookup(Ip.parse("10.0.0.1"))).toBeUndefined();
});

/** Few addresses and lengths, so that prefixes nest, fork and repeat. */
const octet = fc.constantFrom(0, 1, 2, 64, 127, 128, 192, 255);
const ips = fc.oneof(
  fc.tuple(octet, octet, octet, octet).map((bytes) => Ip.fromBytes(Uint8Array.from(bytes))),
  fc.tuple(octet, octet, octet).map(([a, b, c]) => {
    const bytes = new Uint8Array(16);
    bytes.set([0xfd, a, b]);
    bytes[15] = c;
    return Ip.fromBytes(bytes);
  }),
);
const prefixes = fc
  .tuple(ips, fc.nat(128))
  .map(([ip, bits]) => Prefix.of(ip, Math.min(bits, ip.bytes.length * 8)));
const steps = fc.array(fc.record({ remove: fc.boolean(), prefix: prefixes }), { maxLength: 60 });

test("it agrees with a plain list, whatever is set and deleted", () => {
  fc.assert(
    fc.property(steps, fc.array(ips, { minLength: 10, maxLength: 20 }), (changes, asked) => {
      const table = new PrefixTable<number>();
      const list = new Map<string, { prefix: Prefix; value: number }>();
      for (const [value, { remove, prefix }] of changes.entries()) {
        if (remove) {
          table.delete(prefix);
          list.delete(prefix.text);
        } else {
          table.set(prefix, value);
          list.set(prefix.text, { prefix, value });
        }
      }
      for (const ip of [...asked, ...changes.map(({ prefix }) => prefix.ip)]) {
        const holding = [...list.values()].filter(({ prefix }) => prefix.contains(ip));
        const best = holding.toSorted((a, b) => b.prefix.bits - a.prefix.bits)[0];
        expect(table.lookup(ip)).toBe(best?.value);
      }
      for (const { prefix } of changes) expect(table.get(prefix)).toBe(list.get(prefix.text)?.value);
    }),
  );
});
