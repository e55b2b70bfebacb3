import fc from "fast-check";
import { derpMapToJson, emptyDerpMap, parseDerpMap } from "../../../../agent/src/core/path/derp-map.ts";
import { regionId } from "../../../../agent/src/core/path/path.ts";
import { vectors } from "../../../vectors/load.ts";

const { full, home_params_only_delta: delta } = vectors<{ full: object; home_params_only_delta: object }>(
  "derpmap.json",
);
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value));
const parsed = parseDerpMap(full);

test("the published map survives reading and writing", () => {
  expect(plain(derpMapToJson(parsed))).toEqual(plain(full));
});

test("what a node leaves out has its documented default", () => {
  expect(parsed.regions.get(regionId(900))?.nodes).toMatchObject([
    { name: "900a", stunPort: 3478, derpPort: 443, certName: undefined, stunOnly: false, canPort80: true },
    { name: "900b", stunPort: 3479, derpPort: 8443, ipv6: "none" },
    { name: "900s", stunOnly: true, ipv4: undefined },
  ]);
  expect(parsed.regions.get(regionId(901))).toMatchObject({
    code: "dev",
    noMeasureNoHome: true,
    nodes: [{ stunPort: -1, insecureForTests: true, stunTestIp: "127.0.0.1" }],
  });
});

test("a change of the scores leaves the regions", () => {
  const changed = parseDerpMap(delta, parsed);
  expect(changed.regions).toBe(parsed.regions);
  expect([...changed.regionScore]).toEqual([[900, 1.5]]);
  expect(changed.omitDefaultRegions).toBe(true);
});

test("new regions replace the old and leave the scores; a null region is ignored", () => {
  const changed = parseDerpMap(
    { Regions: { 7: { RegionID: 7, RegionCode: "nyc", RegionName: "New York", Nodes: [] }, 900: null } },
    parsed,
  );
  expect([...changed.regions.keys()]).toEqual([7]);
  expect(changed.regionScore).toBe(parsed.regionScore);
});

test.each([
  { name: "nothing", json: undefined },
  { name: "a text", json: "map" },
  { name: "a list", json: [] },
])("$name is no map and changes nothing", ({ json }) => {
  expect(parseDerpMap(json, parsed)).toBe(parsed);
  expect(parseDerpMap(json)).toBe(emptyDerpMap);
});

test.each([
  { name: "a region id that is no number", region: { RegionID: "9" } },
  { name: "a region id above 65535", region: { RegionID: 65_536 } },
  { name: "no region id", region: {} },
])("$name costs that region alone", ({ region }) => {
  const map = parseDerpMap({ Regions: { 1: region, 2: { RegionID: 2, Nodes: null } } });
  expect([...map.regions.keys()]).toEqual([2]);
});

test.each([
  { name: "no host name", node: { Name: "x" } },
  { name: "a port above 65535", node: { HostName: "x", DERPPort: 65_536 } },
  { name: "a port that is no number", node: { HostName: "x", STUNPort: "1" } },
  { name: "null", node: null },
])("a node with $name costs that node alone", ({ node }) => {
  const map = parseDerpMap({ Regions: { 2: { RegionID: 2, Nodes: [node, { HostName: "good" }] } } });
  expect(map.regions.get(regionId(2))?.nodes.map((n) => n.hostName)).toEqual(["good"]);
});

test("any JSON is read without an exception", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.jsonValue(), (region, score) => {
      parseDerpMap({ Regions: { 1: region }, HomeParams: { RegionScore: score } });
      parseDerpMap(region);
    }),
  );
});
