import { Ip } from "../../agent/src/base/address.ts";
import { drawTopology } from "../../lab/drawing.ts";
import { expectPath } from "../../lab/expectation.ts";
import { openCloud } from "../../lab/open-cloud.ts";
import { exitNodeOf, planTopology, type Topology } from "../../lab/topology.ts";
import { DEFAULT_WORLD } from "../../lab/world.ts";
import { exitNodeTopology, synthesize } from "./stack.ts";

const open = exitNodeTopology();
const closed = exitNodeTopology({ openTunnelPort: false });

test("every end of a link is in a namespace of the plan, under a name that Linux takes and that is used once", () => {
  const names = new Set(open.namespaces.map(({ name }) => name));
  const ends = open.links.flatMap((link) => link.ends);
  for (const { namespace, device } of ends) {
    expect(names).toContain(namespace);
    expect(device.length).toBeLessThanOrEqual(15);
  }
  expect(new Set(ends.map(({ namespace, device }) => `${namespace}/${device}`)).size).toBe(ends.length);
});

test("only the relay's link is slow", () => {
  const slow = open.links.filter(({ delayMs }) => delayMs > 0);
  expect(slow).toEqual([
    {
      ends: [expect.objectContaining({ namespace: "internet" }), { namespace: "nyc", device: "eth0" }],
      delayMs: 10,
    },
  ]);
});

test("the internet knows public addresses and no private ones", () => {
  const routes = namespace(open, "internet").commands.filter((line) => line.startsWith("route add"));
  expect(routes.filter((line) => / (10|172\.(1[6-9]|2\d|3[01])|192\.168)\./.test(line))).toEqual([]);
  expect(routes).toContain("route add 198.18.10.10 via 198.18.1.10 dev to-igw onlink");
});

test("the gateway translates one to one and lets the stack's port in", () => {
  const { rules } = namespace(open, "igw");
  expect(rules).toContain("add element inet lab eip_in { 198.18.10.10 : 10.80.0.10 }");
  expect(rules).toContain("add element inet lab eip_out { 10.80.0.10 : 198.18.10.10 }");
  expect(rules).toMatch(/to-eni\w+ meta nfproto ipv4 udp dport 41641 return/);
  expect(rules).toMatch(/check-eni\w+ ip saddr 10\.80\.0\.10 return/);
  expect(namespace(closed, "igw").rules).not.toContain("dport 41641");
});

test("hosts don't forward, routers do", () => {
  const forwarders = open.namespaces.filter(({ forwards }) => forwards).map(({ name }) => name);
  expect(forwarders.toSorted()).toEqual(["hotel-nat", "igw", "internet", "laptop-nat", "office-nat"]);
});

test("which connections can be direct follows from the networks", () => {
  expect(paths(open)).toEqual({ laptop: "direct", office: "direct", hotel: "relay" });
  expect(paths(closed)).toMatchObject({ office: "relay", hotel: "relay" });
});

test("without a public address, or with two instances, there is no story to tell", () => {
  const json = synthesize() as { resource: Record<string, Record<string, Record<string, unknown>>> };
  const [one = {}] = Object.values(json.resource["aws_instance"] ?? {});
  one["associate_public_ip_address"] = false;
  expect(() => exitNodeOf(cast(json))).toThrow(/exit-node has no public address/);
  json.resource["aws_instance"] = { one, two: one };
  expect(() => exitNodeOf(cast(json))).toThrow(/one instance, not 2/);
});

test("the drawing shows every part and whether the port is open", () => {
  const text = drawTopology(open, 41641, Ip.parse("198.18.10.12")).join("\n");
  for (const { namespace: name } of open.cast.clients) expect(text).toContain(name);
  expect(text).toContain("[udp/41641 open]");
  expect(text).toContain("[NAT gateway 198.18.10.12]");
  expect(drawTopology(closed, 41641, undefined).join("\n")).toContain("[udp/41641 closed]");
});

test.each(["laptop", "Control"])("a second thing called %s is refused", (hostname) => {
  expect(() => exitNodeTopology({ hostname })).toThrow(/two things of the lab are called/);
});

const cast = (json: unknown): Topology["cast"] =>
  planTopology(openCloud([{ name: "stack", json }]), DEFAULT_WORLD).cast;

function paths({ cast }: Topology): Record<string, string> {
  return Object.fromEntries(
    cast.clients.map((client) => [client.namespace, expectPath(exitNodeOf(cast), 41641, client).path]),
  );
}

function namespace(topology: Topology, name: string): Topology["namespaces"][number] {
  const found = topology.namespaces.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no namespace ${name}`);
  return found;
}
