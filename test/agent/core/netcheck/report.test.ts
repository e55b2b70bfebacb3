import { IpPort } from "../../../../agent/src/base/address.ts";
import { millis } from "../../../../agent/src/base/time.ts";
import { netInfoOf, type NetcheckReport, sameNetInfo } from "../../../../agent/src/core/netcheck/report.ts";
import { regionId } from "../../../../agent/src/core/path/path.ts";

const address = IpPort.parse("198.51.100.4:41641");
const report: NetcheckReport = {
  udp: true,
  ipv4: true,
  ipv6: false,
  mappingVariesByDestIp: undefined,
  preferredDerp: regionId(900),
  regionLatency: new Map([[regionId(900), millis(0.27408)]]),
  regionV4Latency: new Map([[regionId(900), millis(0.27408)]]),
  regionV6Latency: new Map(),
  globalV4: address,
  globalV6: undefined,
  globalV4Counters: [{ address, count: 1 }],
  globalV6Counters: [],
};

test("NetInfo has tailcfg's names, latencies in seconds, and nothing that is unknown", () => {
  const extras = { osHasIpv6: true, upnp: false, pmp: false, pcp: undefined };
  expect(JSON.parse(JSON.stringify(netInfoOf(report, extras)))).toEqual({
    WorkingIPv6: false,
    OSHasIPv6: true,
    WorkingUDP: true,
    UPnP: false,
    PMP: false,
    PreferredDERP: 900,
    DERPLatency: { "900-v4": 0.00027408 },
  });
});

test("NetInfo of a node without UDP and home has neither latencies nor a region", () => {
  const none = { regionV4Latency: new Map(), mappingVariesByDestIp: true, preferredDerp: undefined };
  expect(netInfoOf({ ...report, ...none, udp: false }, { osHasIpv6: undefined })).toEqual({
    MappingVariesByDestIP: true,
    WorkingIPv6: false,
    WorkingUDP: false,
  });
});

test("the server is told again of all changes but those of latency", () => {
  const info = netInfoOf(report, { osHasIpv6: true });
  const slower = { ...report, regionV4Latency: new Map([[regionId(900), millis(50)]]) };
  expect(sameNetInfo(info, netInfoOf(slower, { osHasIpv6: true }))).toBe(true);
  for (const change of [{ udp: false }, { preferredDerp: regionId(901) }, { mappingVariesByDestIp: false }]) {
    expect(sameNetInfo(info, netInfoOf({ ...report, ...change }, { osHasIpv6: true }))).toBe(false);
  }
});
