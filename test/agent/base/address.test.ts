import { isIP, isIPv4 } from "node:net";
import fc from "fast-check";
import { Ip, IpPort, Prefix } from "../../../agent/src/base/address.ts";
import { hex } from "../../vectors/load.ts";

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const anyIp = fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => Ip.parse(text));

test.each([
  ["203.0.113.7", "203.0.113.7"],
  ["0.0.0.0", "0.0.0.0"],
  ["::", "::"],
  ["::1", "::1"],
  ["2001:DB8::1", "2001:db8::1"],
  ["2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["fe80::1.2.3.4", "fe80::102:304"],
  ["::ffff:203.0.113.7", "203.0.113.7"],
  ["::ffff:cb00:7107", "203.0.113.7"],
])("the address %s is written %s", (text, want) => {
  expect(Ip.parse(text).text).toBe(want);
});

test.each([
  "",
  " 1.2.3.4",
  "1.2.3",
  "1.2.3.4.5",
  "1.2.3.256",
  "01.2.3.4",
  "1.2.3.4/32",
  "::%eth0",
  "fe80::1%eth0",
  ":::",
  "1::2::3",
  "1:2:3:4:5:6:7",
  "1:2:3:4:5:6:7:8:9",
  "1:2:3:4:5:6:7:8::",
  ":1:2:3:4:5:6:7",
  "12345::",
  "g::",
  "::1.2.3",
  "1.2.3.4::",
  "[::1]",
])("'%s' is no address", (text) => {
  expect(Ip.tryParse(text)).toBeUndefined();
  expect(() => Ip.parse(text)).toThrow("not an IP address");
});

test.each([
  { text: "127.9.9.9", kinds: ["loopback"] },
  { text: "::1", kinds: ["loopback"] },
  { text: "169.254.1.1", kinds: ["link-local"] },
  { text: "169.253.1.1", kinds: [] },
  { text: "fe80::1", kinds: ["link-local"] },
  { text: "febf::1", kinds: ["link-local"] },
  { text: "fec0::1", kinds: [] },
  { text: "10.0.0.1", kinds: ["private"] },
  { text: "172.15.255.255", kinds: [] },
  { text: "172.16.0.1", kinds: ["private"] },
  { text: "172.31.255.255", kinds: ["private"] },
  { text: "172.32.0.0", kinds: [] },
  { text: "192.168.255.1", kinds: ["private"] },
  { text: "192.169.0.1", kinds: [] },
  { text: "fd7a:115c:a1e0::1", kinds: ["private"] },
  { text: "fc00::1", kinds: ["private"] },
  { text: "fe00::1", kinds: [] },
  { text: "100.64.0.1", kinds: [] },
  { text: "224.0.0.1", kinds: ["multicast"] },
  { text: "239.255.255.250", kinds: ["multicast"] },
  { text: "240.0.0.1", kinds: [] },
  { text: "ff02::1", kinds: ["multicast"] },
  { text: "0.0.0.0", kinds: ["unspecified"] },
  { text: "::", kinds: ["unspecified"] },
])("$text is $kinds", ({ text, kinds }) => {
  const ip = Ip.parse(text);
  const found = [
    ip.isLoopback ? "loopback" : "",
    ip.isLinkLocal ? "link-local" : "",
    ip.isPrivate ? "private" : "",
    ip.isMulticast ? "multicast" : "",
    ip.isUnspecified ? "unspecified" : "",
  ];
  expect(found.filter((kind) => kind !== "")).toEqual(kinds);
});

test("addresses of other lengths than 4 and 16 bytes are refused", () => {
  for (const length of [0, 3, 5, 15, 17]) {
    expect(() => Ip.fromBytes(new Uint8Array(length))).toThrow("4 or 16 bytes");
  }
});

test("every address survives its text and its mapped form, and the text is canonical", () => {
  fc.assert(
    fc.property(fc.oneof(bytes(4), bytes(16)), (raw) => {
      const ip = Ip.fromBytes(raw);
      expect(ip.bytes).toEqual(raw);
      expect(Ip.parse(ip.text).bytes).toEqual(raw);
      expect(ip.mapped).toHaveLength(16);
      expect(Ip.fromBytes(ip.mapped).text).toBe(ip.text);
      if (!ip.isV4) expect(ip.text).toBe(new URL(`http://[${ip.text}]/`).hostname.slice(1, -1));
    }),
  );
});

test("what is taken for an address is what Node takes for one, but for zones", () => {
  const nearly = fc
    .array(fc.constantFrom(":", "::", ".", "0", "00", "1", "255", "256", "ff", "abcd", "12345"), {
      maxLength: 12,
    })
    .map((parts) => parts.join(""));
  fc.assert(
    fc.property(fc.oneof(fc.string(), nearly, fc.ipV4(), fc.ipV6()), (text) => {
      const isAddress = isIP(text) !== 0 && !text.includes("%");
      expect(Ip.tryParse(text) !== undefined).toBe(isAddress);
      if (isIPv4(text)) expect(Ip.parse(text).text).toBe(text);
    }),
    { numRuns: 1000 },
  );
});

test.each([
  ["203.0.113.7:41641", "203.0.113.7:41641"],
  ["1.2.3.4:0", "1.2.3.4:0"],
  ["[2001:DB8::1]:65535", "[2001:db8::1]:65535"],
  ["[::ffff:1.2.3.4]:1", "1.2.3.4:1"],
])("the address with a port %s is written %s", (text, want) => {
  expect(IpPort.parse(text).text).toBe(want);
  expect(JSON.stringify(IpPort.parse(text))).toBe(`"${want}"`);
});

test.each([
  "",
  "1.2.3.4",
  "1.2.3.4:",
  "1.2.3.4:65536",
  "1.2.3.4:-1",
  "1.2.3.4:1e3",
  "::1:80",
  "[1.2.3.4]:80",
  "[::1]",
  "[::1]80",
  "[::1%lo]:80",
  "host:80",
  "1.2.3.4:000080",
])("'%s' is no address with a port", (text) => {
  expect(IpPort.tryParse(text)).toBeUndefined();
  expect(() => IpPort.parse(text)).toThrow("not an IP address with a port");
});

test("every address with a port survives its text, and no text throws from tryParse", () => {
  fc.assert(
    fc.property(anyIp, fc.nat({ max: 0xffff }), fc.string(), (ip, port, text) => {
      const address = new IpPort(ip, port);
      expect(IpPort.parse(address.text)).toEqual(address);
      IpPort.tryParse(text);
    }),
  );
});

test.each([
  ["10.0.0.0/8", "10.0.0.0/8"],
  ["10.1.2.3/8", "10.0.0.0/8"],
  ["203.0.113.7", "203.0.113.7/32"],
  ["2001:db8::1", "2001:db8::1/128"],
  ["fd7a:115c:a1e0:ab12::/48", "fd7a:115c:a1e0::/48"],
  ["0.0.0.0/0", "0.0.0.0/0"],
  ["::/0", "::/0"],
  ["255.255.255.255/31", "255.255.255.254/31"],
])("the prefix %s is written %s", (text, want) => {
  expect(Prefix.parse(text).text).toBe(want);
});

test.each([
  "",
  "/8",
  "10.0.0.0/",
  "10.0.0.0/33",
  "10.0.0.0/-1",
  "10.0.0.0/8/8",
  "::/129",
  "10.0.0.0/ 8",
  "10/8",
])("'%s' is no prefix", (text) => {
  expect(() => Prefix.parse(text)).toThrow(expect.objectContaining({ name: "ParseError" }));
});

test.each([
  { prefix: "10.0.0.0/8", ip: "10.255.0.1", inside: true },
  { prefix: "10.0.0.0/8", ip: "11.0.0.0", inside: false },
  { prefix: "203.0.113.6/31", ip: "203.0.113.7", inside: true },
  { prefix: "203.0.113.6/31", ip: "203.0.113.8", inside: false },
  { prefix: "0.0.0.0/0", ip: "203.0.113.8", inside: true },
  { prefix: "0.0.0.0/0", ip: "::1", inside: false },
  { prefix: "::/0", ip: "10.0.0.1", inside: false },
  { prefix: "2001:db8::/33", ip: "2001:db8:7fff::1", inside: true },
  { prefix: "2001:db8::/33", ip: "2001:db8:8000::1", inside: false },
])("$prefix contains $ip: $inside", ({ prefix, ip, inside }) => {
  expect(Prefix.parse(prefix).contains(Ip.parse(ip))).toBe(inside);
});

test("a prefix holds just the addresses that share its first bits, as a bigint computes them", () => {
  const numberOf = (ip: Ip) => BigInt(`0x${Buffer.from(ip.bytes).toString("hex")}`);
  fc.assert(
    fc.property(
      fc.constantFrom(4, 16),
      fc.nat({ max: 128 }),
      bytes(16),
      bytes(16),
      fc.nat({ max: 128 }),
      (length, bits, a, b, same) => {
        const total = 8 * length;
        const prefixBits = bits % (total + 1);
        const ip = Ip.fromBytes(a.subarray(0, length));
        // Like `a` up to a random bit, so that both answers occur.
        const near = a.map((byte, i) => (8 * (i + 1) <= same ? byte : (b[i] ?? 0)));
        const other = Ip.fromBytes(near.subarray(0, length));
        const prefix = Prefix.of(ip, prefixBits);
        const shift = BigInt(total - prefixBits);
        expect(prefix.contains(other)).toBe(numberOf(ip) >> shift === numberOf(other) >> shift);
        expect(numberOf(prefix.ip)).toBe((numberOf(ip) >> shift) << shift);
        expect(Prefix.parse(prefix.text)).toEqual(prefix);
      },
    ),
  );
});

test("a host prefix holds its one address; a default one is of no bits", () => {
  const host = Prefix.host(Ip.parse("203.0.113.7"));
  expect([host.isHost, host.isDefault, host.text]).toEqual([true, false, "203.0.113.7/32"]);
  expect([Prefix.parse("::/0").isHost, Prefix.parse("::/0").isDefault]).toEqual([false, true]);
  expect(Prefix.parse("2001:db8::1").isHost).toBe(true);
});

test("an address keeps its own copy of the bytes", () => {
  const raw = hex("cb007107");
  const ip = Ip.fromBytes(raw);
  raw.fill(0);
  expect([...ip.bytes]).toEqual([203, 0, 113, 7]);
});
