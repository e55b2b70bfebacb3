import { parseMonitorLine } from "../../../../agent/src/io/kernel-watch/monitors.ts";

test.each<[string, object]>([
  ["Deleted 5270:\tfrom all lookup 52", { kind: "rule-gone", priority: 5270 }],
  ["Deleted 5265:\tnot from all iif lo lookup main", { kind: "rule-gone", priority: 5265 }],
  ["5270:\tfrom all lookup 52", { kind: "other" }],
  ["Deleted 198.18.79.0/24 dev tun0 table 52 scope link", { kind: "route-gone", table: 52 }],
  ["Deleted unreachable default table 53 metric 4278190080", { kind: "route-gone", table: 53 }],
  ["Deleted 10.0.0.0/24 dev eth0 proto kernel scope link", { kind: "other" }],
  [
    "Deleted 7: tun0    inet 100.64.0.1/32 scope global tun0\\       valid_lft forever preferred_lft forever",
    { kind: "address-gone", ip: { text: "100.64.0.1" } },
  ],
  [
    "Deleted 7: tun0    inet6 fd7a::1/128 scope global \\       valid_lft forever preferred_lft forever",
    { kind: "address-gone", ip: { text: "fd7a::1" } },
  ],
  [
    "7: tun0: <POINTOPOINT,MULTICAST,NOARP> mtu 1280 qdisc fq state DOWN",
    { kind: "device-down", device: "tun0" },
  ],
  ["7: tun0: <POINTOPOINT,MULTICAST,NOARP,UP,LOWER_UP> mtu 1280 qdisc fq", { kind: "other" }],
  ["8: veth0@if9: <BROADCAST,MULTICAST> mtu 1500", { kind: "device-down", device: "veth0" }],
  ["Deleted 7: tun0: <POINTOPOINT,MULTICAST,NOARP> mtu 1280", { kind: "other" }],
  ["delete table inet sallyport-client", { kind: "table-gone", name: "sallyport-client" }],
  ["delete table ip nat", { kind: "other" }],
])("%s", (line, change) => {
  expect(parseMonitorLine(line)).toMatchObject(change);
});
