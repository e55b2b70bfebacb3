import { Ip, IpPort } from "../../../agent/src/base/address.ts";
import { EndpointType, ownEndpoints, sameEndpoints } from "../../../agent/src/engine/endpoints.ts";

const seen = IpPort.parse("203.0.113.5:20001");
const seenV6 = IpPort.parse("[2001:db8::5]:41641");
const plain = {
  stun: [seen, seenV6],
  mappingVaries: false,
  portIsFixed: true,
  localPort: 41_641,
  interfaces: [Ip.parse("192.168.1.2"), Ip.parse("2001:db8::5")],
  explicit: [IpPort.parse("198.51.100.9:41641")],
};
const shown = (sources: Parameters<typeof ownEndpoints>[0]): string[] =>
  ownEndpoints(sources).map(({ address, type }) => `${type} ${address.text}`);

test("what STUN saw comes first, then what the operator told, then the interfaces; each address once", () => {
  expect(shown(plain)).toEqual([
    "2 203.0.113.5:20001",
    "2 [2001:db8::5]:41641",
    "5 198.51.100.9:41641",
    "1 192.168.1.2:41641",
  ]);
});

test("behind a hard NAT the fixed port is offered too, since a router may forward it", () => {
  expect(shown({ ...plain, mappingVaries: true })).toContain(
    `${EndpointType.stunLocalPort} 203.0.113.5:41641`,
  );
  expect(shown({ ...plain, mappingVaries: true, portIsFixed: false })).not.toContain("4 203.0.113.5:41641");
  expect(shown({ ...plain, mappingVaries: undefined })).not.toContain("4 203.0.113.5:41641");
});

test("the order of endpoints makes no difference", () => {
  const endpoints = ownEndpoints(plain);
  expect(sameEndpoints(endpoints, endpoints.toReversed())).toBe(true);
  expect(sameEndpoints(endpoints, endpoints.slice(1))).toBe(false);
});
