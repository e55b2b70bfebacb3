import { Ip } from "../../../agent/src/base/address.ts";
import { millis } from "../../../agent/src/base/time.ts";
import {
  type Interfaces,
  localAddresses,
  watchLocalAddresses,
} from "../../../agent/src/io/local-addresses.ts";

const up = (...addresses: string[]) => addresses.map((address) => ({ address, internal: false }));
const lo = [
  { address: "127.0.0.1", internal: true },
  { address: "::1", internal: true },
];

test.each<{ name: string; interfaces: Interfaces; options?: object; want: string[] }>([
  {
    name: "addresses of networks, sorted, each once",
    interfaces: { lo, eth1: up("2001:db8::7"), eth0: up("192.0.2.2", "10.0.0.4"), eth2: up("10.0.0.4") },
    want: ["10.0.0.4", "192.0.2.2", "2001:db8::7"],
  },
  {
    name: "no link-local ones",
    interfaces: { eth0: up("10.0.0.4", "fe80::1", "169.254.3.4") },
    want: ["10.0.0.4"],
  },
  {
    name: "IPv4 link-local where nothing else is",
    interfaces: { eth0: up("fe80::1", "169.254.3.4") },
    want: ["169.254.3.4"],
  },
  {
    name: "none of tunnels",
    interfaces: {
      tun0: up("10.8.0.1"),
      wg1: up("10.9.0.1"),
      tailscale0: up("10.7.0.1"),
      sallyport0: up("10.6.0.1"),
      utun4: up("10.5.0.1"),
    },
    want: [],
  },
  {
    name: "none of a mesh",
    interfaces: { x0: up("100.64.0.1", "100.127.255.255", "fd7a:115c:a1e0::1") },
    want: [],
  },
  {
    name: "not our own device's",
    interfaces: { spt0: up("198.18.0.1") },
    options: { exclude: ["spt0"] },
    want: [],
  },
  {
    name: "loopback only when asked",
    interfaces: { lo },
    options: { loopback: true },
    want: ["127.0.0.1", "::1"],
  },
])("local addresses: $name", ({ interfaces, options, want }) => {
  expect(localAddresses(options, interfaces).map((ip) => ip.text)).toEqual(want);
});

test("this machine's own addresses can be read", () => {
  expect(localAddresses({ loopback: true }).length).toBeGreaterThan(0);
});

test("a watcher tells of changes only, until it is closed", () => {
  jest.useFakeTimers();
  try {
    let addresses = [Ip.parse("10.0.0.4")];
    const changed = jest.fn();
    const watcher = watchLocalAddresses(changed, { intervalMs: millis(100) }, () => addresses);

    jest.advanceTimersByTime(1000);
    expect(changed).not.toHaveBeenCalled();
    addresses = [Ip.parse("10.0.0.5")];
    jest.advanceTimersByTime(1000);
    expect(changed.mock.calls).toEqual([[addresses]]);
    watcher.close();
    addresses = [];
    jest.advanceTimersByTime(1000);
    expect(changed).toHaveBeenCalledTimes(1);
  } finally {
    jest.useRealTimers();
  }
});
