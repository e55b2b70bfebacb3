import { parseDerpMap } from "../../../agent/src/core/path/derp-map.ts";
import { regionId } from "../../../agent/src/core/path/path.ts";
import { resolveStunServers } from "../../../agent/src/io/stun-addresses.ts";

test.each([
  [
    "its addresses, whatever it is called",
    { IPv4: "192.0.2.1", IPv6: "2001:db8::1" },
    ["192.0.2.1:3478", "[2001:db8::1]:3478"],
  ],
  ["only IPv6 where IPv4 is none", { IPv4: "none", IPv6: "2001:db8::1" }, ["[2001:db8::1]:3478"]],
  ["its name where no IPv4 is given", { HostName: "192.0.2.9" }, ["192.0.2.9:3478"]],
  ["its own port", { IPv4: "192.0.2.1", STUNPort: 4000 }, ["192.0.2.1:4000"]],
  ["nothing where it does not serve STUN", { IPv4: "192.0.2.1", STUNPort: -1 }, []],
  ["nothing where its name has no address", { HostName: "none.invalid" }, []],
])("a node is asked at %s", async (_, fields, want) => {
  const node = { Name: "900a", RegionID: 900, HostName: "derp.invalid", ...fields };
  const map = parseDerpMap({ Regions: { 900: { RegionID: 900, RegionCode: "lab", Nodes: [node] } } });
  const servers = await resolveStunServers(map);
  expect(servers.get(regionId(900))?.map(({ text }) => text)).toEqual(want);
});
