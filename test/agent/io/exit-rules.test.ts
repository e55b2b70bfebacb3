import { Ip, Prefix } from "../../../agent/src/base/address.ts";
import { serversThroughTunnel } from "../../../agent/src/io/exit-dns.ts";
import { exitSettings, guardText } from "../../../agent/src/io/exit-rules.ts";
import { localNetworks, privateNetworks } from "../../../agent/src/io/local-networks.ts";

const numbers = { device: "sp0", table: 52, priority: 5210, mark: 0x80000, markMask: 0xff0000 };
const exit = {
  allowed: [Prefix.parse("192.168.1.0/24")],
  local: [Prefix.parse("192.168.1.0/24"), Prefix.parse("2001:db8:1::/64")],
  dns: [Ip.parse("9.9.9.9"), Ip.parse("2620:fe::fe"), Ip.parse("1.1.1.1")],
};

test("only private networks may be let past the tunnel, whatever a network calls its own", () => {
  const interfaces = {
    lo: [{ cidr: "127.0.0.1/8", internal: true }],
    sp0: [{ cidr: "100.64.0.1/32", internal: false }],
    eth0: [
      { cidr: "192.168.1.7/24", internal: false },
      { cidr: "fe80::1/64", internal: false },
      { cidr: "2001:db8:1::7/64", internal: false },
    ],
    wlan0: [
      { cidr: "8.8.8.1/24", internal: false },
      { cidr: "10.0.0.1/1", internal: false },
      { cidr: null, internal: false },
    ],
  };
  const networks = localNetworks("sp0", interfaces);
  const texts = networks.map(({ text }) => text);
  expect(texts).toEqual(["0.0.0.0/1", "192.168.1.0/24", "2001:db8:1::/64", "8.8.8.0/24", "fe80::/64"]);
  expect(privateNetworks(networks).map(({ text }) => text)).toEqual(["192.168.1.0/24", "fe80::/64"]);
});

test("DNS servers of local networks are replaced by the first of each family, those behind the tunnel are not", () => {
  const text = guardText(numbers, exit, [Prefix.parse("10.9.0.0/16"), Prefix.parse("0.0.0.0/0")]);
  const names = text.slice(text.indexOf("chain names"), text.indexOf("chain outward"));
  const [tunnel, first] = [names.indexOf("ip daddr 10.9.0.0/16 accept"), names.indexOf("dnat")];
  expect(tunnel).toBeGreaterThan(0);
  expect(tunnel).toBeLessThan(first);
  expect(names).toContain("ip daddr 192.168.1.0/24 udp dport 53 dnat ip to 9.9.9.9");
  expect(names).toContain("ip6 daddr 2001:db8:1::/64 tcp dport 53 dnat ip6 to 2620:fe::fe");
  expect(names).not.toContain("1.1.1.1");
  expect(names).not.toContain("0.0.0.0/0");
});

test("without networks that are allowed nothing is thrown back to the main table", () => {
  const texts = exitSettings(numbers, { ...exit, allowed: [] }).map(({ text }) => text);
  expect(texts.filter((text) => text.startsWith("throw"))).toEqual([]);
  expect(guardText(numbers, { ...exit, allowed: [] }, [])).not.toContain("192.168.1.0/24 accept");
});

test.each([
  [["192.168.1.1"], ["9.9.9.9"]],
  [["8.8.8.8", "192.168.1.1"], ["8.8.8.8"]],
  [["2001:db8:1::1"], ["9.9.9.9"]],
  [[], ["9.9.9.9"]],
])("of the servers %j programs ask %j through the tunnel", (servers, want) => {
  const system = { servers: servers.map(Ip.parse), resolved: true };
  const found = serversThroughTunnel(system, exit.local, [Ip.parse("9.9.9.9")]);
  expect(found.map(({ text }) => text)).toEqual(want);
});
